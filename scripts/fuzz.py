"""Read damaged files and count what becomes of them: a result, a typed error, or a fault of ours.

    scripts/fuzz.py [--count N] [--seconds S] [--seed N] [--subject NAME ...] [--json FILE]

Subjects are checkpoints, graphs, photos, arrays and texts. Any error without a type, hang or crash
makes the exit code 5; --keep FOLDER keeps the first input of each kind, to be put into the folder
tests/fuzzed, which the tests read again. A million: scripts/fuzz.py --count 1000000 --workers 2
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fuzzing.run import Findings, fuzz
from fuzzing.subjects import SUBJECTS

FAULTS = ("untyped", "hang", "crash")


def figures(found: Findings, asked: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """For scripts/reliability.py."""
    faults = found.total(*FAULTS)
    subjects = "".join(f" --subject {name}" for name in asked.subject or ())
    return {
        "kind": "fuzz",
        "inputs": found.total(),
        "read": found.total("read"),
        "refused": found.total() - found.total("read") - faults,
        "untyped": found.total("untyped"),
        "hangs": found.total("hang"),
        "crashes": found.total("crash"),
        "seed": asked.seed,
        "subjects": ", ".join(asked.subject or SUBJECTS),
        "failures": sorted(f"{name}: {what}" for name, what in found.failures),
        "seconds": round(seconds),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"scripts/fuzz.py --count {asked.count} --seed {asked.seed}{subjects}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="files to read")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="the longest")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--subject", action="append", choices=sorted(SUBJECTS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for inputs that were a fault")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    asked = parser.parse_args()
    subjects = {name: SUBJECTS[name] for name in asked.subject or SUBJECTS}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swin-deploy-fuzz.") as folder:
        found = fuzz(
            Path(folder),
            subjects,
            count=asked.count,
            seed=asked.seed,
            workers=asked.workers,
            seconds=asked.seconds,
        )
    for (name, outcome), count in sorted(found.outcomes.items()):
        print(name, outcome, count)
    for (name, what), content in sorted(found.failures.items()):
        print(f"{name}: {what}", file=sys.stderr)
        if asked.keep:
            asked.keep.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(content).hexdigest()[:12]
            (asked.keep / f"{name}-{digest}{SUBJECTS[name].suffix}").write_bytes(content)
    if asked.json:
        result = figures(found, asked, time.monotonic() - started)
        asked.json.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(5 if found.total(*FAULTS) else 0)


if __name__ == "__main__":
    main()
