"""``swin-deploy qat``: fine-tuning that sees the rounding of INT8."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Literal

import click

from swin_deploy.batches import BatchRange
from swin_deploy.cli.types import (
    BatchType,
    FiniteType,
    FolderType,
    ImageType,
    ListType,
    PathType,
    json_option,
    load_options,
    network_options,
    resolve_network,
)
from swin_deploy.errors import caught, raise_all
from swin_deploy.graph.methods import CALIBRATION_METHODS, CalibrationMethod
from swin_deploy.pipeline.request import Int8Options, values_of
from swin_deploy.preprocessing import Size


@click.command()
@network_options
@click.option(
    "--weights",
    metavar="SOURCE",
    required=True,
    help="The trained network, as export takes it: a file or folder, bundled, hf:..., timm:... or "
    "torchvision:...",
)
@click.option("--image", type=ImageType(), metavar="SIZE", help="As of export.")
@load_options
@click.option(
    "--data",
    type=PathType(path_type=Path),
    required=True,
    metavar="SOURCE",
    help="Photos to train on, with their classes: a folder for each, or a text file with a path "
    "and a label a line, as of sensitivity --labelled.",
)
@click.option(
    "--val",
    type=PathType(path_type=Path),
    metavar="SOURCE",
    help="Other photos, likewise, to measure the accuracy on before and after.",
)
@click.option(
    "--calibration",
    type=PathType(path_type=Path),
    required=True,
    metavar="SOURCE",
    help="Images that ranges are taken from, as of export.",
)
@click.option(
    "--calibration-images",
    type=click.IntRange(min=1),
    default=Int8Options().images,
    show_default=True,
    metavar="N",
    help="Take at most so many of them.",
)
@click.option(
    "--calibration-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of which."
)
@click.option(
    "--calibration-method",
    type=click.Choice(CALIBRATION_METHODS),
    default=Int8Options().method,
    show_default=True,
    help="How ranges are found.",
)
@click.option(
    "--int8-keep",
    type=ListType(str, "*.mlp.fc2"),
    default=(),
    metavar="LIST",
    help="Products and attentions that are not quantised, by name or pattern.",
)
@click.option(
    "--int8-also",
    type=click.Choice(["embed", "head"]),
    multiple=True,
    help="Quantise the patch embedding or the head as well; repeatable.",
)
@click.option(
    "--kind",
    type=click.Choice(["tensorrt", "onnxruntime"]),
    default="tensorrt",
    show_default=True,
    help="Runtime that the graph is for.",
)
@click.option(
    "--batch",
    type=BatchType(),
    default="1",
    show_default=True,
    metavar="N|LOW:HIGH",
    help="Batch size of the graphs.",
)
@click.option("--epochs", default=3, show_default=True, help="Times through all photos.")
@click.option(
    "--lr",
    "rate",
    type=FiniteType(),
    default=1e-5,
    show_default=True,
    help="Learning rate at the start, of AdamW.",
)
@click.option("--batch-size", default=64, show_default=True, help="Photos of a training step.")
@click.option(
    "--distil/--no-distil",
    default=True,
    show_default=True,
    help="Learn from the logits of the network as it was, too.",
)
@click.option("--seed", default=0, show_default=True, help="Of the order of the photos.")
@click.option("--out", type=FolderType(), required=True, metavar="DIR", help="For the results.")
@click.option(
    "--wait",
    type=FiniteType(),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another process that writes there.",
)
@json_option
def qat(
    variant: str | None,
    config: Path | None,
    weights: str,
    image: Size | None,
    window: int | None,
    ema: bool,
    data: Path,
    val: Path | None,
    calibration: Path,
    calibration_images: int,
    calibration_seed: int,
    calibration_method: CalibrationMethod,
    int8_keep: tuple[str, ...],
    int8_also: tuple[Literal["embed", "head"], ...],
    kind: str,
    batch: BatchRange,
    epochs: int,
    rate: float,
    batch_size: int,
    distil: bool,
    seed: int,
    out: Path,
    wait: float,
    as_json: bool,
) -> None:
    """Fine-tune a network for INT8, with the rounding of its INT8 graph in every step.

    \b
        swin-deploy qat --variant swin_t --weights mine.safetensors --data train/ --val val/ \\
        --calibration train/ --epochs 3 --out runs/qat
        swin-deploy export --variant swin_t --weights runs/qat/weights.safetensors \\
        --precision fp16,int8 --calibration train/

    Writes the fine-tuned weights, their FP32 graph, and the INT8 graph that computes just what was
    trained, which is proved place by place. Killed, it goes on with the epoch that it was in.
    """
    from swin_deploy.checkpoints.hub import require_source
    from swin_deploy.cli.weights import fetch_network, load_options_of
    from swin_deploy.qat.request import QatOptions, QatRequest, Training
    from swin_deploy.report.console import Progress, stdout

    network = resolve_network(variant, config)
    options = QatOptions(
        data=data,
        val=val,
        int8=Int8Options(
            calibration=calibration,
            images=calibration_images,
            seed=calibration_seed,
            method=calibration_method,
            keep=int8_keep,
            also=int8_also,
        ),
        kind=kind,
        batch=batch,
        training=Training(epochs=epochs, rate=rate, batch=batch_size, distil=distil, seed=seed),
        out=out,
        wait_s=wait,
    )
    raise_all(chain(options.missing(), caught(require_source, weights, variant)))
    load = load_options_of(network, image, window, ema)
    network, source, load = fetch_network(weights, variant, network, load)
    from swin_deploy.qat.run import run_qat
    from swin_deploy.report.qat_tables import print_qat

    request = QatRequest(
        variant=network,
        weights=source.path,
        load=load,
        provenance=source.provenance,
        labels=source.facts.labels,
        **values_of(options),
    )
    with Progress().shown() as progress:
        result = run_qat(request, progress)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_qat(result, stdout())
