"""``swin-deploy report``: one page about runs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from swin_deploy.cli.types import FolderType, PathType, json_option


@click.command()
@click.argument(
    "runs", type=PathType(path_type=Path), metavar="RUN|JSON...", nargs=-1, required=True
)
@click.option(
    "--out",
    type=FolderType(),
    metavar="DIR",
    help="Folder of the report. Default: that of a single run, or report for several.",
)
@json_option
def report(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Write one page about runs: what was made, whether it agrees, how fast it is.

    \b
        swin-deploy report artifacts/swin_t
        swin-deploy report artifacts/swin_t artifacts/swin_s --out both
        swin-deploy report artifacts/swin_t jetson/bench.json h100/bench.json --out machines

    report.html needs no network and nothing beside it; report.md and report.json say the same. It
    shows what earlier commands left in the run, and says which command makes what is missing. A
    .json file of another machine is a column beside the runs. Needs the extra report.
    """
    from swin_deploy.report.console import Progress
    from swin_deploy.report.page import write_report

    with Progress().shown() as progress:
        written = write_report(runs, out, progress.started)
    if as_json:
        names = ("html", "markdown", "json")
        click.echo(json.dumps(dict(zip(names, map(str, written), strict=True)), indent=2))
    else:
        for path in written:
            click.echo(path)
