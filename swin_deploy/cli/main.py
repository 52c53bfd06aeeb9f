"""The group, and what becomes of every error: one line, one exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

import click

import swin_deploy
from swin_deploy.cli.bench import bench
from swin_deploy.cli.doctor import doctor
from swin_deploy.cli.export import export
from swin_deploy.cli.inspect import inspect
from swin_deploy.cli.variants import variants
from swin_deploy.errors import ResourceError, SwinDeployError, from_os_error

SIGINT_EXIT, SIGTERM_EXIT = 130, 143  # 128 + the signal's number, as shells count


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(swin_deploy.__version__, prog_name="swin-deploy")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Turn a Swin Transformer into an engine, and prove that it still agrees.

    \b
    Start with:  swin-deploy export --variant swin_t
    Then:        swin-deploy bench --engine artifacts/swin_t
    """


for _command in (export, bench, inspect, variants, doctor):
    main.add_command(_command)


def entry() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code (see ``swin_deploy.errors``)."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = main.main(list(arguments), prog_name="swin-deploy", standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return SIGINT_EXIT
    except click.ClickException as error:
        if as_json:
            _print_json({"code": "E_USAGE", "exit_code": 2, "message": error.format_message()})
        error.show()
        return error.exit_code
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SwinDeployError as error:
        return _fail(error, as_json, debug)
    except MemoryError:
        return _fail(ResourceError("out of memory", "a smaller variant or batch"), as_json, debug)
    except OSError as error:
        if (known := from_os_error(error)) is None:
            raise
        return _fail(known, as_json, debug)
    return code if isinstance(code, int) else 0  # what a command gave to ctx.exit


def _fail(error: SwinDeployError, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if as_json:
        _print_json(error.as_dict())
    elif "verification" in error.details:
        from swin_deploy.report.console import stderr
        from swin_deploy.report.run_tables import print_comparisons

        print_comparisons(error.details["verification"]["comparisons"], stderr())
    click.echo(f"error[{error.code}]: {' '.join(str(error).split())}", err=True)
    return error.exit_code


def _print_json(error: dict[str, object]) -> None:
    click.echo(json.dumps({"error": error}, indent=2))


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    sys.exit(SIGTERM_EXIT)
