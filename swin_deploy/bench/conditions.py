"""Under what a measurement was taken: cores, clocks, load, and a Jetson's power mode."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.records import Count, Number, Rows, Text

CPUS = Path("/sys/devices/system/cpu")
PERFORMANCE = "performance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What else decides on a time.

    Attributes:
        threads: That every runner on the CPU was given.
        affinity: The cores that this process may use.
        governors: Of their clocks; none in most virtual machines, where the host decides.
        load_before: Of the machine, over the minute before.
        nvpmodel: The power mode of a Jetson; None elsewhere, as the next.
        jetson_clocks: Its clocks.
    """

    threads: Count
    affinity: Rows[Count]
    governors: Rows[Text]
    load_before: Number
    nvpmodel: str | None
    jetson_clocks: str | None


def describe_conditions(threads: int, cpus: Path = CPUS) -> Conditions:
    """Read the conditions off this machine.

    Args:
        threads: That every runner on the CPU was given.
        cpus: Where the kernel describes the cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    files = [cpus / f"cpu{core}" / "cpufreq" / "scaling_governor" for core in cores]
    governors = sorted({file.read_text().strip() for file in files if file.is_file()})
    return Conditions(
        threads=threads,
        affinity=tuple(cores),
        governors=tuple(governors),
        load_before=round(os.getloadavg()[0], 2),
        nvpmodel=_answer("nvpmodel", "-q"),
        jetson_clocks=_answer("jetson_clocks", "--show"),
    )


def condition_warnings(conditions: Conditions) -> list[str]:
    """What of it makes times vary."""
    found = []
    slow = [name for name in conditions.governors if name != PERFORMANCE]
    if slow:
        found.append(
            f"the clock of the CPU follows its load (governor {', '.join(slow)}): "
            f"cpupower frequency-set -g {PERFORMANCE}"
        )
    cores = len(conditions.affinity)
    if conditions.threads > cores:
        found.append(f"{conditions.threads} threads share {cores} cores: --threads {cores}")
    return found


def _answer(*command: str) -> str | None:
    """What a program of JetPack prints; None where it is not there, or refuses."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(  # noqa: S603 - our own constants
        command, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None
