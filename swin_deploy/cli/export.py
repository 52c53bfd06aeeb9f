"""``swin-deploy export``: the whole way, from a network to verified engines."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from swin_deploy.batches import BatchRange
from swin_deploy.cli.build_options import build_options
from swin_deploy.cli.types import (
    BatchType,
    FiniteType,
    FolderType,
    ImageType,
    ListType,
    PathType,
    PrecisionsType,
    complete_from,
    json_option,
    load_options,
    network_options,
    resolve_network,
)
from swin_deploy.engine.options import BuildOptions
from swin_deploy.engine.targets import DEFAULT_TARGETS, TARGETS, auto_precisions
from swin_deploy.errors import ConfigError, caught, raise_all
from swin_deploy.graph.methods import CALIBRATION_METHODS, CalibrationMethod
from swin_deploy.interface import IOS, LOGITS, OUTPUTS, Interface, Io, Outputs
from swin_deploy.narrow import present
from swin_deploy.pipeline.request import ExportOptions, ExportRequest, Int8Options, values_of
from swin_deploy.precisions import DEFAULT_PRECISIONS, PRECISIONS, Precision
from swin_deploy.preprocessing import Size

if TYPE_CHECKING:
    from swin_deploy.pipeline.recommend import Recommendation


@click.command()
@network_options
@click.option(
    "--image", type=ImageType(), metavar="SIZE", help="224 or 224x448 (height x width), in pixels."
)
@click.option(
    "--batch",
    type=BatchType(),
    default="1",
    show_default=True,
    metavar="N|LOW:HIGH",
    help="Batch size: static, which is fastest, or a range.",
)
@click.option(
    "--outputs",
    type=click.Choice(OUTPUTS),
    default=LOGITS,
    show_default=True,
    help="Classes, or one map per stage (b, c, h, w) for a detector.",
)
@click.option(
    "--io",
    type=click.Choice(IOS),
    default="fp32",
    show_default=True,
    help="Ends of the graphs: float32; float16, of the FP16 graph; or raw pixels, 0 to 255, "
    "(b, height, width, c), normalised inside.",
)
@click.option("--softmax", is_flag=True, help="Give probabilities in place of logits.")
@click.option(
    "--topk",
    type=click.IntRange(min=1),
    metavar="K",
    help="Give the K best scores and classes in place of all.",
)
@click.option(
    "--precision",
    type=PrecisionsType(),
    default=",".join(DEFAULT_PRECISIONS),
    show_default=True,
    metavar="LIST",
    help=f"Graphs to build engines from, of {', '.join(PRECISIONS)}; or auto: those that pay off "
    "on the targets, INT8 only with --calibration, and a recommendation which to ship.",
)
@click.option(
    "--fp32-nodes",
    type=ListType(str, "layers.3.*"),
    default=(),
    metavar="LIST",
    help="Nodes to keep in FP32 in the FP16 and BF16 graphs: names or patterns like 'layers.3.*', "
    "beside those whose values FP16 cannot hold, which are found by themselves.",
)
@click.option(
    "--calibration",
    type=PathType(path_type=Path),
    metavar="SOURCE",
    help="Images that INT8 is calibrated on: a folder, a text file that lists them, or an .npy or "
    ".npz of normalised ones.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Take at most so many of them. Default: {Int8Options().images}.",
)
@click.option("--calibration-seed", type=click.IntRange(min=0), help="Of which. Default: 0.")
@click.option(
    "--calibration-method",
    type=click.Choice(CALIBRATION_METHODS),
    help=f"How ranges are found. Default: {Int8Options().method}.",
)
@click.option(
    "--int8-keep",
    type=ListType(str, "*.mlp.fc2"),
    default=(),
    metavar="LIST",
    help="Products and attentions that are not quantised, by name or pattern, as '*.mlp.fc2'.",
)
@click.option(
    "--labelled",
    type=PathType(path_type=Path),
    metavar="SOURCE",
    help="Class folders, or a list with labels, on which INT8 has to keep its accuracy.",
)
@click.option(
    "--max-drop",
    type=FiniteType(0, 100),
    metavar="POINTS",
    help=f"Points of top-1 that it may lose there. Default: {Int8Options().max_drop:g}.",
)
@click.option(
    "--int8-also",
    type=click.Choice(["embed", "head"]),
    multiple=True,
    help="Quantise the patch embedding or the head too; repeatable.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_from(TARGETS),
    help=f"Engine to build; repeatable. Default: {', '.join(t.name for t in DEFAULT_TARGETS)}, as "
    "far as this machine can.",
)
@click.option(
    "--images",
    type=PathType(path_type=Path),
    metavar="DIR",
    help="Photos to verify on, beside seeded noise.",
)
@click.option(
    "--weights",
    metavar="SOURCE",
    help="Checkpoint file or Hugging Face folder; bundled; hf:OWNER/NAME[@REVISION], "
    "timm:NAME[@REVISION] or torchvision:NAME[:TAG], which are downloaded. "
    "Default: random weights.",
)
@build_options
@load_options
@click.option("--seed", type=int, help="Of the random weights. Default: 0.")
@click.option(
    "--out",
    type=FolderType(),
    metavar="DIR",
    help="Run folder. Default: artifacts/NAME.",
)
@click.option(
    "--gate-seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Of the batch sizes that are drawn and verified, where LOW:HIGH has more than 8. Default: "
    "another one whenever something is verified again; what is printed names it.",
)
@click.option("--strict", is_flag=True, help="Fail where simplification fails.")
@click.option(
    "--wait",
    type=FiniteType(),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another process that writes the same run.",
)
@json_option
def export(
    variant: str | None,
    config: Path | None,
    image: Size | None,
    batch: BatchRange,
    outputs: Outputs,
    io: Io,
    softmax: bool,
    topk: int | None,
    precision: tuple[Precision, ...] | Literal["auto"],
    fp32_nodes: tuple[str, ...],
    calibration: Path | None,
    calibration_images: int | None,
    calibration_seed: int | None,
    calibration_method: CalibrationMethod | None,
    int8_keep: tuple[str, ...],
    labelled: Path | None,
    max_drop: float | None,
    int8_also: tuple[Literal["embed", "head"], ...],
    targets: tuple[str, ...],
    images: Path | None,
    weights: str | None,
    window: int | None,
    ema: bool,
    seed: int | None,
    build: BuildOptions,
    out: Path | None,
    gate_seed: int | None,
    strict: bool,
    wait: float,
    as_json: bool,
) -> None:
    """Build, rewrite, export, simplify, convert, compile and verify a network.

    \b
        swin-deploy export --variant swin_t
        swin-deploy export --variant swin_b --batch 1:16 --target rtx --images photos/
        swin-deploy export --weights finetuned.safetensors
        swin-deploy export --variant swin_s --outputs stages
        swin-deploy export --variant swin_t --precision fp16,int8 --calibration photos/
        swin-deploy export --variant swin_t --io uint8 --softmax --topk 5
        swin-deploy export --variant swin_pocket --weights bundled
        swin-deploy export --weights timm:swin_tiny_patch4_window7_224.ms_in1k
        swin-deploy export --config mine.toml --out runs/mine

    Every file that it writes agrees with the eager PyTorch network; otherwise it exits with 5
    and writes nothing. Run again, it repeats only the stages whose inputs changed.
    """
    network = resolve_network(variant, config, image if weights is None else None)
    if weights is None and (window is not None or ema):
        raise ConfigError("--window and --ema are for weights, and none are given", "--weights")
    if weights is not None and seed is not None:
        raise ConfigError("--seed is for random weights, --weights gives others", "one of them")
    if weights is None and network is None:
        raise ConfigError("no network was named", "--variant swin_t, --weights or --config FILE")
    calibrated = calibration is not None
    options = ExportOptions(
        seed=seed or 0,
        batch=batch,
        outputs=outputs,
        interface=Interface(io=io, softmax=softmax, topk=topk),
        precisions=auto_precisions(targets, calibrated) if precision == "auto" else precision,
        int8=_int8_options(
            calibration,
            int8_keep,
            int8_also,
            images=calibration_images,
            seed=calibration_seed,
            method=calibration_method,
            labelled=labelled,
            max_drop=max_drop,
        ),
        fp32_nodes=fp32_nodes,
        build=build,
        targets=targets or None,
        images=images,
        gate_seed=gate_seed,
        strict=strict,
        wait_s=wait,
    )
    from swin_deploy.checkpoints.hub import require_source
    from swin_deploy.cli.weights import fetch_network, load_options_of
    from swin_deploy.pipeline.inputs import missing_inputs
    from swin_deploy.pipeline.run import run_export
    from swin_deploy.report.console import Progress, stdout
    from swin_deploy.report.run_tables import print_recommendations, print_run

    said: dict[str, Any] = {}
    if weights is not None:
        looks = missing_inputs(options, None, out), caught(require_source, weights, variant)
        raise_all(chain(*looks))
        load = load_options_of(network, image, window, ema)
        network, source, load = fetch_network(weights, variant, network, load)
        said = {
            "weights": source.path,
            "load": load,
            "provenance": source.provenance,
            "labels": source.facts.labels,
        }
        head = source.facts.head or options.interface.head
        options = replace(options, interface=replace(options.interface, head=head))
    network = present(network)  # or it was refused above
    out = out or Path("artifacts") / network.name
    request = ExportRequest(variant=network, out=out, **said, **values_of(options))
    recommendations: list[Recommendation] = []
    with Progress().shown() as progress:
        result = run_export(request, progress)
        if precision == "auto":
            from swin_deploy.pipeline.recommend import recommend

            recommendations = recommend(result, progress.started)
    if as_json:
        more = {"recommendations": list(map(asdict, recommendations))} if recommendations else {}
        click.echo(json.dumps(result.as_dict() | more, indent=2))
    else:
        print_run(result, stdout())
        print_recommendations(recommendations, stdout())


def _int8_options(
    calibration: Path | None,
    keep: tuple[str, ...],
    also: tuple[Literal["embed", "head"], ...],
    **given: Any,
) -> Int8Options:
    if given["max_drop"] is not None and given["labelled"] is None:
        raise ConfigError("--max-drop is of labelled images, and none are given", "--labelled")
    chosen = {name: value for name, value in given.items() if value is not None}
    return Int8Options(calibration=calibration, keep=keep, also=also, **chosen)
