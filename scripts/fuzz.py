"""Read damaged files and count what becomes of them.

    scripts/fuzz.py [--count N] [--seed N] [--kind KIND]...

Ends with an error, and leaves the file that did it, where one is neither read nor refused by type;
a file that takes longer than the limit ends the process by SIGALRM.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from fuzzing import checkpoints, readers

CHECKPOINT = "checkpoint"


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="swin-deploy-fuzz."))
    kinds = readers.kinds(folder)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="files to read of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument(
        "--kind",
        action="append",
        choices=(CHECKPOINT, *kinds),
        help="of files, any number of times; all of them if none is named",
    )
    asked = parser.parse_args()
    limit = checkpoints.LIMIT_S
    print(f"{asked.count} damaged files of seed {asked.seed}, {limit} s each, in {folder}")
    for name in asked.kind or (CHECKPOINT, *kinds):
        if name == CHECKPOINT:
            found = checkpoints.fuzz(folder, asked.count, asked.seed)
        else:
            found = readers.fuzz(folder, kinds[name], asked.count, asked.seed)
        for outcome, count in sorted(found.items()):
            print(name, outcome, count, flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
