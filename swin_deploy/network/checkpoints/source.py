"""Where a checkpoint comes from, and JSON beside it that says what its tensors cannot."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import require_plain_file
from swin_deploy.core.own_files import read_plain
from swin_deploy.network.checkpoints.options import Hints, LoadOptions
from swin_deploy.network.interface import Preprocessing, Size, Task
from swin_deploy.network.swin import MOST, Activation

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
# What is no checkpoint of PyTorch, and what to give instead.
_OTHERS = {
    ".pkl": ("a pickle, as detectron2 writes its NumPy arrays", "its tensors, with torch.save"),
    ".onnx": ("a graph, which was exported already", "the checkpoint that it was made from"),
    ".plan": ("an engine", "the checkpoint that it was made from"),
    ".engine": ("an engine", "the checkpoint that it was made from"),
    ".npz": ("an archive of NumPy", "its arrays as tensors, with safetensors or torch.save"),
    ".h5": ("a file of Keras", "the weights of a PyTorch network"),
    ".zip": ("an archive", "unzip, and the file or folder in it"),
    ".gz": ("packed", "gunzip, and the file in it"),
}
INDEX = ".index.json"  # how the name of a list of shards ends
# Of a Hugging Face folder, the first that there is.
FOLDER_FILES = (
    *("model.safetensors", "pytorch_model.bin"),
    *(f"model.safetensors{INDEX}", f"pytorch_model.bin{INDEX}"),
)
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"  # beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that the tensors say too, or another file, so that they have to agree.

    Attributes:
        origin: The file, or the library's table, that says it.
        key: As the file calls it.
        field: The field of ``SwinConfig`` that it is about.
        value: What that field has to be.
    """

    origin: str
    key: str
    field: str
    value: object


def claims_of(origin: str, values: Mapping[tuple[str, str], object]) -> tuple[Claim, ...]:
    """(key, field) -> value as claims, where there is a value."""
    return tuple(
        Claim(origin=origin, key=key, field=field, value=value)
        for (key, field), value in values.items()
        if value is not None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a network beside its tensors; None or empty where nothing says it.

    Attributes:
        image_size: What it was trained for, (height, width) in pixels.
        window_size: Side of the windows, in tokens.
        stage_windows: (rows, columns) of those of each stage, where they are not all that.
        rules: As of ``Hints``.
        windows_as_trained: As of ``Hints``.
        pretrained_window_sizes: Of Swin V2, per stage, in tokens; the coordinates of its position
            network are scaled by them. Empty where it was trained at its own window size.
        activation: Of the MLPs.
        labels: Name of each class, by its index.
        task: What the outputs of its head mean.
        claims: Checked against the tensors once those are read.
    """

    image_size: Size | None = None
    window_size: int | None = None
    stage_windows: tuple[Size, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    windows_as_trained: bool = False
    pretrained_window_sizes: tuple[int, ...] = ()
    activation: Activation | None = None
    labels: tuple[str, ...] = ()
    task: Task | None = None
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A checkpoint that is on this machine now.

    Attributes:
        path: The file.
        provenance: For the manifest. ``source`` is file, bundled, hf, timm or torchvision; the
            others depend on it: repository, revision (a commit), name, file.
        preprocessing: How its authors evaluate it; None where nothing says it.
        facts: What else is said of it.
    """

    path: Path
    provenance: dict[str, str]
    preprocessing: Preprocessing | None = None
    facts: Facts = field(default_factory=Facts)


class DownloadListener(Protocol):
    """Hears of downloads."""

    @property
    def visible(self) -> bool:
        """Whether anybody looks: a terminal, not a pipe."""

    def file(self, name: str, total: int | None) -> Callable[[int], Any]:
        """A file of ``total`` bytes starts to come; returns what to call with bytes received."""

    def note(self, text: str) -> None:
        """Something that the user has to know."""


def with_hints(options: LoadOptions, source: Source) -> LoadOptions:
    """``options`` with what is said of the checkpoint where it lies."""
    facts = source.facts
    # Who says the window says the pre-training windows as well; without any they are the same.
    known = facts.window_size is not None or facts.stage_windows != ()
    return replace(
        options,
        hints=Hints(
            image_size=facts.image_size,
            window_size=facts.window_size,
            stage_windows=facts.stage_windows or None,
            rules=facts.rules or None,
            activation=facts.activation,
            windows_as_trained=facts.windows_as_trained or None,
            pretrained_window_sizes=facts.pretrained_window_sizes if known else None,
        ),
    )


def checkpoint_file(path: Path) -> Path:
    """The file itself, of a file or a folder, which may be a checkpoint as far as a look tells.

    Args:
        path: A file with one of ``SUFFIXES``, the index of several, or a folder with one of
            ``FOLDER_FILES``.
    """
    if path.is_dir():
        found = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not found:
            raise InputError(f"{path} holds none of {', '.join(FOLDER_FILES)}")
        path = found[0]
    require_plain_file(path, "a checkpoint")
    if path.suffix in _OTHERS:
        what, hint = _OTHERS[path.suffix]
        raise InputError(f"{path} is {what}, not a checkpoint", hint)
    if path.suffix not in SUFFIXES and not path.name.endswith(INDEX):
        raise InputError(f"{path} has the suffix {path.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    return path


# Of an image, a patch or a window. Python divides no integer that is too large for a float.
Side = Annotated[int, Field(gt=0, le=MOST)]


class Sidecar(BaseModel):
    """A JSON file of another library: keys that are not fields here are not ours to judge."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


T = TypeVar("T", bound=Sidecar)


def read_as(kind: type[T], path: Path, part: str | None = None) -> T:
    """The JSON object in ``path``, or the one in its entry ``part``."""
    require_plain_file(path, "a JSON file")
    content = read_plain(path)
    try:
        if part is not None:
            content = json.dumps(json.loads(content)[part]).encode()
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        # What a value may be instead stands in there too, ``constrained-int`` for example.
        parts = itertools.takewhile(str.isidentifier, map(str, first["loc"]))
        key = ".".join(parts)
        given = f"{key} = {first['input']!r}"[:200] if key else "the file"
        raise InputError(f"{path}: {given}: {first['msg'].lower()}") from error


def make_preprocessing(origin: str, values: dict[str, Any]) -> Preprocessing:
    """A ``Preprocessing`` of values that a file gave."""
    try:
        return Preprocessing(**values)
    except ConfigError as error:
        raise InputError(f"{origin}: {error.problem}") from error


def crop_fraction(crop: int, resized: int) -> float:
    """The fraction of which the resize to ``floor(crop / fraction)`` pixels is ``resized``."""
    fraction = crop / resized
    return fraction if math.floor(crop / fraction) == resized else math.nextafter(fraction, 0)


def as_size(value: int | tuple[int, int]) -> Size:
    """(height, width) of what may be the side of a square."""
    return (value, value) if isinstance(value, int) else value


def as_side(origin: str, key: str, value: int | tuple[int, int]) -> int:
    """The side of what has to be a square."""
    height, width = as_size(value)
    if height != width:
        raise InputError(f"{origin}: {key} is {height}x{width}, and only squares are supported")
    return height
