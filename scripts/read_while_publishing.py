"""Read a run again and again while it is being replaced: every read has to see one whole run.

    scripts/read_while_publishing.py [--reads N] [--readers N] [--publications N] [--json FILE]

One process exports two versions of swin_pocket (batch 1 and batch 2) in turn into one folder; the
readers open the run as every command does, and check each of its files. A read that is refused, or
that finds files of both versions, is an error. Ends when there were enough reads and publications.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXPORT = ("export", "--variant", "swin_pocket", "--weights", "bundled", "--target", "cpu", "--json")
# One process for all publications, each a whole command: its start would take longer than its work.
PUBLISHER = """
import contextlib, io, shlex, sys
from swin_deploy.cli.main import run
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()):
        code = run(shlex.split(line))
    print(code, flush=True)
"""


def read(folder: Path) -> dict[str, str]:
    """Name -> sha256 of all files of the run, each compared with the manifest.

    Raises:
        SwinDeployError: As every command that reads a run.
    """
    from swin_deploy.run.finished import require_run

    run = require_run(folder)
    outputs = run.manifest.outputs()
    for name in outputs:
        run.checked(name)
    return outputs


def keep_reading(
    folder: Path, versions: list[dict[str, str]], stop: Event, counts: multiprocessing.Queue[Any]
) -> None:
    """Read until told to stop; every 50 reads, hand over how they went."""
    outcomes = Counter[str]()
    while not stop.is_set():
        try:
            outcomes["read" if read(folder) in versions else "a mixture"] += 1
        except Exception as error:  # whatever it is, it is counted
            outcomes[f"{type(error).__name__}: {str(error).replace(str(folder), '')[:80]}"] += 1
        if outcomes.total() >= 50:
            counts.put(outcomes)
            outcomes = Counter()
    counts.put(outcomes)


class Publisher:
    """The process that exports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def publish(self, batch: int) -> None:
        """Export the version of this batch."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the publisher has no pipes")
        line = shlex.join([*EXPORT, "--batch", str(batch), "--out", str(self.folder)])
        print(line, file=self.process.stdin, flush=True)
        if (code := self.process.stdout.readline().strip()) != "0":
            raise RuntimeError(f"an export of batch {batch} ended with {code or 'nothing'}")


def measure(folder: Path, reads: int, readers: int, publications: int) -> dict[str, Any]:
    """Publish and read; the figures for scripts/reliability.py."""
    started = time.monotonic()
    publisher = Publisher(folder)
    versions = []
    for batch in (1, 2):
        publisher.publish(batch)
        versions.append(read(folder))
    context = multiprocessing.get_context("spawn")
    stop, counts = context.Event(), context.Queue()
    arguments = (folder, versions, stop, counts)
    workers = [context.Process(target=keep_reading, args=arguments) for _ in range(readers)]
    for worker in workers:
        worker.start()
    outcomes, published = Counter[str](), 0
    while outcomes.total() < reads or published < publications:
        publisher.publish(published % 2 + 1)
        published += 1
        while not counts.empty():
            outcomes += counts.get()
        print(f"{published} publications, {outcomes.total()} reads", flush=True)
    stop.set()
    for _ in workers:
        outcomes += counts.get(timeout=60)
    for worker in workers:
        worker.join()
    while not counts.empty():
        outcomes += counts.get()
    publisher.process.communicate()
    errors = {name: count for name, count in outcomes.items() if name != "read"}
    return {
        "kind": "reads",
        "reads": outcomes.total(),
        "readers": readers,
        "publications": published,
        "errors": sum(errors.values()),
        "first_errors": errors,
        "seconds": round(time.monotonic() - started),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"scripts/read_while_publishing.py --reads {reads} --readers {readers} "
        f"--publications {publications}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reads", type=int, default=30_000, help="the fewest, of all readers")
    parser.add_argument("--readers", type=int, default=8, help="processes")
    parser.add_argument("--publications", type=int, default=20, help="the fewest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swin-deploy-reads.") as scratch:
        figures = measure(Path(scratch) / "run", asked.reads, asked.readers, asked.publications)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    for name, count in figures["first_errors"].items():
        print(count, name)
    print(shlex.join(f"{k}={v}" for k, v in figures.items() if isinstance(v, int)))
    sys.exit(5 if figures["errors"] else 0)


if __name__ == "__main__":
    main()
