"""What options accept, beyond click's own types, and options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from swin_deploy.batches import BatchRange
from swin_deploy.errors import ConfigError
from swin_deploy.pipeline.request import read_config
from swin_deploy.precisions import PRECISIONS, Precision
from swin_deploy.preprocessing import Size
from swin_deploy.variants import VARIANTS, Variant, find_variant

F = TypeVar("F", bound=Callable[..., Any])


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


class PrecisionsType(click.ParamType[Any]):
    """Some of ``PRECISIONS``, or "auto"."""

    name = "precisions"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The precisions that may follow the last comma."""
        return complete_list((*PRECISIONS, *([] if "," in incomplete else ["auto"])), incomplete)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        if value == "auto":
            return value
        return ListType(to_precision, ",".join(PRECISIONS)).convert(value, param, ctx)


def to_precision(text: str) -> Precision:
    """One precision by name.

    Raises:
        ValueError: There is none of that name.
    """
    if text not in PRECISIONS:
        raise ValueError(text)
    return text


def complete_from(
    names: Iterable[str],
) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """What a shell offers for an option that takes one of ``names``."""
    return lambda ctx, param, start: [name for name in names if name.startswith(start)]


def network_options(function: F) -> F:
    """Add ``--variant`` and ``--config``."""
    for option in (
        click.option(
            "--config",
            type=PathType(path_type=Path, dir_okay=False, exists=True),
            help="TOML file that describes a network of your own.",
        ),
        click.option(
            "--variant",
            metavar="NAME",
            shell_complete=complete_from(VARIANTS),
            help="See: swin-deploy variants.",
        ),
    ):
        function = option(function)
    return function


def resolve_network(
    variant: str | None, config: Path | None, image: Size | None = None
) -> Variant | None:
    """The network that the options name; None if they name none.

    Raises:
        ConfigError: They name two, or one that does not exist.
    """
    if variant is not None and config is not None:
        raise ConfigError("--variant and --config both name a network", "one of them")
    if config is not None:
        return read_config(config, image)
    return None if variant is None else find_variant(variant).with_image_size(image)


def load_options(function: F) -> F:
    """Add ``--window`` and ``--ema``."""
    for option in (
        click.option("--ema", is_flag=True, help="Take the moving average of the weights."),
        click.option(
            "--window",
            type=click.IntRange(min=1),
            metavar="N",
            help="Run with windows of N tokens; position biases are resized to that.",
        ),
    ):
        function = option(function)
    return function


def worker_options(function: F) -> F:
    """Add ``--threads``, ``--workers`` and ``--ray``."""
    for option in (
        click.option(
            "--ray", metavar="ADDRESS", help='Spread over a Ray cluster; "local" starts one here.'
        ),
        click.option(
            "--workers",
            type=int,
            metavar="N",
            help="Processes. Default: 1; on Ray, all it has room for.",
        ),
        click.option(
            "--threads", type=int, default=1, show_default=True, help="CPU threads of every worker."
        ),
    ):
        function = option(function)
    return function


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
