"""``swin-deploy variants``, ``targets`` and ``doctor``: what there is, and what is here."""

from __future__ import annotations

from dataclasses import asdict

import click

from swin_deploy.cli.options import json_option, tell
from swin_deploy.core.files import package_version
from swin_deploy.engine.cost.gpus import GPUS
from swin_deploy.engine.target import HERE, Target
from swin_deploy.engine.targets import TARGETS, find_target
from swin_deploy.network.catalogue import VARIANTS, summarise

BATCHES = {"one": "1", "many": "1:16", "any": ""}  # what suits each, as --batch takes it


@click.command()
@json_option
def variants(as_json: bool) -> None:
    """List the networks that --variant takes.

    \b
        swin-deploy variants
    """
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
    report = {name: asdict(variant) for name, variant in VARIANTS.items()}
    tell(as_json, report, [make_table("", columns, rows)])


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
    rows = {
        name: asdict(target)
        | {"installed": target.installed, "version": versions[name], "here": name == this}
        | {"peaks": asdict(GPUS[target.gpu]) if target.gpu else None}
        for name, target in TARGETS.items()
    }
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
    install = "swin-deploy doctor says how to install what is missing"
    star, here = "* built where no --target is given", f"here, as --target too: {this}"
    tell(as_json, rows, [make_table("", columns, lines), install, star, here])


def built_on(target: Target) -> str:
    """Where an engine of it can be built."""
    if target.builds_without_gpu:
        return "any machine"
    return "the device itself" if target.one_device else "its own GPU"


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, what is missing and how to get it.

    \b
        swin-deploy doctor

    Exits with 4 if export cannot work here.
    """
    from swin_deploy.engine.doctor import examine, usable
    from swin_deploy.engine.here import describe_machine

    findings, machine = examine(), describe_machine()
    ok = usable(findings)
    from swin_deploy.report.tables import make_table

    head = f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB; {machine.system}"
    rows = [("ok" if one.ok else "--", one.name, one.state, one.advice) for one in findings]
    table = make_table("", ("", "what", "state", "advice"), rows)
    facts = {"usable": ok, "machine": asdict(machine), "findings": [asdict(f) for f in findings]}
    tell(as_json, facts, [head, table, f"export {'works' if ok else 'cannot work'} here"])
    if not ok:
        ctx.exit(4)
