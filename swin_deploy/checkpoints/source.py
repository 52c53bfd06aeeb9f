"""Where a checkpoint comes from, and what is written beside it that its tensors cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from swin_deploy.checkpoints.options import Hints, LoadOptions
from swin_deploy.errors import InputError
from swin_deploy.files import refuse_impostors
from swin_deploy.interface import Head
from swin_deploy.preprocessing import Preprocessing, Size

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a network beside its tensors; None or empty where nothing says it.

    Attributes:
        image_size: What it was trained for, (height, width) in pixels.
        window_size: Side of the windows, in tokens.
        pretrained_window_sizes: Of Swin V2, per stage, in tokens; the coordinates of its position
            network are scaled by them. Empty where it was trained at its own window size.
        labels: Name of each class, by its index.
        head: What the outputs of its head mean; a choice where nothing says it.
        claims: Checked against the tensors once those are read.
    """

    image_size: Size | None = None
    window_size: int | None = None
    pretrained_window_sizes: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    head: Head | None = None
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


class Listener(Protocol):
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
    known = facts.window_size is not None
    return replace(
        options,
        hints=Hints(
            image_size=facts.image_size,
            window_size=facts.window_size,
            pretrained_window_sizes=facts.pretrained_window_sizes if known else None,
        ),
    )


def checkpoint_file(path: Path) -> Path:
    """The file itself, of a file or a folder, which may be a checkpoint as far as a look tells.

    Args:
        path: A file with one of ``SUFFIXES``, or a folder with one of ``FOLDER_FILES``.

    Raises:
        InputError: A folder without a checkpoint; or a file that is missing, empty, of another
            kind by its name, or recognisably something else.
    """
    if path.is_dir():
        found = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not found:
            raise InputError(f"{path} holds none of {', '.join(FOLDER_FILES)}")
        path = found[0]
    refuse_impostors(path, "a checkpoint")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} has the suffix {path.suffix!r}", f"one of {', '.join(SUFFIXES)}")
    return path
