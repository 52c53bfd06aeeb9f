"""``swin-deploy verify``: any two forms of a network, and where they part."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import click

from swin_deploy.cli.options import file_option, json_option, print_json, source_option
from swin_deploy.cli.types import PATH, ListType
from swin_deploy.core.errors import ConfigError, caught, raise_all
from swin_deploy.network.model import import_torch


class PairType(click.ParamType[tuple[str, str]]):
    """Two names, the reference first."""

    name = "pair"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        first, _, second = value.partition(",")
        if not first.strip() or not second.strip() or "," in second:
            self.fail(f"{value!r} is not a pair like eager,fp16", param, ctx)
        return first.strip(), second.strip()


@click.command()
@click.argument("run", type=PATH, metavar="RUN")
@click.option(
    "--between",
    type=PairType(),
    multiple=True,
    metavar="A,B",
    help="Compare B with A; repeatable. Names: eager, raw, onnx, fp16, bf16, int8, int8-cpu, "
    "engines like cpu-fp32, or an .onnx file. Default: eager with all that runs here.",
)
@source_option(
    "--images", metavar="DIR", help="A folder of photos. Without it INT8 is reported, not judged."
)
@click.option("--limit", type=int, metavar="N", help="At most N of them. Default: all.")
@click.option(
    "--batches",
    type=ListType(int, "1,3,8"),
    metavar="LIST",
    help="Numbers of images of noise. Default: those of the run's batch, all of up to 8; of more, "
    "both ends and 3 between, drawn anew every time.",
)
@click.option("--bisect", is_flag=True, help="Name the first tensor inside that leaves its floor.")
@file_option(
    "--plot",
    help="Draw error along the depth into an .svg or .png, with --bisect; needs the extra report.",
)
@file_option("--save", help="Keep inputs and outputs in an .npz, for another machine.")
@file_option(
    "--against",
    help="Compare what another machine saved with what this one gives for the same images.",
)
@file_option("--out", help="The report. Default: RUN/checks.json.")
@json_option
def verify(plot: Path | None, as_json: bool, **options: Any) -> None:
    """Compare any two of eager, ONNX graphs and engines, and find where they part.

    \b
        swin-deploy verify artifacts/swin_t --images photos/
        swin-deploy verify artifacts/swin_t --between eager,fp16 --bisect --plot depth.svg
        swin-deploy verify artifacts/swin_t --save here.npz
        swin-deploy verify artifacts/swin_t --against there.npz

    On seeded noise of several batch sizes, on photos, on black, white, saturated and noisy pixels,
    and with one image in every slot of a batch. Exit code 5 if anything that is judged fails.
    """
    from swin_deploy.measure.verify.report import VerifyRequest
    from swin_deploy.report.console import Progress, show
    from swin_deploy.report.figures import require_plot
    from swin_deploy.report.plots import plot_depth
    from swin_deploy.report.run_tables import verify_summary

    request = VerifyRequest(**options)
    if plot is not None and not request.bisect:
        raise ConfigError("--plot draws what --bisect finds", "--bisect")
    raise_all(chain(request.missing(), () if plot is None else caught(require_plot, plot)))
    import_torch()
    from swin_deploy.measure.verify.run import check_run, require_passed

    with Progress().shown() as progress:
        report = check_run(request, progress.started)
        for text in report["notes"]:
            progress.note(text)
    if plot is not None and report["bisections"]:
        plot_depth(report, plot)
    if not as_json:
        show(verify_summary(report))
    require_passed(report)
    if as_json:
        print_json(report)
