"""Options that several commands have, and what of them every command does in the same way.

The name of an option's value is that of a field of the command's request, so that a command hands
its options on as they came. A name like ``int8_seed`` is the field ``seed`` of the record ``int8``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swin_deploy.cli.types import (
    FILE,
    PATH,
    REAL_FILE,
    BatchType,
    BytesType,
    FiniteType,
    ImageType,
    ListType,
    NumbersType,
    complete_from,
)
from swin_deploy.core.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.engine.options import HARDWARE_COMPATIBLE
from swin_deploy.engine.timing_cache import NONE, default_folder
from swin_deploy.network.catalogue import VARIANTS, Variant, find_variant
from swin_deploy.network.checkpoints.meaning import AS_FOUND, Meaning
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import CROP_MODES, INTERPOLATIONS, TASKS, Size
from swin_deploy.network.model import import_torch
from swin_deploy.network.swin import HEAD_ACTIVATIONS
from swin_deploy.pipeline.request import read_config

if TYPE_CHECKING:
    from swin_deploy.network.checkpoints.resolve import Resolved
    from swin_deploy.network.checkpoints.source import Source
    from swin_deploy.report.tables import Part


F = TypeVar("F", bound=Callable[..., Any])


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator; help lists them in this order."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


# One option: a command adds the help that says what it means there.
batch_option = partial(
    click.option, "--batch", type=BatchType(), default="1", show_default=True, metavar="N|LOW:HIGH"
)
image_option = partial(click.option, "--image", type=ImageType(), metavar="SIZE")
int8_keep_option = partial(
    click.option, "--int8-keep", type=ListType(str, "*.mlp.fc2"), default=(), metavar="LIST"
)
int8_also_option = partial(
    click.option, "--int8-also", type=click.Choice(["embed", "head"]), multiple=True
)
kind_option = partial(
    click.option,
    "--kind",
    type=click.Choice(["tensorrt", "onnxruntime"]),
    default="tensorrt",
    show_default=True,
)
file_option = partial(click.option, type=FILE, metavar="FILE")
source_option = partial(click.option, type=PATH, metavar="SOURCE")
wait_option = partial(
    click.option, "--wait", "wait_s", type=FiniteType(), default=0.0, metavar="SECONDS"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

network_options = together(
    click.option(
        "--variant",
        metavar="NAME",
        shell_complete=complete_from(VARIANTS),
        help="See: swin-deploy variants.",
    ),
    click.option(
        "--config", type=REAL_FILE, help="TOML file that describes a network of your own."
    ),
)
load_options = together(
    click.option(
        "--window",
        "load_window",
        type=click.IntRange(min=1),
        metavar="N",
        help="Run with windows of N tokens; position biases are resized to that.",
    ),
    click.option("--ema", "load_ema", is_flag=True, help="Take the moving average of the weights."),
    click.option(
        "--container",
        "load_container",
        metavar="NAME",
        help="Take the tensors in this entry of the file, where several hold some.",
    ),
    click.option(
        "--prefix",
        "load_prefix",
        metavar="PREFIX",
        help="Take the network whose names begin with this, where the file holds several.",
    ),
    click.option(
        "--head",
        "load_head",
        metavar="NAME",
        help="Take this module for the head, where several could be it; A,B for two in a row; or "
        "none.",
    ),
    click.option(
        "--head-activation",
        "load_head_activation",
        type=click.Choice(HEAD_ACTIVATIONS),
        help="What stands between the linear layers of a head that has several.",
    ),
)
meaning_options = together(
    click.option(
        "--task",
        "meaning_task",
        type=click.Choice(TASKS),
        help="What the outputs mean: one class of all, labels that each hold or not, or numbers. "
        "Default: what the checkpoint says, or single-label.",
    ),
    source_option(
        "--classes",
        "meaning_classes",
        metavar="FILE|FOLDER",
        help="Names of the classes: one a line, JSON, or class folders in sorted order.",
    ),
    click.option(
        "--mean",
        "meaning_mean",
        type=NumbersType(),
        metavar="LIST",
        help="Per channel or for all, of pixels from 0 to 1, as 0.5,0.5,0.5. This and the next "
        "go before what lies beside the weights.",
    ),
    click.option(
        "--std", "meaning_std", type=NumbersType(), metavar="LIST", help="Likewise, as 0.5."
    ),
    click.option(
        "--crop",
        "meaning_crop",
        type=FiniteType(0, 1, min_open=True),
        metavar="FRACTION",
        help="Of the resized photo that is cut out of its centre, as 0.875.",
    ),
    click.option(
        "--crop-mode",
        "meaning_crop_mode",
        type=click.Choice(CROP_MODES),
        help="Keep the sides' ratio and cut, or squash the photo.",
    ),
    click.option(
        "--interpolation",
        "meaning_interpolation",
        type=click.Choice(INTERPOLATIONS),
        help="Filter of the resize.",
    ),
)
worker_options = together(
    click.option(
        "--threads", type=int, default=1, show_default=True, help="CPU threads of every worker."
    ),
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Processes. Default: 1; on Ray, all it has room for.",
    ),
    click.option(
        "--ray", metavar="ADDRESS", help='Spread over a Ray cluster; "local" starts one here.'
    ),
)


def _to_cache(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Path | None:
    if value is None:
        return default_folder()
    return None if value == NONE else Path(value)


build_options = together(
    click.option(
        "--opt-level",
        "build_optimisation_level",
        type=click.IntRange(0, 5),
        help="How hard TensorRT searches for kernels, 0 to 5. Default: its own, 3.",
    ),
    click.option(
        "--workspace",
        "build_workspace_bytes",
        type=BytesType(),
        metavar="SIZE",
        help="Device memory that a kernel of TensorRT may use, as 2GiB.",
    ),
    click.option(
        "--aux-streams",
        "build_aux_streams",
        type=click.IntRange(min=0),
        metavar="N",
        help="Streams that TensorRT may use beside the main one.",
    ),
    click.option(
        "--version-compatible",
        "build_version_compatible",
        is_flag=True,
        help="Plans that newer versions of TensorRT load.",
    ),
    click.option(
        "--hardware-compatible",
        "build_hardware_compatible",
        type=click.Choice([name.replace("_", "-") for name in HARDWARE_COMPATIBLE]),
        default="none",
        show_default=True,
        callback=lambda _ctx, _param, value: value.replace("-", "_"),
        help="Plans that other GPUs load, too.",
    ),
    click.option(
        "--strip-weights",
        "build_strip_weights",
        is_flag=True,
        help="Plans without weights, which a refit brings.",
    ),
    click.option(
        "--refittable",
        "build_refittable",
        is_flag=True,
        help="Plans whose weights can be replaced.",
    ),
    click.option(
        "--timing-cache",
        "build_timing_cache",
        metavar="DIR|none",
        callback=_to_cache,
        help="Where TensorRT's timings lie. Default: swin-deploy/timing in the user's cache.",
    ),
)


def nested(options: Mapping[str, Any], **kinds: type) -> dict[str, Any]:
    """``options`` with a record of each kind in place of those that begin with its name.

    An option that is None was not given: the record's own default stands.
    """
    rest = dict(options)
    for field, kind in kinds.items():
        names = [name for name in rest if name.startswith(f"{field}_")]
        given = {name.removeprefix(f"{field}_"): rest.pop(name) for name in names}
        rest[field] = kind(**{name: value for name, value in given.items() if value is not None})
    return rest


def resolve_network(
    variant: str | None, config: Path | None, image: Size | None = None
) -> Variant | None:
    """The network that the options name; None if they name none."""
    if variant is not None and config is not None:
        raise ConfigError("--variant and --config both name a network", "one of them")
    if config is not None:
        return read_config(config, image)
    return None if variant is None else find_variant(variant).with_image_size(image)


def load_options_of(network: Variant | None, image: Size | None, said: LoadOptions) -> LoadOptions:
    """How the user wants a checkpoint to be read: ``said`` by ``load_options``, and the rest."""
    load = replace(said, image_size=image)
    if network is None:
        return load
    return replace(load, wanted=network.config, rules=network.rules, stated=network.stated)


def fetch_source(
    weights: str, variant: str | None, load: LoadOptions, problems: Iterable[SwinDeployError] = ()
) -> tuple[Source, LoadOptions]:
    """The checkpoint that ``--weights`` names, downloaded if need be, and how it is read.

    ``problems`` are those of the other options, told together with that of this one.
    """
    from swin_deploy.network.checkpoints.hub import require_source, resolve_source
    from swin_deploy.network.checkpoints.source import with_hints
    from swin_deploy.report.console import Downloads

    raise_all(chain(problems, caught(require_source, weights, variant)))
    with Downloads().shown() as downloads:
        source = resolve_source(weights, variant, downloads)
    import_torch()
    return source, with_hints(load, source)


def fetch_network(
    weights: str,
    variant: str | None,
    network: Variant | None,
    load: LoadOptions,
    problems: Iterable[SwinDeployError] = (),
    meaning: Meaning = AS_FOUND,
) -> tuple[Resolved, dict[str, Any]]:
    """What ``--weights`` names, and the fields of a request that say what it is and how it is read.

    ``network`` is what the user named; None for what the checkpoint is.
    """
    source, load = fetch_source(weights, variant, load, chain(problems, caught(meaning.names)))
    from swin_deploy.network.checkpoints.resolve import resolve_weights
    from swin_deploy.report.console import Downloads

    found, listener = resolve_weights(source, network, load, meaning), Downloads()
    for note in found.notes:
        listener.note(note)
    return found, {
        "variant": found.variant,
        "weights": source.path,
        "load": load,
        "provenance": source.provenance,
        "labels": found.labels,
    }


def tell(as_json: bool, report: object, summary: Iterable[Part]) -> None:
    """Print a result as ``--json`` asks for it, or else its summary, which is made then."""
    if as_json:
        print_json(report)
    else:
        from swin_deploy.report.console import show

        show(summary)


def print_json(report: object) -> None:
    """What ``--json`` asks for."""
    click.echo(json.dumps(report, indent=2))
