"""Processes that are killed at a point that has a name: of a worker, of an export."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from swin_deploy.measure.workers import crew

SCRIPT = """
    import os, signal, sys
    import psutil
    from swin_deploy.cli import main as cli
    from swin_deploy.measure.workers import crew

    def wrap(name, after):
        real = getattr(crew, name)
        def changed(*args):
            results = real(*args)
            yield next(results)
            after(results, *args)
            yield from results
        setattr(crew, name, changed)

    def die(*_):
        children = psutil.Process().children(recursive=True)
        print(*(child.pid for child in children), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_actor(results, ray, *_):
        # The one that gave the first result: it has nothing to do, and is given the next item.
        actor = results.gi_frame.f_locals["actor"]
        os.kill(ray.get(actor.__ray_call__.remote(lambda self: os.getpid())), signal.SIGKILL)

    if __name__ == "__main__":
        name, after, *arguments = sys.argv[1:]
        wrap(name, globals()[after])
        sys.exit(cli.run(arguments))
"""


# Dies at the point that its first argument names: "record STAGE" before a finished stage is noted,
# "publish" before anything is published, "discard" when all is, before the staging area goes.
EXPORT = """
    import os, signal, sys
    from swin_deploy.cli import main as cli
    from swin_deploy.run import folder

    def dies_before(owner, name, point):
        real = getattr(owner, name)
        def changed(*args, **more):
            if point(*args) == sys.argv[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)
        setattr(owner, name, changed)

    if __name__ == "__main__":
        dies_before(folder.RunFolder, "record", lambda run, stage, *_: f"record {stage}")
        dies_before(folder, "publish", lambda *_: "publish")
        dies_before(folder.RunFolder, "discard", lambda *_: "discard")
        sys.exit(cli.run(sys.argv[2:]))
"""


def export_until(point: str, folder: Path, *arguments: str) -> None:
    """Export by the command line, killed at a point of ``EXPORT``.

    Args:
        point: Its name.
        folder: For the script.
        arguments: Those of ``swin-deploy export``.
    """
    script = folder / "export.py"
    script.write_text(textwrap.dedent(EXPORT))
    done = subprocess.run(
        [sys.executable, str(script), point, "export", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, (point, done.stdout, done.stderr)


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, with one executor changed.

    Args:
        folder: For the script.
        arguments: Name of the executor, "die" or "kill_actor", and those of the command line.
    """
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def kill_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the worker processes of this one dies once the first result is there."""
    real = crew.run_in_processes

    def killing(*args: Any) -> Iterator[tuple[str, Any]]:
        results = real(*args)
        yield next(results)
        workers = psutil.Process().children()
        victim = next(p for p in workers if "spawn_main" in " ".join(p.cmdline()))
        os.kill(victim.pid, signal.SIGKILL)
        yield from results

    monkeypatch.setattr(crew, "run_in_processes", killing)
