"""CPU seconds until a command line that cannot be met is refused.

    scripts/measure_refusals.py

Each is a process of its own, started as a user starts it; the seconds are those of its user and
system time together, the interpreter's start included. A second is what users are promised.
"""

from __future__ import annotations

import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_S = 1.0
LINES = (
    "export --variant swim_t",
    "export --variant swin_t --target orin",
    "export --variant swin_t --images nowhere",
    "export --variant swin_t --precision int8 --calibration nowhere",
    "export --variant swin_t --precision fp32 --calibration-method mse",
    "export --weights nowhere.pth --target orin --images nowhere",
    "inspect nowhere.pth",
    "qat --variant swin_t --weights nowhere.pth --data x --calibration y --out z",
    "verify nowhere --between eager,fp16",
    "bench nowhere --rounds 1",
    "evaluate nowhere --data nowhere",
    "sensitivity nowhere --calibration nowhere",
    "scaling --networks swim_t",
    "cost nowhere --gpu b300",
    "bundle nowhere --target orin",
    "report nowhere",
    "predict nowhere gone.jpg",
)


def measure(line: str, folder: Path) -> tuple[int, float]:
    """Exit code of a command line, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "swin_deploy", *shlex.split(line)]
    child = subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return child.returncode, sum(
        getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime")
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {line: measure(line, Path(folder)) for line in LINES}
    for line, (code, seconds) in found.items():
        print(f"{seconds:5.2f} s  exit {code}  swin-deploy {line}")
    slow = [line for line, (code, seconds) in found.items() if seconds > MOST_S or not code]
    sys.exit(f"{len(slow)} are not refused in {MOST_S:g} s" if slow else 0)


if __name__ == "__main__":
    main()
