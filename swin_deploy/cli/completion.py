"""``swin-deploy completion``: what a shell has to read to complete commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from swin_deploy.narrow import present

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
        eval "$(swin-deploy completion bash)"
        swin-deploy completion fish | source

    Put that line into the shell's start-up file to keep it.
    """
    from swin_deploy.cli.main import main

    kind = present(get_completion_class(shell))  # click has one for each of SHELLS
    click.echo(kind(main, {}, "swin-deploy", "_SWIN_DEPLOY_COMPLETE").source())
