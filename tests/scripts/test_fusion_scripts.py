"""The scripts behind docs/fusion.md: what they compare is the same function, or they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import POCKET, ROOT
from fusion import cpu, exactness
from fusion.command import main
from fusion.compile import compile_frozen, compile_written
from fusion.naive import holding_ours
from fusion.rows import ROWS, Row
from swin_deploy.core.errors import VerificationError
from swin_deploy.graph.export import Halved, export_plainly
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.export_form.freeze import FORMS, FormName, freeze, freeze_swin
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model

ONE_STAGE = replace(POCKET.config, depths=(2,), num_heads=(2,))  # quicker to compile
FOUR = BatchRange(low=4, high=4)
DOC = (ROOT / "docs" / "fusion.md").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_half_by_pytorch_compiles_like_our_conversion(form: FormName) -> None:
    """The libraries' rows are made by the one and ours by the other: it makes no difference."""
    network = freeze(build_model(ONE_STAGE), form)
    ours = compile_frozen(network, ONE_STAGE, FOUR)
    half = Halved(network)
    theirs = compile_written(lambda path: export_plainly(half, ONE_STAGE, FOUR, path), FOUR)
    # Their graphs have other names in them, and so other bytes.
    assert theirs == replace(ours, written=theirs.written)


def test_block_prints_its_kernels_and_their_sum(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--network", config, "--batch", "2"]
    monkeypatch.setattr("sys.argv", ["measure_fusion.py", "block", *options])
    main()
    head, _, *kernels, total = capsys.readouterr().out.splitlines()
    assert head == "| tiny, batch 2: kernel | MB |"
    assert total.startswith(f"| {len(kernels)} kernels |")
    assert any("`mlp/Gelu`" in kernel for kernel in kernels)


@pytest.mark.slow
@pytest.mark.nightly
def test_networks_prints_ours_beside_the_library(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["measure_fusion.py", "networks", "--only", "cifar10"])
    main()
    ours, naive = capsys.readouterr().out.splitlines()[2:]
    assert ours in DOC
    assert naive in DOC


def test_timm_holds_our_weights() -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, 64, 64), dtype=np.float32)
    eager = build_model(POCKET.config)
    expected = exactness.run(eager, images)
    found = exactness.run(holding_ours(POCKET.config, eager), images)
    assert sqnr_db(expected, found) >= FLOORS_DB["fp32"]


def test_exactness_refuses_another_network(
    config: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = tmp_path / "two"
    two.mkdir()
    for photo in sorted(photos.glob("*.jpg"))[:2]:
        (two / photo.name).symlink_to(photo)
    row = Row(config, "1", ("timm",))
    head, _, found = exactness.exactness_table([row], two, seeds=1)
    assert found.startswith("| tiny | 1 | 2 | "), (head, found)
    other = freeze_swin(build_model(row.config, seed=1), FORMS["slabs"])
    monkeypatch.setattr(exactness, "freeze", lambda eager, form: other)
    with pytest.raises(VerificationError, match="dB in FP32, needs 110 dB"):
        list(exactness.exactness_table([row], two, seeds=1))


def test_the_cpu_table_has_a_row_per_runtime(config: str, tmp_path: Path) -> None:
    lines = list(cpu.cpu_table(Row(config, "1", ("timm",)), turns=3, folder=tmp_path))
    assert [line.split(" | ")[3] for line in lines[2:]] == [
        *("ONNX Runtime FP32", "OpenVINO FP32", "OpenVINO BF16"),
    ]


def test_a_graph_that_computes_something_else_is_not_timed(config: str, tmp_path: Path) -> None:
    row = Row(config, "1", ("timm",))
    images = np.ones((1, 3, 32, 32), np.float32)
    wrong = {("ONNX Runtime FP32", "ours"): lambda images: np.ones((1, 1000), np.float32)}
    with pytest.raises(VerificationError, match="ours on ONNX Runtime FP32"):
        cpu.require_same(row, images, wrong)


def test_the_ratio_is_of_pairs() -> None:
    noise = np.random.default_rng(0).uniform(1, 100, size=50)  # as long as both share it
    found = cpu.ratio(noise / 2, noise)
    assert [found.value, found.low, found.high] == pytest.approx([0.5] * 3)


def test_the_document_has_every_row() -> None:
    for row in ROWS:
        assert f"| {row.label} | {row.batch} | **ours** |" in DOC, str(row)
