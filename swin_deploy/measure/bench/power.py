"""Conditions of a measurement: cores, clocks, load; on a Jetson power mode and energy.

The INA3221 of a Jetson gives millivolts and milliamperes of each rail in sysfs (hwmon); NVIDIA's
documentation names the files in1_input, curr1_input and in1_label, and so on for each channel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from swin_deploy.core.errors import present
from swin_deploy.core.records import Count, Number, Rows, Text

HWMON = Path("/sys/class/hwmon")
MONITOR = "ina3221"
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0")  # rails through which all power comes in
PERIOD_S = 0.02
IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Rail:
    """One supply: files with its millivolts and its milliamperes."""

    label: str
    millivolts: Path
    milliamperes: Path

    def watts(self) -> float:
        """What it delivers now."""
        volts, amperes = (int(p.read_text()) / 1e3 for p in (self.millivolts, self.milliamperes))
        return volts * amperes


def find_rails(hwmon: Path = HWMON) -> list[Rail]:
    """The rails whose sum is the power of the board; none where no such monitor is there.

    A rail that feeds the whole board counts alone. Where there is none, all rails of the monitor
    are added: on those boards each feeds a part.
    """
    rails = []
    for folder in sorted(hwmon.glob("hwmon*")):
        name = folder / "name"
        if not name.is_file() or name.read_text().strip() != MONITOR:
            continue
        for label in sorted(folder.glob("in*_label")):
            channel = label.name.removeprefix("in").removesuffix("_label")
            volts, amperes = (folder / f"{kind}{channel}_input" for kind in ("in", "curr"))
            if volts.is_file() and amperes.is_file():
                rails.append(Rail(label.read_text().strip(), volts, amperes))
    return [rail for rail in rails if rail.label in WHOLE_BOARD][:1] or rails


class PowerMeter:
    """Reads the rails in a thread of its own for the block, after the idle machine's power.

    Args:
        rails: At least one.
        period_s: Between two readings.
        idle_s: How long the idle machine is watched when it is entered.
    """

    def __init__(
        self, rails: Sequence[Rail], period_s: float = PERIOD_S, idle_s: float = IDLE_S
    ) -> None:
        self.rails = tuple(rails)
        self.idle_s = idle_s
        self.idle_w = 0.0
        self._period_s = period_s
        self._seconds: list[float] = []
        self._watts: list[float] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._seconds, self._watts = [], []
        self._stop.clear()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        time.sleep(self.idle_s)
        self.idle_w = float(np.mean(self._watts)) if self._watts else 0.0
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        present(self._thread).join()

    def joules(self, spans: Sequence[tuple[float, float]]) -> float:
        """Energy above idle in these spans of ``time.perf_counter``."""
        return energy_j(np.array(self._seconds), np.array(self._watts), spans, self.idle_w)

    def _read(self) -> None:
        while not self._stop.is_set():
            self._watts.append(sum(rail.watts() for rail in self.rails))
            self._seconds.append(time.perf_counter())
            self._stop.wait(self._period_s)


def energy_j(
    seconds: np.ndarray, watts: np.ndarray, spans: Sequence[tuple[float, float]], idle_w: float
) -> float:
    """Integral of power above ``idle_w`` over the spans, by the trapezoidal rule.

    Args:
        seconds: When power was read, ascending: (n,).
        watts: What was read: (n,). Between two readings it is taken as a straight line.
        spans: Begin and end of each, in the same clock.
        idle_w: To subtract.
    """
    total = 0.0
    for begin, end in spans:
        inside = seconds[(seconds > begin) & (seconds < end)]
        at = np.concatenate(([begin], inside, [end]))
        total += float(np.trapezoid(np.interp(at, seconds, watts) - idle_w, at))
    return total


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
