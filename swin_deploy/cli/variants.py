"""``swin-deploy variants``: the table of networks."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from swin_deploy.cli.types import json_option
from swin_deploy.networks import summarise
from swin_deploy.variants import VARIANTS


@click.command()
@json_option
def variants(as_json: bool) -> None:
    """List the networks that --variant takes.

    \b
        swin-deploy variants
    """
    if as_json:
        click.echo(json.dumps({name: asdict(v) for name, v in VARIANTS.items()}, indent=2))
        return
    from swin_deploy.report.console import show
    from swin_deploy.report.tables import make_table

    columns = ("variant", ">image", ">window", ">channels", "depths", "heads", ">parameters")
    rows = []
    for name, variant in VARIANTS.items():
        summary = summarise(variant.config)
        row = (
            name,
            str(variant.config.image_size[0]),
            summary.window,
            str(summary.channels),
            " ".join(map(str, summary.depths)),
            " ".join(map(str, summary.heads)),
            f"{variant.parameters:,}",
        )
        rows.append(row)
    show([make_table("", columns, rows)])
