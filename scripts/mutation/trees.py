"""Copies of the tree in which tests run on a changed module, in forked processes with a clock."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from mutation.changes import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
SHORTEST_S = 60.0  # that a clock is set to: the machine may be busy
# Imported once, before the processes are forked; nothing of the project.
HEAVY = ("numpy", "torch", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "PIL.Image", "pytest")


def copy_tree(target: Path) -> Path:
    """The files of the tree as they are, without what git ignores."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def start_tests(tree: Path, tests: tuple[str, ...], log: Path) -> int:
    """Fork a process that runs quick tests in a tree; its exit code is that of pytest."""
    if (pid := os.fork()) != 0:
        return pid
    try:
        os.setsid()
        os.chdir(tree)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.path[:] = [p for p in sys.path if p and not Path(p).is_relative_to(ROOT / "scripts")]
        sys.path[:0] = [str(tree), str(tree / "scripts")]
        sys.dont_write_bytecode = True
        os.environ.update(
            PYTHONPATH=f"{tree}{os.pathsep}{tree / 'scripts'}",
            PYTHONDONTWRITEBYTECODE="1",  # of the same size and second, another change is older
            OMP_WAIT_POLICY="passive",
        )
        import pytest

        files = [str(next(Path("tests").rglob(f"{name}.py"))) for name in tests]
        options = ["-x", "-q", "--tb=short", "--show-capture=no", "-m", "not slow"]
        options += ["-p", "no:cacheprovider", "-p", "no:xdist"]
        os._exit(int(pytest.main([*options, f"--basetemp={tree}.tmp", *files])))
    finally:
        os._exit(99)


@dataclass
class Worker:
    """A copy of the tree, and the process that runs in it."""

    tree: Path
    pid: int = 0
    started: float = 0.0
    mutant: Mutant | None = None
    original: bytes = b""

    def start(self, module: str, tests: tuple[str, ...], mutant: Mutant | None) -> None:
        path = self.tree / module
        self.original, self.mutant = path.read_bytes(), mutant
        if mutant is not None:
            path.write_bytes(mutant.apply(self.original))
        self.started = time.monotonic()
        self.pid = start_tests(self.tree, tests, self.tree.with_suffix(".log"))

    def outcome(self, limit_s: float) -> str | None:
        """What became of it, None while it runs; then the tree is as before."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = time.monotonic() - self.started > limit_s
        if not pid and not late:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started, too
        if not pid:
            os.waitpid(self.pid, 0)
        self.pid = 0
        if self.mutant is not None:
            (self.tree / self.mutant.module).write_bytes(self.original)
        code = os.waitstatus_to_exitcode(status) if pid else None
        if code in (4, 5, 99):  # of pytest: usage, no tests; of ours: no pytest
            raise SystemExit(self.tree.with_suffix(".log").read_text()[-2000:])
        return "timeout" if code is None else "survived" if code == 0 else "killed"


@dataclass
class Findings:
    """Which changes were noticed."""

    outcomes: list[tuple[Mutant, str]] = field(default_factory=list)

    def of(self, outcome: str) -> list[Mutant]:
        return sorted(mutant for mutant, found in self.outcomes if found == outcome)


def run_mutants(
    folder: Path, mutants: list[Mutant], tests: dict[str, tuple[str, ...]], workers: int
) -> Findings:
    """Run the tests of every mutant; its clock is five times what they take without a change."""
    for name in HEAVY:
        importlib.import_module(name)
    crew = [Worker(copy_tree(folder / str(number))) for number in range(workers)]
    limits = {t: baseline(crew[0], t) for t in sorted({tests[m.module] for m in mutants})}
    findings, waiting = Findings(), list(reversed(mutants))
    while waiting or any(worker.pid for worker in crew):
        for worker in crew:
            if worker.pid:
                limit_s = limits[tests[worker.mutant.module]] if worker.mutant else 0.0
                outcome = worker.outcome(limit_s)
                if outcome is None or worker.mutant is None:
                    continue
                findings.outcomes.append((worker.mutant, outcome))
                done, m = len(findings.outcomes), worker.mutant
                what = f"{m.module}:{m.line} {m.operator}: {m.before!r} -> {m.after!r}"
                print(f"{done}/{len(mutants)} {outcome} {what}", flush=True)
            if waiting:
                mutant = waiting.pop()
                worker.start(mutant.module, tests[mutant.module], mutant)
        time.sleep(0.05)
    return findings


def baseline(worker: Worker, tests: tuple[str, ...]) -> float:
    """Seconds after which tests are stopped; they have to pass as the code is."""
    worker.start("pyproject.toml", tests, None)
    while (outcome := worker.outcome(1800)) is None:
        time.sleep(0.05)
    if outcome != "survived":
        raise SystemExit(worker.tree.with_suffix(".log").read_text()[-2000:])
    seconds = time.monotonic() - worker.started
    print(f"{', '.join(tests)}: {seconds:.0f} s without a change", flush=True)
    return max(SHORTEST_S, 5 * seconds)
