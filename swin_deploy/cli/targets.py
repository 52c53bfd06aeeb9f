"""``swin-deploy targets``: the table of targets."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from swin_deploy.cli.types import json_option
from swin_deploy.engine.gpus import GPUS
from swin_deploy.engine.here import HERE
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS, find_target
from swin_deploy.installed import package_version

BATCHES = {"one": "1", "many": "1:16", "any": ""}  # what suits each, as --batch takes it


@click.command()
@json_option
def targets(as_json: bool) -> None:
    """List what --target takes, and whether its runtime is installed here.

    \b
        swin-deploy targets

    Targets with a star are those of an export that names none. --json has all of each row, with
    the document that each fact comes from.
    """
    this = find_target(HERE).name
    versions = {
        name: package_version(target.distribution) if target.installed else None
        for name, target in TARGETS.items()
    }
    if as_json:
        rows = {
            name: asdict(target)
            | {"installed": target.installed, "version": versions[name], "here": name == this}
            | {"peaks": asdict(GPUS[target.gpu]) if target.gpu else None}
            for name, target in TARGETS.items()
        }
        click.echo(json.dumps(rows, indent=2))
        return
    from swin_deploy.report.console import show
    from swin_deploy.report.tables import make_table

    columns = ("", "target", "kind", "runtime", "here", "precisions", "batch", "builds on")
    lines = [
        (
            "*" if target.by_default else "",
            name,
            target.kind,
            target.module,
            (versions[name] or "installed") if target.installed else "missing",
            ",".join(target.precisions),
            BATCHES[target.batch],
            built_on(target),
        )
        for name, target in TARGETS.items()
    ]
    show(
        [
            make_table("", columns, lines),
            "swin-deploy doctor says how to install what is missing",
            "* built where no --target is given",
            f"here, as --target too: {this}",
        ]
    )


def built_on(target: Target) -> str:
    """Where an engine of it can be built."""
    if target.builds_without_gpu:
        return "any machine"
    return "the device itself" if target.one_device else "its own GPU"
