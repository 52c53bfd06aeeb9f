"""Options of what the compilers are told beside the graph."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from swin_deploy.engine.options import HARDWARE_COMPATIBLE, BuildOptions
from swin_deploy.engine.timing_cache import NONE, default_folder

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


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


_OPTIONS = (
    click.option(
        "--opt-level",
        type=click.IntRange(0, 5),
        help="How hard TensorRT searches for kernels, 0 to 5. Default: its own, 3.",
    ),
    click.option(
        "--workspace",
        type=BytesType(),
        metavar="SIZE",
        help="Device memory that a kernel of TensorRT may use, as 2GiB.",
    ),
    click.option(
        "--aux-streams",
        type=click.IntRange(min=0),
        metavar="N",
        help="Streams that TensorRT may use beside the main one.",
    ),
    click.option(
        "--version-compatible", is_flag=True, help="Plans that newer versions of TensorRT load."
    ),
    click.option(
        "--hardware-compatible",
        type=click.Choice([name.replace("_", "-") for name in HARDWARE_COMPATIBLE]),
        default="none",
        show_default=True,
        help="Plans that other GPUs load, too.",
    ),
    click.option(
        "--strip-weights", is_flag=True, help="Plans without weights, which a refit brings."
    ),
    click.option("--refittable", is_flag=True, help="Plans whose weights can be replaced."),
    click.option(
        "--timing-cache",
        metavar="DIR|none",
        help="Where TensorRT's timings lie. Default: swin-deploy/timing in the user's cache.",
    ),
)


def build_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add them; the command gets one ``BuildOptions`` named ``build``."""

    @functools.wraps(function)
    def wrapped(
        *args: Any,
        opt_level: int | None,
        workspace: int | None,
        aux_streams: int | None,
        version_compatible: bool,
        hardware_compatible: str,
        strip_weights: bool,
        refittable: bool,
        timing_cache: str | None,
        **others: Any,
    ) -> None:
        folder = default_folder() if timing_cache is None else Path(timing_cache)
        build = BuildOptions(
            optimisation_level=opt_level,
            workspace_bytes=workspace,
            aux_streams=aux_streams,
            version_compatible=version_compatible,
            hardware_compatible=hardware_compatible.replace("-", "_"),  # type: ignore[arg-type]
            strip_weights=strip_weights,
            refittable=refittable,
            timing_cache=None if timing_cache == NONE else folder,
        )
        function(*args, build=build, **others)

    decorated: Callable[..., None] = wrapped
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
