"""The scripts behind docs/int8.md: a row for everything, and nothing wrong is timed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from fusion.rows import Row
from quantisation.command import main
from quantisation.engines import Figures, list_kernels
from quantisation.photos import STOCK, as_inputs, find_photos, photos_table, write_stock
from quantisation.placements import NETWORKS, Pair
from quantisation.speed import require_near, speed_table
from swin_deploy.core.errors import EnvironmentMissingError, InputError, VerificationError
from swin_deploy.engine.here import integer_sums_saturate
from swin_deploy.engine.runners.onnxruntime import open_session, session_options
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.network.model.build import build_model

DOC = (ROOT / "docs" / "int8.md").read_text()


def lines_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> list[str]:
    monkeypatch.setattr("sys.argv", ["measure_int8.py", *options])
    main()
    return capsys.readouterr().out.splitlines()


def test_placements_prints_both_precisions(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, half, whole = lines_of(monkeypatch, capsys, "placements", "--network", config)
    assert re.match(r"\| tiny \| 1 \| FP16 \| \d+ \| 2 of 2 \|", half)
    assert re.match(r"\| tiny \| 1 \| INT8 \| \d+ \| 2 of 2 \|.* \| \d\.\d\d \| \d\.\d\d \|", whole)


def test_a_bound_that_is_missed_is_named() -> None:
    half = Figures(kernels=100, fused=12, activation_bytes=50, weight_bytes=50)
    assert Pair(NETWORKS[0], half, Figures(110, 12, 40, 47)).problems == []
    assert Pair(NETWORKS[0], half, Figures(111, 11, 41, 47)).problems == [
        "11 of 12 attentions fused",
        "kernels above 1.10",
        "bytes above 0.87",
    ]


@pytest.mark.slow
@pytest.mark.nightly
def test_digits_prints_every_method_on_both_runtimes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, *rows = lines_of(monkeypatch, capsys, "digits", "--images", "20")
    assert len(rows) == 4 + 2 * len(CALIBRATION_METHODS)
    for row in rows[1:]:
        cells = row.split(" | ")
        assert float(cells[2]) >= 95, row
        assert float(cells[5]) >= 95, row


@pytest.mark.slow
@pytest.mark.nightly
def test_photos_and_speed_print_every_graph(config: str) -> None:
    row = Row(config, "1", ("timm",))
    _, _, *rows = photos_table(row)
    assert len(rows) == 3 + 2 * len(CALIBRATION_METHODS) + 1
    assert rows[-1].startswith(f"| {STOCK} | minmax |")
    if integer_sums_saturate():
        with pytest.raises(EnvironmentMissingError, match="VNNI"):
            next(speed_table(row, turns=3, form="packed"))
        return
    _, _, *times, _, last = speed_table(row, turns=3, form="packed")
    assert len(times) == 3 * 4
    assert last.startswith("3 turns; load of the machine ")


@pytest.mark.slow
def test_the_compiler_refuses_what_the_stock_tool_makes(config: str, tmp_path: Path) -> None:
    row, final = Row(config, "1", ("timm",)), tmp_path / "stock.onnx"
    seen, _, _ = find_photos()
    write_stock(row, build_model(row.config, seed=0), as_inputs(row, seen), final)
    with pytest.raises(InputError, match=r"cannot parse model\.onnx"):
        list_kernels(lambda path: path.write_bytes(final.read_bytes()), row.batches)
    if integer_sums_saturate():  # its products share zero points, and ONNX Runtime says no more
        with pytest.raises(InputError, match="on this CPU: it has no VNNI"):
            open_session(final, session_options(None))


def test_a_graph_that_computes_something_else_is_not_timed() -> None:
    logits = np.random.default_rng(0).standard_normal((1, 10))
    require_near(("here", "it"), logits, logits * 1.01)
    with pytest.raises(VerificationError, match=r"it on here: -?\d+\.\d dB, needs"):
        require_near(("here", "it"), logits, logits[:, ::-1])


def test_the_document_has_every_row() -> None:
    for row in NETWORKS:
        assert f"| {row.label} | {row.batch} | INT8 |" in DOC, str(row)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_script_prints_a_row_per_network() -> None:
    script = ROOT / "scripts" / "show_qat.py"
    done = subprocess.run(
        [sys.executable, str(script), "--epochs", "1", "--digits", "100"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    rows = [line for line in done.stdout.splitlines() if "of 100" in line]
    assert [row.split("  ")[0] for row in rows] == [
        "FP32",
        "INT8, usual, calibrated",
        "INT8, usual, fine-tuned",
        "INT8, coarse, calibrated",
        "INT8, coarse, fine-tuned",
    ]
