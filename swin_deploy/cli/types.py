"""What options accept, beyond click's own types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

from swin_deploy.network.interface import BatchRange, Size


class ImageType(click.ParamType[Size]):
    """SIDE or HEIGHTxWIDTH, in pixels."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Size:
        if isinstance(value, tuple):
            return cast(Size, value)
        parts = value.lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is neither a size like 224 nor one like 224x448", param, ctx)
        return int(parts[0]), int(parts[-1])


class PathType(click.Path):
    """A file or folder; click takes an empty name, which ``Path`` reads as the present folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty name is no file and no folder", param, ctx)
        return super().convert(value, param, ctx)


class FolderType(click.ParamType[Path]):
    """A folder that need not exist."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if value == "":
            self.fail("an empty name is no folder; the present one is '.'", param, ctx)
        return Path(value)


class FiniteType(click.FloatRange):
    """A number, which neither NaN nor infinity is; click takes both, and NaN within any range."""

    name = "float"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is no number that is finite", param, ctx)
        return found

    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()


class BatchType(click.ParamType[BatchRange]):
    """N for a static batch, LOW:HIGH for a dynamic one."""

    name = "batch"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> BatchRange:
        if isinstance(value, BatchRange):
            return value
        try:
            low, _, high = value.partition(":")
            return BatchRange(low=int(low), high=int(high or low))
        except ValueError:
            self.fail(f"{value!r} is neither a number like 8 nor a range like 1:16", param, ctx)


class ListType(click.ParamType[tuple[Any, ...]]):
    """Values separated by commas."""

    name = "list"

    def __init__(
        self, convert: Callable[[str], Any], example: str, names: Iterable[str] = ()
    ) -> None:
        self._convert = convert
        self._example = example
        self._names = tuple(names)  # what a shell offers

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(self._convert(part.strip()) for part in value.split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list like {self._example}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that may follow the last comma."""
        return complete_list(self._names, incomplete)


def complete_list(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """What a shell offers for a list that ends in the start of a name."""
    before, comma, start = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in names if name.startswith(start)]


class NumbersType(click.ParamType[tuple[float, ...]]):
    """Numbers separated by commas, each in its place."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(float(part) for part in value.split(","))
        except ValueError:
            found = (math.nan,)
        if not all(map(math.isfinite, found)):
            self.fail(f"{value!r:.80} is not a list of numbers like 0.5,0.5,0.5", param, ctx)
        return found


class NamesType(ListType):
    """Some of ``names``, separated by commas; or ``word`` alone, which becomes ``meaning``."""

    def __init__(self, names: Sequence[str], word: str = "", meaning: Any = None) -> None:
        super().__init__(lambda text: names[names.index(text)], ",".join(names), names)
        self._word = word
        self._meaning = meaning

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == self._word:
            return self._meaning
        return super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that may follow the last comma; the word only where there is none."""
        alone = [self._word] if self._word and "," not in incomplete else []
        return complete_list((*self._names, *alone), incomplete)


class BytesType(click.ParamType[int]):
    """A number of bytes, as 2GiB, 512MiB or 1073741824."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMG])iB)?", value.strip())
        size = float(match[1]) * _UNITS[match[2] or ""] if match else 0
        if not 0 < size < math.inf:
            self.fail(f"{value!r:.80} is no size like 2GiB or 512MiB", param, ctx)
        return int(size)


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def complete_from(
    names: Iterable[str],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell offers for an option that takes one of ``names``."""
    return lambda ctx, param, start: [name for name in names if name.startswith(start)]


PATH = PathType(path_type=Path)
FILE = PathType(path_type=Path, dir_okay=False)
FOLDER = PathType(path_type=Path, file_okay=False)
REAL_FILE = PathType(path_type=Path, dir_okay=False, exists=True)
