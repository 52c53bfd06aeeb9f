"""``swin-deploy targets``: the table of targets."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from swin_deploy.cli.types import json_option
from swin_deploy.engine.targets import TARGETS
from swin_deploy.installed import package_version


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List what --target takes, and whether its runtime is installed here.

    \b
        swin-deploy targets

    Targets with a star are those of an export that names none.
    """
    versions = {
        name: package_version(target.distribution) if target.installed else None
        for name, target in TARGETS.items()
    }
    if as_json:
        rows = {
            name: asdict(target) | {"installed": target.installed, "version": versions[name]}
            for name, target in TARGETS.items()
        }
        click.echo(json.dumps(rows, indent=2))
        return
    from swin_deploy.report.console import make_table, stdout

    table = make_table(
        "", "", "target", "kind", "runtime", "here", "precisions", "builds on", "install"
    )
    for name, target in TARGETS.items():
        here = (versions[name] or "installed") if target.installed else "missing"
        table.add_row(
            "*" if target.by_default else "",
            name,
            target.kind,
            target.module,
            here,
            ",".join(target.precisions),
            "any machine" if target.builds_without_gpu else "its own GPU",
            target.install,
        )
    console = stdout()
    console.print(table)
    console.print("* built where no --target is given")
