"""Energy from a power monitor, and the conditions of a measurement, from files of known content."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from swin_deploy.measure.bench.power import (
    PowerMeter,
    condition_warnings,
    describe_conditions,
    energy_j,
    find_rails,
)


def make_monitor(folder: Path, rails: dict[str, tuple[int, int]], name: str = "ina3221") -> None:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        (folder / f"in{channel}_label").write_text(f"{label}\n")
        (folder / f"in{channel}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{channel}_input").write_text(f"{milliamperes}\n")


def test_the_rail_of_the_whole_board_counts_alone(tmp_path: Path) -> None:
    make_monitor(tmp_path / "hwmon0", {"cpu": (1000, 50000)}, name="coretemp")
    make_monitor(tmp_path / "hwmon3", {"VDD_CPU_GPU_CV": (5000, 400), "VDD_IN": (19000, 500)})
    (rail,) = find_rails(tmp_path)
    assert (rail.label, rail.watts()) == ("VDD_IN", pytest.approx(9.5))


def test_rails_of_parts_are_added(tmp_path: Path) -> None:
    make_monitor(tmp_path / "hwmon0", {"VDD_GPU_SOC": (12000, 500), "VDD_CPU_CV": (12000, 250)})
    assert sum(rail.watts() for rail in find_rails(tmp_path)) == pytest.approx(9.0)
    assert find_rails(tmp_path / "none") == []


def test_energy_is_the_area_above_idle() -> None:
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    watts = np.array([5.0, 5.0, 15.0, 15.0, 5.0])
    assert energy_j(seconds, watts, [(2.0, 3.0)], idle_w=5.0) == pytest.approx(10.0)
    assert energy_j(seconds, watts, [(1.0, 2.0)], idle_w=5.0) == pytest.approx(5.0)  # a ramp
    assert energy_j(seconds, watts, [(2.25, 2.75), (3.5, 4.0)], 5.0) == pytest.approx(5 + 1.25)
    assert energy_j(seconds, watts, [(0.0, 1.0)], idle_w=5.0) == pytest.approx(0.0)


def test_a_meter_reads_while_others_run(tmp_path: Path) -> None:
    make_monitor(tmp_path / "hwmon0", {"VDD_IN": (10000, 500)})
    with PowerMeter(find_rails(tmp_path), period_s=0.001, idle_s=0.05) as meter:
        (tmp_path / "hwmon0" / "curr1_input").write_text("1500\n")
        time.sleep(0.05)
        start = time.perf_counter()
        time.sleep(0.05)
        end = time.perf_counter()
    assert meter.idle_w == pytest.approx(5.0)
    assert meter.joules([(start, end)]) == pytest.approx(10.0 * (end - start), rel=0.05)


def test_a_clock_that_follows_the_load_is_named(tmp_path: Path) -> None:
    for core in range(256):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text("powersave\n")
    found = describe_conditions(4096, cpus=tmp_path)
    warnings = condition_warnings(found)
    assert "governor powersave" in warnings[0]
    assert "4096 threads share" in warnings[1]
    assert condition_warnings(replace(found, governors=("performance",), threads=1)) == []
    assert describe_conditions(1, cpus=tmp_path / "none").governors == ()
