"""Change the code in small ways and see whether the tests notice: every change has to fail one.

    scripts/mutate.py [--sample N] [--seed N] [--module PATH ...] [--workers N] [--json FILE]

A change is one operator, constant, condition, statement or return value. Each is made in a copy of
the tree, and the quick tests of its module run there, up to the first that fails, in a process with
a clock. What survives and cannot matter stands in scripts/mutate_survivors.json with the reason.
Ends with exit code 5 below --least per cent, or, with --strict, where a survivor has no reason.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mutation.changes import find_mutants
from mutation.trees import ROOT, Findings, run_mutants

SURVIVORS = ROOT / "scripts" / "mutate_survivors.json"
# Modules (patterns below swin_deploy) -> tests that have to notice, the quickest first.
TARGETS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("network/judge.py", "measure/verify/comparison.py", "measure/verify/outputs.py"): (
        *(
            "test_judge",
            "test_floors",
            "test_metrics",
            "test_verify",
            "test_gate",
            "test_gate_plans",
        ),
        *("test_gate_int8", "test_verify_command", "test_verify_bisect", "test_verify_saved"),
    ),
    ("measure/verify/checks.py",): (
        *("test_judge", "test_floors", "test_verify", "test_verify_command"),
        *("test_verify_bisect", "test_verify_saved"),
    ),
    ("run/*.py", "core/own_files.py", "core/files.py"): (
        *("test_run", "test_publication", "test_links", "test_manifest_damage"),
        *("test_cli", "test_pipeline"),
    ),
    ("pipeline/gate.py", "measure/verify/conversions.py"): (
        *("test_gate", "test_gate_plans", "test_gate_int8", "test_pipeline", "test_outputs"),
        *("test_interface", "test_rounding", "test_int8_pipeline"),
    ),
}


def modules_of(root: Path) -> dict[str, tuple[str, ...]]:
    """Every module of the table -> its tests; a pattern without a module is a mistake."""
    found = {}
    for patterns, tests in TARGETS.items():
        for pattern in patterns:
            paths = sorted((root / "swin_deploy").glob(pattern))
            if not paths:
                raise SystemExit(f"swin_deploy/{pattern} is no module: mend TARGETS")
            found.update({str(path.relative_to(root)): tests for path in paths})
    return found


def explanations() -> dict[tuple[str, str, str], str]:
    """(module, before, after) -> why the change cannot matter."""
    entries = json.loads(SURVIVORS.read_text(encoding="utf-8"))
    return {(e["module"], e["before"], e["after"]): e["reason"] for e in entries}


def figures(findings: Findings, seconds: float, command: str) -> dict[str, Any]:
    """For scripts/reliability.py."""
    known = explanations()
    survived, total = findings.of("survived"), len(findings.outcomes)
    open_ones = [m for m in survived if m.key() not in known]
    caught = total - len(survived)
    return {
        "kind": "mutants",
        "mutants": total,
        "killed": len(findings.of("killed")),
        "timeouts": len(findings.of("timeout")),
        "survived": len(survived),
        "explained": len(survived) - len(open_ones),
        "percent": round(100 * caught / total, 1) if total else 0.0,
        "open": [f"{m.module}:{m.line} {m.before!r} -> {m.after!r}" for m in open_ones],
        "seconds": round(seconds),
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, metavar="N", help="so many, chosen by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", action="append", metavar="PATH", help="of the table; all")
    parser.add_argument("--workers", type=int, default=1, help="copies of the tree")
    parser.add_argument("--least", type=float, default=85.0, help="per cent to be noticed")
    parser.add_argument("--strict", action="store_true", help="explain every survivor")
    parser.add_argument("--list", action="store_true", help="print the changes and make none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    asked = parser.parse_args()
    tests, started = modules_of(ROOT), time.monotonic()
    if unknown := set(asked.module or ()) - tests.keys():
        parser.error(f"not in the table: {', '.join(sorted(unknown))}")
    mutants = [m for p in asked.module or tests for m in find_mutants(p, (ROOT / p).read_bytes())]
    if asked.sample is not None and asked.sample < len(mutants):
        mutants = sorted(random.Random(asked.seed).sample(mutants, asked.sample))
    if asked.list:
        for m in mutants:
            print(f"{m.module}:{m.line} {m.operator}: {m.before!r} -> {m.after!r}")
        print(len(mutants))
        return
    with tempfile.TemporaryDirectory(prefix="swin-deploy-mutants.") as folder:
        findings = run_mutants(Path(folder), mutants, tests, asked.workers)
    said = [w for w in sys.argv[1:] if w not in ("--json", str(asked.json))]  # where it lies is not
    command = shlex.join(["scripts/mutate.py", *said])
    result = figures(findings, time.monotonic() - started, command)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{result['percent']} % of {result['mutants']} noticed; open: {len(result['open'])}")
    sys.exit(5 if result["percent"] < asked.least or (asked.strict and result["open"]) else 0)


if __name__ == "__main__":
    main()
