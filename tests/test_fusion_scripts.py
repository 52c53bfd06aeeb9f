"""The scripts behind docs/fusion.md: what they compare is the same function, or they refuse."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import COSINE, POCKET, ROOT
from fusion import cpu, exactness, packed_forms, slab_forms
from fusion.command import main
from fusion.compile import compile_frozen
from fusion.forms import PACKED, SLABS, TRIED, TriedForm, attention
from fusion.naive import holding_ours
from fusion.rows import ROWS, Row
from fusion.tried import compile_form, require_exact
from swin_deploy.batches import BatchRange
from swin_deploy.errors import VerificationError
from swin_deploy.export_form.entry import freeze
from swin_deploy.export_form.freeze import freeze_swin
from swin_deploy.metrics import sqnr_db
from swin_deploy.model.build import build_model
from swin_deploy.verify import FLOORS_DB

SMALLEST = {1: POCKET.config, 2: COSINE.config}
ONE_STAGE = replace(POCKET.config, depths=(2,), num_heads=(2,))  # quicker to compile
FOUR = BatchRange(low=4, high=4)
DOC = (ROOT / "docs" / "fusion.md").read_text()


def form_named(name: str) -> TriedForm:
    (found,) = (form for form in TRIED if form.name == name)
    return found


@pytest.mark.parametrize("form", TRIED, ids=lambda form: form.name)
def test_every_form_is_exact(form: TriedForm) -> None:
    assert require_exact(form, SMALLEST[form.version]) >= FLOORS_DB["fp32"]


def test_a_form_that_is_not_exact_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_forms, "MASKED", 0.0)  # the tokens that fill up a window are seen
    with pytest.raises(VerificationError, match="filled up to a multiple of 64"):
        require_exact(form_named("packed, n filled up to a multiple of 64"), POCKET.config)


def test_a_forgotten_value_bias_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slab_forms, "shifted", lambda proj, bias: proj)
    with pytest.raises(VerificationError, match="needs 110 dB"):
        require_exact(form_named("slabs, the query's bias added"), POCKET.config)


@pytest.mark.slow
def test_what_is_added_to_slabs_or_to_logits_costs_kernels_or_fusion() -> None:
    blocks = sum(POCKET.config.depths)
    ours, biased, added = (
        compile_form(form_named(name), POCKET.config, FOUR)
        for name in (
            "slabs: chosen, static",
            "slabs, biases added after the product",
            "slabs, added instead of subtracted",
        )
    )
    assert (ours.kernels, ours.fused_attentions) == (52, blocks)
    assert biased.kernels == 52 + 3 * blocks  # a copy each of query, key and value
    assert (added.kernels, added.fused_attentions) == (58, blocks - 2)


@pytest.mark.parametrize("form", ["packed", "slabs"])
def test_half_by_pytorch_compiles_like_our_conversion(form: str) -> None:
    kind = (PACKED if form == "packed" else SLABS).v1
    tried = compile_form(TriedForm(form, 1, attention(kind)), ONE_STAGE, FOUR)
    network = freeze(build_model(ONE_STAGE), form)  # type: ignore[arg-type]
    ours = compile_frozen(network, ONE_STAGE, FOUR)
    # Their graphs have other names in them, and so other bytes.
    assert tried == replace(ours, written=tried.written)


def test_tried_prints_a_row_per_form(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--network", config, "--batch", "2", "--only", "chosen"]
    monkeypatch.setattr("sys.argv", ["measure_fusion.py", "tried", *options])
    main()
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| form | network | kernels at 2 | MB at 2 | fused attentions |")
    assert len(rows) == 2  # V2's is not for this network
    for row in rows:
        assert re.search(r"\| tiny \| \d+ \| [\d.]+ \| \d of 2 \| \d+\.\d \|$", row), row


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
    other = freeze_swin(build_model(row.config, seed=1), SLABS)
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
    for form in TRIED:
        assert f"| {form.name} |" in DOC, form.name
    for row in ROWS:
        assert f"| {row.label} | {row.batch} | **ours** |" in DOC, str(row)
