"""Read damaged checkpoints and count what becomes of them.

    scripts/fuzz.py [--count N] [--seed N]

Ends with an error, and names the file that did it, where one is neither read nor refused by type;
a file that takes longer than the limit ends the process by SIGALRM.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from fuzzing.checkpoints import LIMIT_S, fuzz


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="files to read")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="swin-deploy-fuzz."))
    print(f"{asked.count} damaged files of seed {asked.seed}, {LIMIT_S} s each, in {folder}")
    for outcome, count in sorted(fuzz(folder, asked.count, asked.seed).items()):
        print(outcome, count)
    (folder / "damaged.pth").unlink()
    folder.rmdir()


if __name__ == "__main__":
    main()
