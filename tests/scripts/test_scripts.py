"""The scripts on a machine that has nothing: a fresh clone in a folder with a space in its name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What git tracks or would track, and nothing else."""
    target = tmp_path / "a fresh" / "clone here"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, pytest.param(2, marks=pytest.mark.nightly)])
def test_the_demo_runs_from_anywhere_and_a_second_time_at_once(
    at_once: int, clone: Path, tmp_path: Path
) -> None:
    started = [
        subprocess.Popen(
            [str(clone / "scripts" / "demo")],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(at_once)
    ]
    results = [process.communicate(timeout=850) for process in started]
    assert [process.returncode for process in started] == [0] * at_once, results
    for out, _ in results:
        assert "photos x11" in out
        # Two at once disturb each other, so the last line may be that nothing can be concluded.
        assert out.splitlines()[-1].startswith("batch 1: ")
        assert "engine cpu-fp32" in out.splitlines()[-1]
    run = clone / "artifacts" / "swin_t"
    assert json.loads((run / "verify.json").read_text())["passed"]
    assert {row["batch"] for row in json.loads((run / "bench.json").read_text())["measurements"]}


@pytest.mark.slow
@pytest.mark.nightly
def test_measuring_an_export_gives_time_and_memory(tmp_path: Path) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(
        "image_size = 32\nembed_dim = 16\ndepths = [2]\nnum_heads = [1]\nwindow_size = 4\n"
    )
    script = ROOT / "scripts" / "measure_export.py"
    done = subprocess.run(
        [sys.executable, str(script), "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert "peak memory" in done.stdout
    memory = float(done.stdout.rpartition("peak memory ")[2].split()[0])
    assert 0.2 < memory < 4


@pytest.mark.slow
@pytest.mark.nightly
def test_measuring_a_calibration_prints_a_row_per_method(photos: Path) -> None:
    script = ROOT / "scripts" / "measure_calibration.py"
    done = subprocess.run(
        [
            *(sys.executable, str(script), "--variant", "swin_pocket"),
            *("--images", "5", "--photos", str(photos)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    head, _, *rows = done.stdout.splitlines()
    assert head.startswith("swin_pocket, batch 1: 5 images, ")
    assert [row.split()[0] for row in rows] == ["minmax", "percentile", "entropy", "mse"]


@pytest.mark.slow
@pytest.mark.nightly
def test_measuring_floors_prints_a_row_per_network(photos: Path) -> None:
    script = ROOT / "scripts" / "measure_floors.py"
    done = subprocess.run(
        [
            *(sys.executable, str(script), "--seeds", "1"),
            *("--images", str(photos), "examples/cifar10_swin.toml"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    name, full, half, *_ = done.stdout.splitlines()[-1].split()
    assert name == "cifar10_swin"
    assert float(full) > 110
    assert 40 < float(half) < 70


@pytest.mark.slow
def test_what_is_nightly_runs_with_all_alone_whatever_is_selected() -> None:
    def collected(*options: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-n", "0", "--collect-only", "-q", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (0, 5), done.stdout  # 5: nothing is left
        return {line for line in done.stdout.splitlines() if "::" in line}

    chosen = (
        "tests/parity/test_vit_parity.py",
        "-m",
        "slow and not gpu",
        "-k",
        "vit_s_16 or own_vit_b",
    )
    always = collected(*chosen)
    assert [line.partition("::")[2] for line in always] == [
        "test_torchvisions_own_vit_b_16_is_ours"
    ]
    (nightly,) = collected(*chosen, "--all") - always
    assert "[vit_s_16-1000]" in nightly
