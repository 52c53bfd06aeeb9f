"""``swin-deploy doctor``: what is here, what is missing, how to get it."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from swin_deploy.cli.types import json_option


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, what is missing and how to get it.

    \b
        swin-deploy doctor

    Exits with 4 if export cannot work here.
    """
    from swin_deploy.doctor import examine, usable
    from swin_deploy.machine import describe_machine

    findings, machine = examine(), describe_machine()
    ok = usable(findings)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "usable": ok,
                    "machine": asdict(machine),
                    "findings": [asdict(finding) for finding in findings],
                },
                indent=2,
            )
        )
    else:
        from swin_deploy.report.console import show
        from swin_deploy.report.tables import make_table

        head = (
            f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB; "
            f"{machine.system}"
        )
        rows = [("ok" if one.ok else "--", one.name, one.state, one.advice) for one in findings]
        table = make_table("", ("", "what", "state", "advice"), rows)
        show([head, table, "export works here" if ok else "export cannot work here"])
    if not ok:
        ctx.exit(4)
