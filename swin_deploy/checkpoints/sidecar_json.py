"""JSON files of other libraries beside a checkpoint, and what their readers share."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swin_deploy.architecture import MOST
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
