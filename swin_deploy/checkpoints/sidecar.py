"""``config.json`` and ``preprocessor_config.json`` beside a checkpoint -> what they say of it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swin_deploy.architecture import MOST
from swin_deploy.checkpoints.source import Facts, Listener
from swin_deploy.errors import ConfigError, InputError
from swin_deploy.files import refuse_impostors
from swin_deploy.plain_files import read_plain
from swin_deploy.preprocessing import Preprocessing, Size

# Of an image, a patch or a window. Python divides no integer that is too large for a float.
Side = Annotated[int, Field(gt=0, le=MOST)]


class Sidecar(BaseModel):
    """A JSON file of another library: keys that are not fields here are not ours to judge."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


T = TypeVar("T", bound=Sidecar)


class _Kind(Sidecar):
    model_type: str | None = None
    architecture: str | None = None


def read_sidecars(
    config: Path | None, processor: Path | None, listener: Listener
) -> tuple[Preprocessing | None, Facts]:
    """What the files beside a checkpoint say.

    Args:
        config: ``config.json`` of transformers or timm; None where there is none.
        processor: ``preprocessor_config.json`` of transformers; None where there is none.
        listener: Hears of a file that says nothing that is known here.

    Raises:
        InputError: A file is no JSON or has wrong types; the network is no Swin, or one with
            parts that are not built here; its preprocessing is not one that is done here.
    """
    from swin_deploy.checkpoints.sidecar_timm import read_timm
    from swin_deploy.checkpoints.sidecar_transformers import read_transformers

    kind = _Kind() if config is None else read_as(_Kind, config)
    if config is not None and kind.architecture is not None:
        return read_timm(config)
    if kind.model_type is not None and kind.model_type not in ("swin", "swinv2"):
        raise InputError(f"{config}: model_type is {kind.model_type!r}, not swin or swinv2")
    if config is not None and kind.model_type is None:
        listener.note(f"{config} says neither model_type nor architecture and is not used")
        config = None
    return read_transformers(config, processor)


def is_timm(config: Path) -> bool:
    """Whether a ``config.json`` is timm's.

    Raises:
        InputError: It is no JSON object.
    """
    return read_as(_Kind, config).architecture is not None


def read_as(kind: type[T], path: Path) -> T:
    """The JSON object in ``path``.

    Raises:
        InputError: It is something else, or a value has a wrong type; names the key.
    """
    refuse_impostors(path, "a JSON file")
    try:
        return kind.model_validate_json(read_plain(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        # What a value may be instead stands in there too, ``constrained-int`` for example.
        parts = itertools.takewhile(str.isidentifier, map(str, first["loc"]))
        key = ".".join(parts)
        given = f"{key} = {first['input']!r}"[:200] if key else "the file"
        raise InputError(f"{path}: {given}: {first['msg'].lower()}") from error


def make_preprocessing(origin: str, values: dict[str, Any]) -> Preprocessing:
    """A ``Preprocessing`` of values that a file gave.

    Raises:
        InputError: They make none.
    """
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
    """The side of what has to be a square.

    Raises:
        InputError: It is none.
    """
    height, width = as_size(value)
    if height != width:
        raise InputError(f"{origin}: {key} is {height}x{width}, and only squares are supported")
    return height
