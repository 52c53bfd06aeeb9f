"""Our own commands, each in a process of its own, and what their reports say in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import EnvironmentMissingError

Done = tuple[str, dict[str, Any]]


class CommandError(Exception):
    """A command failed.

    Attributes:
        details: What it printed.
    """

    def __init__(self, says: str, details: dict[str, Any]) -> None:
        super().__init__(says)
        self.details = details


def run_command(*arguments: str | Path) -> dict[str, Any]:
    """The object that ``swin-deploy ... --json`` prints.

    Raises:
        EnvironmentMissingError: This machine lacks what it needs.
        CommandError: It failed otherwise, or was killed.
    """
    command = [sys.executable, "-m", "swin_deploy", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:  # of a library that took the process down
        found = {}
    if done.returncode == 0 and found:
        return found
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    says = str(found.get("error", {}).get("message", last))
    if done.returncode == EnvironmentMissingError.exit_code:
        raise EnvironmentMissingError(says)
    said = {"exit_code": done.returncode, "stderr": done.stderr, **found}
    raise CommandError(f"{' '.join(command[2:4])} exits with {done.returncode}: {says}", said)


def export(network: str, target: str, batch: str, out: Path) -> Done:
    """A run for one target."""
    kind = "--config" if network.endswith(".toml") else "--variant"
    found = run_command(
        *("export", kind, network, "--batch", batch, "--target", target, "--out", out)
    )
    stages = {name: stage["details"] for name, stage in found["stages"].items()}
    engines = [stage for name, stage in stages.items() if name.startswith("engine:")]
    says = "; ".join(map(_engine, engines))
    return "; ".join([says, *_reasons(found["header"]["never_run"])]), found


def _engine(details: dict[str, Any]) -> str:
    says = f"{details['module']} {details['version']}, {details['precision']}"
    if details["kernels"] is None:
        return says
    return f"{says}: {details['kernels']} kernels, {details['fused_attentions']} fused attentions"


def cost(run: Path) -> Done:
    """What the compilers made of it."""
    found = run_command("cost", run)
    says = (
        f"{engine['name']}: {engine['totals']['kernels']} kernels, "
        f"{engine['fused_attentions']} of {engine['attentions']} attentions fused"
        for engine in found["engines"]
    )
    return "; ".join(says), found


def verify(run: Path) -> Done:
    """Every batch size, and one image in every slot of each, against eager PyTorch on the CPU.

    Raises:
        EnvironmentMissingError: An engine cannot run here; the graphs that did passed.
    """
    found = run_command("verify", run)
    if found["not_run"]:
        raise EnvironmentMissingError("; ".join(_reasons(found["not_run"])))
    levels = [row["sqnr_db"] for row in found["checks"]]  # None: equal
    least = min((level for level in levels if level is not None), default=float("inf"))
    return f"{len(found['checks'])} comparisons, at least {least:.1f} dB", found


def bench(path: Path, rounds: int, extra: tuple[str, ...], require: Callable[[], None]) -> Done:
    """Times in turns beside eager PyTorch, outputs compared first.

    Args:
        path: A run, or a graph of one.
        rounds: Turns.
        extra: More options.
        require: Raises where there is no GPU to time.
    """
    require()
    found = run_command("bench", path, "--rounds", str(rounds), *extra)
    for line in bench_lines(found):
        print(line)
    skipped = _reasons(found["not_run"])
    return "; ".join([f"{len(found['measurements'])} in turns", *skipped]), found


def bench_lines(report: dict[str, Any]) -> Iterator[str]:
    """The table of a report of ``bench``."""
    heads = ("batch", "p50 ms", "p99 ms", "images/s", "speed-up", "GPU ms")
    yield " ".join([f"{'runner':<52}", *(f"{head:>9}" for head in heads)])
    for row in report["measurements"]:
        gpu = "" if row["gpu_ms"] is None else f"{row['gpu_ms']:.3f}"
        cells = [str(row["batch"]), f"{row['p50_ms']:.3f}", f"{row['p99_ms']:.3f}"]
        cells += [f"{row['images_per_s']:.1f}", f"{row['speedup']:.2f}x", gpu]
        yield " ".join([f"{row['name']:<52}", *(f"{cell:>9}" for cell in cells)])
    yield from report["warnings"]


def _reasons(not_run: dict[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in not_run.items()]
