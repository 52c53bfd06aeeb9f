"""The group, and what becomes of every error: one line, one exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import swin_deploy
from swin_deploy.cli.bench import bench
from swin_deploy.cli.bundle import bundle
from swin_deploy.cli.completion import completion
from swin_deploy.cli.cost import cost
from swin_deploy.cli.doctor import doctor
from swin_deploy.cli.evaluate import evaluate
from swin_deploy.cli.export import export
from swin_deploy.cli.inspect import inspect
from swin_deploy.cli.predict import predict
from swin_deploy.cli.qat import qat
from swin_deploy.cli.refit import refit
from swin_deploy.cli.report import report
from swin_deploy.cli.scaling import scaling
from swin_deploy.cli.sensitivity import sensitivity
from swin_deploy.cli.targets import targets
from swin_deploy.cli.variants import variants
from swin_deploy.cli.verify import verify
from swin_deploy.errors import SwinDeployError, UsageError
from swin_deploy.outcome import leave, run_command


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
    completion,
)
for _command in _COMMANDS:
    main.add_command(_command)


def entry() -> None:
    """The console script."""
    leave(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code (see ``swin_deploy.errors``)."""
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
