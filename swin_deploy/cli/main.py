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
from swin_deploy.cli.cost import cost
from swin_deploy.cli.doctor import doctor
from swin_deploy.cli.export import export
from swin_deploy.cli.inspect import inspect
from swin_deploy.cli.qat import qat
from swin_deploy.cli.report import report
from swin_deploy.cli.sensitivity import sensitivity
from swin_deploy.cli.targets import targets
from swin_deploy.cli.variants import variants
from swin_deploy.errors import ResourceError, SwinDeployError, UsageError, from_os_error
from swin_deploy.interrupts import SIGNALS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(swin_deploy.__version__, prog_name="swin-deploy")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Turn a Swin Transformer into an engine, and prove that it still agrees.

    \b
    Start with:  swin-deploy export --variant swin_t
    Then:        swin-deploy bench --engine artifacts/swin_t
    """


for _command in (export, qat, bench, cost, sensitivity, report, inspect, variants, targets, doctor):
    main.add_command(_command)


class _Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop."""


def entry() -> None:
    """The console script."""
    code = run(sys.argv[1:])
    if code > 128:  # native threads that were cut off may abort the interpreter's own end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code (see ``swin_deploy.errors``)."""
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise _Interrupted

    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        return _invoke(list(arguments), as_json, debug)
    except Exception as error:
        if not received:  # a bug of ours: its traceback is for whoever mends it
            if as_json:
                text = f"{type(error).__name__}: {error}"
                _print_json({"code": "E_BUG", "exit_code": 1, "message": text})
            raise
    except (click.Abort, KeyboardInterrupt):
        received = received or [signal.SIGINT]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    # Whatever was raised after the signal, an import that was cut off for example, is its doing.
    code = 128 + received[0]  # as shells count
    if as_json:
        _print_json({"code": "E_INTERRUPTED", "exit_code": code, "message": "interrupted"})
    click.echo("interrupted", err=True)
    return code


def _invoke(arguments: list[str], as_json: bool, debug: bool) -> int:
    try:
        code = main.main(arguments, prog_name="swin-deploy", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        return _usage_error(error, as_json)
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SwinDeployError as error:
        return _fail(error, as_json, debug)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        return _fail(ResourceError("out of memory", "a smaller network or batch"), as_json, debug)
    except OSError as error:
        if (known := from_os_error(error)) is None:
            raise
        return _fail(known, as_json, debug)
    return code if isinstance(code, int) else 0  # what a command gave to ctx.exit


def _usage_error(error: click.ClickException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path if context else 'swin-deploy'} --help"
    return _report(UsageError(error.format_message(), hint), as_json)


def _fail(error: SwinDeployError, as_json: bool, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if "verification" in error.details and not as_json:
        from swin_deploy.report.console import stderr
        from swin_deploy.report.run_tables import print_comparisons

        print_comparisons(error.details["verification"]["comparisons"], stderr())
    return _report(error, as_json)


def _report(error: SwinDeployError, as_json: bool) -> int:
    if as_json:
        _print_json(error.as_dict())
    click.echo(f"error[{error.code}]: {' '.join(str(error).split())}", err=True)
    return error.exit_code


def _print_json(error: dict[str, object]) -> None:
    click.echo(json.dumps({"error": error}, indent=2))
