"""Rewrite the records of what the compiler makes of the networks: tests/kernels/*.txt.

    scripts/record_kernels.py [--out FOLDER] [CASE ...]

A case is called as its record is, without the suffix; all of them without one. The records are what
tests/engine/test_full_size.py holds the engines to; git shows what changed. No GPU is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    # In here, because the children in which graphs are compiled import this file again.
    from fusion.rows import from_tests

    records = from_tests("kernel_records")
    cases = {str(case): case for case in records.CASES}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=cases, metavar="CASE", help=", ".join(cases))
    parser.add_argument("--out", type=Path, default=records.FOLDER, help="tests/kernels by default")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.cases or cases:
        path = arguments.out / f"{name}.txt"
        new = records.make_record(records.compile_case(cases[name]))
        old = path.read_text() if path.exists() else None
        path.write_text(new)
        print(f"{path}: {'as it was' if old == new else 'rewritten'}", flush=True)


if __name__ == "__main__":
    main()
