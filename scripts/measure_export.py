"""Time and peak memory of one ``swin-deploy export``, its child processes included.

    scripts/measure_export.py --variant swin_t

Arguments go to ``export``; the run folder is a temporary one. Memory is the resident set of all
processes together, sampled every 20 ms, pages that they share counted once (PSS).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import psutil


def tree_memory(root: psutil.Process) -> int:
    """Proportional set size of a process and all below it, in bytes."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:  # it ended between the listing and the look
            continue
    return total


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "swin_deploy", "export", *sys.argv[1:], "--out", folder]
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_memory(psutil.Process(process.pid)))
            time.sleep(0.02)
        seconds = time.monotonic() - start
    if process.returncode:
        sys.exit(process.returncode)
    print(f"export {' '.join(sys.argv[1:])}: {seconds:.1f} s, peak memory {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
