"""Measure parity with the libraries that checkpoints come from: all cases of tests/parity.

    scripts/measure_parity.py [--quick]

Prints the table of docs/parity.md: logits and the worst stage against the
library's own forward, in dB.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent / "tests"
FILES = ("timm", "torchvision", "hugging_face", "rebuilt", "reimplementations")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest variants only")
    arguments = parser.parse_args()
    sys.path[:0] = [str(TESTS), str(TESTS / "support"), str(TESTS / "parity")]
    parity = importlib.import_module("parity")
    cases = [
        case
        for name in FILES
        for case in importlib.import_module(f"test_parity_{name}").CASES
        if case.is_quick or not arguments.quick
    ]
    for line in parity.table([]):
        print(line)
    for case in cases:
        print(parity.table([parity.check(case)])[-1], flush=True)


if __name__ == "__main__":
    main()
