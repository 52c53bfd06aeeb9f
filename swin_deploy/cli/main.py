"""The group, and what becomes of every error: one line, one exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from click.shell_completion import get_completion_class

import swin_deploy
from swin_deploy.cli.bench import bench
from swin_deploy.cli.device import bundle, predict
from swin_deploy.cli.evaluate import evaluate
from swin_deploy.cli.export import export
from swin_deploy.cli.lists import doctor, targets, variants
from swin_deploy.cli.qat import qat
from swin_deploy.cli.reports import cost, report
from swin_deploy.cli.studies import scaling, sensitivity
from swin_deploy.cli.verify import verify
from swin_deploy.cli.weights import inspect, refit
from swin_deploy.core.errors import SwinDeployError, UsageError, present
from swin_deploy.core.outcome import leave, run_command

SHELLS = ("bash", "zsh", "fish")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(swin_deploy.__version__, prog_name="swin-deploy")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Turn a Swin Transformer into an engine, and prove that it still agrees.

    \b
        Start with:  swin-deploy export --variant swin_t
        Then:        swin-deploy bench --engine artifacts/swin_t
    """


_COMMANDS = (
    export,
    verify,
    refit,
    qat,
    bench,
    evaluate,
    cost,
    sensitivity,
    scaling,
    report,
    bundle,
    predict,
    inspect,
    variants,
    targets,
    doctor,
)


for _command in _COMMANDS:
    main.add_command(_command)


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
        eval "$(swin-deploy completion bash)"
        swin-deploy completion fish | source

    Put that line into the shell's start-up file to keep it.
    """
    kind = present(get_completion_class(shell))  # click has one for each of SHELLS
    click.echo(kind(main, {}, "swin-deploy", "_SWIN_DEPLOY_COMPLETE").source())


def entry() -> None:
    """The console script."""
    leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code (see ``swin_deploy.core.errors``)."""
    as_json, debug = "--json" in arguments, "--debug" in arguments
    return run_command(lambda: _invoke(list(arguments)), as_json, debug, _show)


def _invoke(arguments: list[str]) -> int:
    try:
        code = main.main(arguments, prog_name="swin-deploy", standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path if context else 'swin-deploy'} --help"
        raise UsageError(error.format_message().removesuffix("."), hint) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else 0  # what a command gave to ctx.exit


def _show(error: SwinDeployError) -> None:
    if "verification" in error.details:
        from swin_deploy.report.console import show, stderr
        from swin_deploy.report.run_tables import comparisons_summary

        show(comparisons_summary(error.details["verification"]["comparisons"]), stderr())
