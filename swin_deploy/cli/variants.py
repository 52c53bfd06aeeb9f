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
    from swin_deploy.report.console import make_table, stdout

    table = make_table(
        "", "variant", ">image", ">window", ">channels", "depths", "heads", ">parameters"
    )
    for name, variant in VARIANTS.items():
        config, summary = variant.config, summarise(variant.config)
        table.add_row(
            name,
            str(config.image_size[0]),
            summary.window,
            str(summary.channels),
            " ".join(map(str, summary.depths)),
            " ".join(map(str, summary.heads)),
            f"{variant.parameters:,}",
        )
    stdout().print(table)
