"""Kill exports and look at what is left: one whole run for every reader, and the same by a rerun.

    scripts/kill_runs.py [--count N] [--seed N] [--workers N] [--json FILE]

A run of swin_pocket lies in a folder and is replaced by another, of batch 2. The process is killed
(SIGKILL, alone: its children have to notice) before a call that changes the run folder, at each
such call of an export if --count has room for all of them, and at random times. After each death

* the old run or the new one is read, whole, as every command reads it;
* the same command again ends with exit 0 and with the bytes of a run that nobody killed;
* no process of the dead one is left.

The calls are those that Python reports to audit hooks: files opened for writing, renamed, removed,
linked, cut, folders made and removed. --json is for scripts/reliability.py.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from read_while_publishing import EXPORT, ROOT, read
from swin_deploy.core.errors import SwinDeployError

TIMEOUT_S = 600.0
ENDED_S = 30.0  # within which children of a dead process have to end
MARK = "SWIN_DEPLOY_KILL_RUNS"  # in the environment of every process that is started here

# Runs the command line, lists its calls, and dies before the one of this number; arguments: the run
# folder, the number, the list, the command line.
# Paths that are not absolute are counted too: they are relative to a folder that is held open.
DYING = """
import os, sys
from swin_deploy.cli.main import run
number = 0

def dies(event, arguments):
    global number
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        paths = [path] if writes else []
    elif event in ("os.rename", "os.link", "os.symlink"):
        paths = arguments[:2]
    elif event in ("os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
        paths = arguments[:1]
    else:
        return
    names = [os.fsdecode(path) for path in paths if isinstance(path, (str, bytes, os.PathLike))]
    if not any(not os.path.isabs(name) or name.startswith(folder) for name in names):
        return
    number += 1
    print(number, event, *names, file=listing, flush=True)
    if number == at:
        os.kill(os.getpid(), 9)

if __name__ == "__main__":  # children import this file too
    folder, at, listing = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w")
    sys.addaudithook(dies)
    sys.exit(run(sys.argv[4:]))
"""


@dataclass
class Findings:
    """What all deaths came to."""

    at_calls: int = 0
    at_random_times: int = 0
    reruns_identical: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """The folders of one measurement.

    Attributes:
        scratch: Of everything.
        old: The run that is to be replaced.
        expected: What the new one holds: name -> sha256.
        before: What the old one holds.
    """

    scratch: Path
    old: Path
    before: dict[str, str]
    expected: dict[str, str]

    def fresh(self) -> Path:
        """A copy of the old run, under the name that every run of this measurement has."""
        out = self.scratch / "run"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.old, out, symlinks=True)
        return out


def start(out: Path, *, at: int = 0, batch: str = "2") -> subprocess.Popen[bytes]:
    """An export into ``out`` that dies before its call number ``at``; of 0, it never does."""
    wrapper = out.parent / "dying.py"
    wrapper.write_text(DYING)
    command = [str(wrapper), str(out), str(at), str(out.parent / "calls.txt")]
    with (out.parent / "stderr.txt").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, *command, *EXPORT, "--batch", batch, "--out", str(out)],
            env=os.environ | {"PYTHONPATH": str(ROOT), MARK: str(os.getpid())},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def finish(out: Path, batch: str = "2") -> None:
    """Run it to its end, which has to be a good one."""
    process = start(out, batch=batch)
    if (code := process.wait(TIMEOUT_S)) != 0:
        raise RuntimeError(f"exit {code}: {(out.parent / 'stderr.txt').read_text()[-300:]}")


def contents(out: Path) -> dict[str, str] | None:
    """Name -> sha256 of every file that the manifest lists; None where it is not what is there."""
    try:
        manifest = json.loads((out / "manifest.json").read_text())
        listed = {n: h for s in manifest["stages"].values() for n, h in s["outputs"].items()}
        found = {n: hashlib.sha256((out / n).read_bytes()).hexdigest() for n in listed}
    except (OSError, ValueError, KeyError):
        return None
    return found if found == listed else None


def visible(out: Path) -> set[str]:
    """Names of all files but hidden ones."""
    paths = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return {str(path) for path in paths if not any(part.startswith(".") for part in path.parts)}


def prepare(scratch: Path) -> tuple[Bench, int, float]:
    """The old run and the new one, as nobody disturbs them; calls and seconds of the latter."""
    old, new = scratch / "old" / "run", scratch / "new" / "run"
    for folder in (old, new):
        folder.parent.mkdir()
        finish(folder, batch="1")
    started = time.monotonic()
    finish(new)
    seconds = time.monotonic() - started
    calls = len((new.parent / "calls.txt").read_text().splitlines())
    before, expected = contents(old), contents(new)
    if before is None or expected is None or visible(old) != visible(new):
        raise RuntimeError(f"{scratch}: an undisturbed run is not what its manifest says")
    return Bench(scratch=scratch, old=old, before=before, expected=expected), calls, seconds


def kill(bench: Bench, findings: Findings, at: int, after_s: float) -> None:
    """One death, before a call or after a time, and the run that follows."""
    out = bench.fresh()
    where = f"call {at}" if at else f"{after_s:.2f} s"
    process = start(out, at=at)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.kill()
    died = process.wait(TIMEOUT_S) == -signal.SIGKILL
    if at:
        findings.at_calls += died
        where += " " + last_line(bench.scratch / "calls.txt")
    else:
        findings.at_random_times += 1  # one that had just ended is a death after the last moment
    try:
        if read(out) not in (bench.before, bench.expected):
            findings.faults.append(f"{where}: a mixture of both runs is left")
    except SwinDeployError as error:
        findings.faults.append(f"{where}: neither run can be read: {error}")
    for name in outlived(process.pid):
        findings.faults.append(f"{where}: {name} outlived it")
    try:
        finish(out)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        findings.faults.append(f"{where}: the rerun failed: {error}")
        return
    same = contents(out) == bench.expected and visible(out) == set(visible(bench.old))
    findings.reruns_identical += same
    if not same:
        findings.faults.append(f"{where}: the rerun ended with other files")


def outlived(parent: int) -> list[str]:
    """Processes of a dead one that do not end by themselves; they are ended here."""
    names = []
    deadline = time.monotonic() + ENDED_S
    for child in descendants(parent):
        with contextlib.suppress(psutil.NoSuchProcess):
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except psutil.TimeoutExpired:
                names.append(" ".join(child.cmdline()[-3:]))
                child.kill()
    return names


def descendants(parent: int) -> list[psutil.Process]:
    """Processes that inherited the mark of an export, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(os.getpid()) and process.pid != parent:
                found.append(process)
    return found


def last_line(path: Path) -> str:
    return (path.read_text().splitlines() or [""])[-1]


def plan(count: int, calls: int, seconds: float, choose: random.Random) -> list[tuple[int, float]]:
    """(call, longest time) and (0, time) of every death: calls first, as many as there are.

    Where ``count`` is short, half of the deaths are at calls, the last ones foremost: publication.
    """
    chosen = range(1, calls + 1) if count >= 2 * calls else range(calls, 0, -1)[: (count + 1) // 2]
    times = [(0, choose.uniform(0.2, seconds)) for _ in range(count - len(chosen))]
    return [*((at, TIMEOUT_S) for at in chosen), *times]


def work(bench: Bench, number: int, deaths: list[tuple[int, float]]) -> Findings:
    """Some of the deaths, in folders of their own."""
    own = replace(bench, scratch=bench.scratch / f"worker{number}")
    own.scratch.mkdir()
    findings = Findings()
    for index, (at, after_s) in enumerate(deaths, 1):
        known = len(findings.faults)
        kill(own, findings, at, after_s)
        for fault in findings.faults[known:]:
            print(f"worker {number}, {index}/{len(deaths)}: {fault}", flush=True)
        if index % 10 == 0:
            print(f"worker {number}: {index}/{len(deaths)}", flush=True)
    return findings


def measure(scratch: Path, count: int, seed: int, workers: int) -> dict[str, Any]:
    """Kill ``count`` exports; the figures for scripts/reliability.py."""
    started = time.monotonic()
    bench, calls, seconds = prepare(scratch)
    print(f"an undisturbed export: {calls} calls, {seconds:.1f} s", flush=True)
    deaths = plan(count, calls, seconds, random.Random(seed))
    # Spawned, because each marks the processes of its own exports with its number.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        shares = [pool.submit(work, bench, n, deaths[n::workers]) for n in range(workers)]
        parts = [share.result() for share in shares]
    findings = Findings(
        at_calls=sum(part.at_calls for part in parts),
        at_random_times=sum(part.at_random_times for part in parts),
        reruns_identical=sum(part.reruns_identical for part in parts),
        faults=[fault for part in parts for fault in part.faults],
    )
    return {
        "kind": "kills",
        "kills": findings.at_calls + findings.at_random_times,
        "at_calls": findings.at_calls,
        "calls_of_an_export": calls,
        "at_random_times": findings.at_random_times,
        "reruns_identical": findings.reruns_identical,
        "faults": len(findings.faults),
        "first_faults": findings.faults[:20],
        "seconds": round(time.monotonic() - started),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"scripts/kill_runs.py --count {count} --seed {seed} --workers {workers}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the times")
    parser.add_argument("--workers", type=int, default=1, help="that kill at the same time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swin-deploy-kills.") as scratch:
        figures = measure(Path(scratch), asked.count, asked.seed, asked.workers)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(shlex.join(f"{k}={v}" for k, v in figures.items() if isinstance(v, int)))
    sys.exit(5 if figures["faults"] else 0)


if __name__ == "__main__":
    main()
