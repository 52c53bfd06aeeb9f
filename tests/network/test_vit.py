"""The Vision Transformer on its way: config, export form, a whole run, bench."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from conftest import POCKET_VIT, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.core.records import decode
from swin_deploy.graph.half import KNOWN_OPERATORS
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import FAMILIES, VARIANTS, Variant, family_of
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model
from swin_deploy.network.model.vit import VisionTransformer
from swin_deploy.network.vit import VitConfig
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export
from vit_damage import VIT_DAMAGES

Noise = Callable[[Variant, int], np.ndarray]
Damage = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "cannot name a folder"),
        ({"depth": 0}, "depth = 0 must be at least 1"),
        ({"num_heads": 7}, "num_heads = 7 does not divide the 768 channels"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio = nan"),
        ({"image_size": (0, 224)}, "image_size"),
    ],
)
def test_what_cannot_be_a_vit_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VitConfig(**{"name": "x", **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "hint"), [((230, 224), "224 or 240"), ((224, 7), "image size 16")]
)
def test_patches_have_to_tile_the_image(size: tuple[int, int], hint: str, tmp_path: Path) -> None:
    variant = VARIANTS["vit_b_16"].with_image_size(size)
    with pytest.raises(ConfigError, match="not a multiple of the patch size 16") as caught:
        ExportRequest(variant=variant, out=tmp_path)
    assert hint in caught.value.hint


def test_a_manifest_brings_back_both_kinds_of_network() -> None:
    from dataclasses import asdict

    for variant in VARIANTS.values():
        config = variant.config
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
        assert decode(FAMILIES[family_of(config)], fields, "manifest") == config


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("change", [{}, {"depth": 1}, {"in_channels": 1}], ids=str)
def test_the_form_equals_the_eager_network_at_every_landmark(
    change: dict[str, int], batch: int, noise: Noise
) -> None:
    config = replace(POCKET_VIT.config, **change)
    eager = build_model(config)
    frozen = freeze(eager, "packed")
    generator = np.random.default_rng(0)
    shape = (batch, config.in_channels, *config.image_size)
    images = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    with torch.inference_mode():
        expected, found = eager.landmarks(images), frozen.landmarks(images)
        logits = eager(images), frozen(images)
    assert [*expected] == [*found] == [*(["block 3"] if config.depth == 4 else []), "class token"]
    for reference, candidate in [*((expected[k], found[k]) for k in expected), logits]:
        assert reference.shape == candidate.shape
        assert sqnr_db(reference.numpy(), candidate.numpy()) >= FLOORS_DB["fp32"]


def test_norms_are_shared_and_the_eager_network_is_left_alone() -> None:
    """An epsilon is too small for any floor; it is right by construction."""
    eager = build_model(POCKET_VIT.config)
    assert isinstance(eager, VisionTransformer)
    before = {key: value.clone() for key, value in eager.state_dict().items()}
    frozen = freeze(eager, "packed")
    assert all(torch.equal(value, before[key]) for key, value in eager.state_dict().items())
    assert frozen.norm is eager.norm
    assert eager.norm.eps == 1e-6
    for block, frozen_block in zip(eager.blocks, frozen.blocks, strict=True):
        assert (frozen_block.norm1, frozen_block.norm2) == (block.norm1, block.norm2)
        assert block.norm1.eps == block.norm2.eps == 1e-6


@pytest.mark.parametrize("damage", VIT_DAMAGES.values(), ids=VIT_DAMAGES.keys())
@pytest.mark.parametrize(
    ("variant", "ceiling"),
    [
        (POCKET_VIT, FLOORS_DB["fp32"] - 40),
        pytest.param(VARIANTS["vit_b_16"], FLOORS_DB["fp16"] - 5, marks=pytest.mark.slow),
    ],
    ids=["pocket", "vit_b_16"],
)
def test_a_damaged_form_misses_the_floor_by_far(
    damage: Damage, variant: Variant, ceiling: float, monkeypatch: pytest.MonkeyPatch, noise: Noise
) -> None:
    eager = build_model(variant.config)
    damage(monkeypatch)
    images = torch.from_numpy(noise(variant, 2))
    with torch.inference_mode():
        found = sqnr_db(eager(images).numpy(), freeze(eager, "packed")(images).numpy())
    assert found < ceiling


@pytest.mark.parametrize("damage", VIT_DAMAGES.values(), ids=VIT_DAMAGES.keys())
def test_a_damaged_form_fails_the_run_and_leaves_nothing(
    damage: Damage, tmp_path: Path, listener: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch)
    request = ExportRequest(
        variant=POCKET_VIT, out=tmp_path, precisions=("fp32",), targets=("cpu",)
    )
    with pytest.raises(VerificationError, match="form, class token") as caught:
        run_export(request, listener)
    assert caught.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.fixture(scope="module")
def vit_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of the pocket ViT, batch 1 to 4."""
    request = ExportRequest(
        variant=POCKET_VIT,
        out=tmp_path_factory.mktemp("vit run"),
        batch=BatchRange(low=1, high=4),
    )
    return run_export(request, Silent())


def test_a_run_goes_through_every_stage(vit_run: RunResult) -> None:
    assert [*vit_run.stages] == [
        *("export", "simplify", "fp16", "engine:cpu-fp32", "engine:rtx-fp16", "verify")
    ]
    assert vit_run.header["family"] == "vit"
    assert vit_run.stages["engine:rtx-fp16"].details["fused_attentions"] == 4
    rows = vit_run.verification["comparisons"]
    assert vit_run.verification["passed"]
    assert [row["candidate"] for row in rows[:2]] == ["form, block 3", "form, class token"]
    for name in ("export form", "onnx, simplified", "onnx, fp16", "engine cpu-fp32"):
        inputs = {row["inputs"] for row in rows if row["candidate"] == name}
        assert {sets for sets in inputs if sets.startswith("noise")} == {
            *("noise x1", "noise x2", "noise x3", "noise x4")
        }


def test_the_graph_has_one_pad_and_nothing_unknown(vit_run: RunResult) -> None:
    """One row of zeros for the class token; its fill value is left to the operator: zero."""
    nodes = onnx.load(vit_run.path / "model.onnx").graph.node
    assert {node.op_type for node in nodes} <= KNOWN_OPERATORS
    pads = [node for node in nodes if node.op_type == "Pad"]
    assert [len(pad.input) for pad in pads] == [2]  # data and amounts


def test_a_run_is_measured(vit_run: RunResult) -> None:
    report = bench_engine(BenchRequest(engine=vit_run.path, rounds=2), lambda text: None)
    assert [(row["name"], row["batch"]) for row in report["measurements"]] == [
        ("eager PyTorch fp32 (cpu)", 1),
        ("engine cpu-fp32", 1),
        ("eager PyTorch fp32 (cpu)", 4),
        ("engine cpu-fp32", 4),
    ]
    assert all(check["passed"] for check in report["checks"])


def test_variants_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["variants"]) == 0
    line = next(li for li in capsys.readouterr().out.splitlines() if li.startswith("vit_b_16"))
    assert line.split() == ["vit_b_16", "224", "global", "768", "12", "12", "86,567,656"]
