"""``swin-deploy export``: the whole way, from a network to verified engines."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swin_deploy.cli.options import (
    batch_option,
    build_options,
    fetch_network,
    image_option,
    int8_also_option,
    int8_keep_option,
    json_option,
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
from swin_deploy.cli.types import FiniteType, FolderType, ListType, NamesType, complete_from
from swin_deploy.core.errors import ConfigError, present
from swin_deploy.engine.options import BuildOptions
from swin_deploy.engine.targets import DEFAULT_TARGETS, TARGETS, auto_precisions
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.network.checkpoints.meaning import Meaning
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import (
    ACTIVATIONS,
    DEFAULT_PRECISIONS,
    IOS,
    LOGITS,
    OUTPUTS,
    PRECISIONS,
    TASK_OF,
    Activation,
    Interface,
    Size,
)
from swin_deploy.pipeline.request import (
    MAX_DROP,
    ExportOptions,
    ExportRequest,
    Int8Options,
    values_of,
)

if TYPE_CHECKING:
    from swin_deploy.pipeline.recommend import Recommendation


@click.command()
@network_options
@image_option(help="224 or 224x448 (height x width), in pixels.")
@batch_option(help="Batch size: static, which is fastest, or a range.")
@click.option(
    "--outputs",
    type=click.Choice(OUTPUTS),
    default=LOGITS,
    show_default=True,
    help="Classes; one map per stage (b, c, h, w) for a detector; or what the head reads, one "
    "vector (b, c) after the last norm, for a search.",
)
@click.option(
    "--io",
    "interface_io",
    type=click.Choice(IOS),
    default="fp32",
    show_default=True,
    help="Ends of the graphs: float32; float16, of the FP16 graph; or raw pixels, 0 to 255, "
    "(b, height, width, c), normalised inside.",
)
@click.option(
    "--activation",
    "interface_activation",
    type=click.Choice(ACTIVATIONS),
    help="Give probabilities in place of logits: softmax of single-label networks, sigmoid of "
    "multi-label ones. Default: none.",
)
@click.option("--softmax", is_flag=True, help="The same as --activation softmax.")
@click.option(
    "--topk",
    "interface_topk",
    type=click.IntRange(min=1),
    metavar="K",
    help="Give the K best scores and classes in place of all.",
)
@click.option(
    "--precision",
    "precisions",
    type=NamesType(PRECISIONS, "auto", "auto"),
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
@source_option(
    "--calibration",
    "int8_calibration",
    help="Images that INT8 is calibrated on: a folder, a text file that lists them, or an .npy or "
    ".npz of normalised ones.",
)
@click.option(
    "--calibration-images",
    "int8_images",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Take at most so many of them. Default: {Int8Options().images}.",
)
@click.option(
    "--calibration-seed", "int8_seed", type=click.IntRange(min=0), help="Of which. Default: 0."
)
@click.option(
    "--calibration-method",
    "int8_method",
    type=click.Choice(CALIBRATION_METHODS),
    help=f"How ranges are found. Default: {Int8Options().method}.",
)
@int8_keep_option(
    help="Products and attentions that are not quantised, by name or pattern, as '*.mlp.fc2'."
)
@source_option(
    "--labelled",
    "int8_labelled",
    help="Class folders, or a list with labels, on which INT8 has to keep its accuracy.",
)
@click.option(
    "--max-drop",
    "int8_max_drop",
    type=FiniteType(0, 100),
    metavar="POINTS",
    help=f"Points of top-1 that it may lose there. Default: {MAX_DROP:g}.",
)
@int8_also_option(help="Quantise the patch embedding or the head too; repeatable.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_from(TARGETS),
    help=f"Engine to build; repeatable. Default: {', '.join(t.name for t in DEFAULT_TARGETS)}, as "
    "far as this machine can.",
)
@source_option("--images", metavar="DIR", help="Photos to verify on, beside seeded noise.")
@click.option(
    "--weights",
    metavar="SOURCE",
    help="Checkpoint file or Hugging Face folder; bundled; hf:OWNER/NAME[@REVISION], "
    "timm:NAME[@REVISION] or torchvision:NAME[:TAG], which are downloaded. "
    "Default: random weights.",
)
@build_options
@load_options
@meaning_options
@click.option("--seed", type=int, help="Of the random weights. Default: 0.")
@click.option(
    "--out", type=FolderType(), metavar="DIR", help="Run folder. Default: artifacts/NAME."
)
@click.option(
    "--gate-seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Of the batch sizes that are drawn and verified, where LOW:HIGH has more than 8. Default: "
    "another one whenever something is verified again; what is printed names it.",
)
@click.option("--strict", is_flag=True, help="Fail where simplification fails.")
@wait_option(help="Wait so long for another process that writes the same run.")
@json_option
def export(
    variant: str | None,
    config: Path | None,
    image: Size | None,
    weights: str | None,
    seed: int | None,
    out: Path | None,
    softmax: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Build, rewrite, export, simplify, convert, compile and verify a network.

    \b
        swin-deploy export --variant swin_t
        swin-deploy export --variant swin_b --batch 1:16 --target rtx --images photos/
        swin-deploy export --weights finetuned.safetensors
        swin-deploy export --variant swin_s --outputs stages
        swin-deploy export --weights finetuned.safetensors --outputs embedding
        swin-deploy export --variant swin_t --precision fp16,int8 --calibration photos/
        swin-deploy export --variant swin_t --io uint8 --activation softmax --topk 5
        swin-deploy export --variant swin_pocket --weights bundled
        swin-deploy export --weights timm:swin_tiny_patch4_window7_224.ms_in1k
        swin-deploy export --config mine.toml --out runs/mine

    Every file that it writes agrees with the eager PyTorch network; otherwise it exits with 5
    and writes nothing. Run again, it repeats only the stages whose inputs changed.
    """
    network = resolve_network(variant, config, image if weights is None else None)
    options = nested(options, load=LoadOptions, meaning=Meaning)
    load = load_options_of(network, image, options.pop("load"))
    meaning: Meaning = options.pop("meaning")
    if weights is None and (given := [*load.written(), *meaning.written()]):
        raise ConfigError(f"{given[0]} is for weights, and none are given", "--weights")
    if weights is not None and seed is not None:
        raise ConfigError("--seed is for random weights, --weights gives others", "one of them")
    if weights is None and network is None:
        raise ConfigError("no network was named", "--variant swin_t, --weights or --config FILE")
    recommended = options["precisions"] == "auto"
    if recommended:
        calibrated = options["int8_calibration"] is not None
        options["precisions"] = auto_precisions(options["targets"], calibrated)
    options["targets"] = options["targets"] or None
    activation = _activation(options["interface_activation"], softmax)
    options["interface_activation"] = activation
    options["interface_task"] = meaning.task or TASK_OF.get(activation)
    records = nested(options, interface=Interface, int8=Int8Options, build=BuildOptions)
    asked = ExportOptions(seed=seed or 0, **records)
    from swin_deploy.pipeline.plan import missing_inputs
    from swin_deploy.pipeline.run import run_export
    from swin_deploy.report.console import Progress
    from swin_deploy.report.run_tables import recommendation_words, run_summary

    said: dict[str, Any] = {"variant": network}
    if weights is not None:
        problems = missing_inputs(asked, None, out)
        found, said = fetch_network(weights, variant, network, load, problems, meaning)
        task = found.task or asked.interface.task
        asked = replace(asked, interface=replace(asked.interface, task=task))
    network = present(said["variant"])  # or it was refused above
    out = out or Path("artifacts") / network.name
    request = ExportRequest(out=out, **said, **values_of(asked))
    recommendations: list[Recommendation] = []
    with Progress().shown() as progress:
        result = run_export(request, progress)
        if recommended:
            from swin_deploy.pipeline.recommend import recommend

            recommendations = recommend(result, progress.started)
    more = {"recommendations": list(map(asdict, recommendations))} if recommendations else {}
    summary = chain(run_summary(result), recommendation_words(recommendations))
    tell(as_json, result.as_dict() | more, summary)


def _activation(named: Activation | None, softmax: bool) -> Activation:
    """That of ``--activation`` and ``--softmax``, which may be given together if they agree."""
    if softmax and named not in (None, "softmax"):
        raise ConfigError(
            f"--softmax and --activation {named} contradict each other", "one of them"
        )
    return "softmax" if softmax else named or "none"
