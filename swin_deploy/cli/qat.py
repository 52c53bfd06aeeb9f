"""``swin-deploy qat``: fine-tuning that sees the rounding of INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import (
    batch_option,
    fetch_network,
    image_option,
    int8_also_option,
    int8_keep_option,
    json_option,
    kind_option,
    load_options,
    load_options_of,
    meaning_options,
    nested,
    network_options,
    resolve_network,
    source_option,
    tell,
    wait_option,
)
from swin_deploy.cli.types import FiniteType, FolderType
from swin_deploy.core.errors import ConfigError
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.network.checkpoints.meaning import Meaning
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import Size
from swin_deploy.pipeline.request import Int8Options, values_of


@click.command()
@network_options
@click.option(
    "--weights",
    metavar="SOURCE",
    required=True,
    help="The trained network, as export takes it: a file or folder, bundled, hf:..., timm:... or "
    "torchvision:...",
)
@image_option(help="As of export.")
@load_options
@meaning_options
@source_option(
    "--data",
    required=True,
    help="Photos to train on, with their classes: a folder for each, or a text file with a path "
    "and a label a line, as of sensitivity --labelled.",
)
@source_option("--val", help="Other photos, likewise, to measure the accuracy on before and after.")
@source_option(
    "--calibration",
    "int8_calibration",
    required=True,
    help="Images that ranges are taken from, as of export.",
)
@click.option(
    "--calibration-images",
    "int8_images",
    type=click.IntRange(min=1),
    default=Int8Options().images,
    show_default=True,
    metavar="N",
    help="Take at most so many of them.",
)
@click.option(
    "--calibration-seed",
    "int8_seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of which.",
)
@click.option(
    "--calibration-method",
    "int8_method",
    type=click.Choice(CALIBRATION_METHODS),
    default=Int8Options().method,
    show_default=True,
    help="How ranges are found.",
)
@int8_keep_option(help="Products and attentions that are not quantised, by name or pattern.")
@int8_also_option(help="Quantise the patch embedding or the head as well; repeatable.")
@kind_option(help="Runtime that the graph is for.")
@batch_option(help="Batch size of the graphs.")
@click.option(
    "--epochs", "training_epochs", default=3, show_default=True, help="Times through all photos."
)
@click.option(
    "--lr",
    "training_rate",
    type=FiniteType(),
    default=1e-5,
    show_default=True,
    help="Learning rate at the start, of AdamW.",
)
@click.option(
    "--batch-size",
    "training_batch",
    default=64,
    show_default=True,
    help="Photos of a training step.",
)
@click.option(
    "--distil/--no-distil",
    "training_distil",
    default=True,
    show_default=True,
    help="Learn from the logits of the network as it was, too.",
)
@click.option(
    "--seed", "training_seed", default=0, show_default=True, help="Of the order of the photos."
)
@click.option("--out", type=FolderType(), required=True, metavar="DIR", help="For the results.")
@wait_option(help="Wait so long for another process that writes there.")
@json_option
def qat(
    variant: str | None,
    config: Path | None,
    weights: str,
    image: Size | None,
    as_json: bool,
    **options: Any,
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
    from swin_deploy.pipeline.qat.request import QatOptions, QatRequest, Training
    from swin_deploy.report.console import Progress

    network = resolve_network(variant, config)
    records = nested(
        options, int8=Int8Options, training=Training, load=LoadOptions, meaning=Meaning
    )
    load = load_options_of(network, image, records.pop("load"))
    meaning: Meaning = records.pop("meaning")
    asked = QatOptions(**records)
    found, said = fetch_network(weights, variant, network, load, asked.missing(), meaning)
    if found.task not in (None, "single-label"):
        raise ConfigError(
            f"qat trains on one class for each photo, and this network is {found.task}",
            "export --precision int8, or --task single-label",
        )
    from swin_deploy.pipeline.qat.session import run_qat
    from swin_deploy.report.measured_tables import qat_summary

    request = QatRequest(**said, **values_of(asked))
    with Progress().shown() as progress:
        result = run_qat(request, progress)
    tell(as_json, result.as_dict(), qat_summary(result))
