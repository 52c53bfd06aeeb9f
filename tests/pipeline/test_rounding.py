"""Networks that amplify rounding pass by their own measure; damage still fails them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import save_file

from conftest import COSINE, POCKET, Silent
from damage import DAMAGES
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import VerificationError
from swin_deploy.data.images import make_noise
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import BatchRange, Interface
from swin_deploy.network.judge import FLOORS
from swin_deploy.network.model.build import build_model, with_outputs
from swin_deploy.pipeline import gate as rounding
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import RunResult, run_export


def amplifying(variant: Variant, path: Path) -> Path:
    """Weights of a variant, twice as large: attention saturates, and small errors grow."""
    tensors = dict(build_model(variant.config).named_parameters())
    for name, value in tensors.items():
        value.data *= 1.5 if name.endswith("logit_scale") else 2
    save_file(tensors, path)
    return path


def request(variant: Variant, tmp_path: Path) -> ExportRequest:
    weights = amplifying(variant, tmp_path / "x.safetensors")
    return ExportRequest(
        variant=variant,
        weights=weights,
        load=LoadOptions(wanted=variant.config, image_size=variant.config.image_size),
        out=tmp_path / "run",
        precisions=("fp32",),
        targets=("cpu",),
    )


def authors(variant: Variant) -> Variant:
    """With what a checkpoint in the authors' names means."""
    rules = replace(variant.config.semantics, small_grids="shrink_both", stop_shift="both")
    return replace(variant, config=replace(variant.config, semantics=rules))


@pytest.mark.parametrize("variant", [POCKET, COSINE], ids=["V1", "V2"])
def test_it_passes_by_its_own_distance_to_fp64(
    variant: Variant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = Silent()
    result = run_export(request(authors(variant), tmp_path), listener)
    floors = {row["floor_db"] for row in result.verification["comparisons"]}
    assert min(floors) < 110
    assert min(floors) >= FLOORS["amplified"]["fp32"]
    said = [note for note in listener.notes if "amplifies rounding" in note]
    assert said
    again = run_export(request(authors(variant), tmp_path), Silent())
    assert "verify" in again.current
    assert again.notes == result.notes
    assert again.header == result.header
    assert cli.run(["bench", "--engine", str(tmp_path / "run"), "--rounds", "2", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert {row["floor_db"] for row in checks} <= floors


@pytest.mark.parametrize("name", ["wrong_mask", "wrong_shift", "forgotten_scale"])
def test_damage_still_fails_it(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    DAMAGES[name](monkeypatch)
    with pytest.raises(VerificationError, match="disagree"):
        run_export(request(authors(POCKET), tmp_path), Silent())
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_network_that_cannot_be_told_from_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """At five times the weights even FP64 and FP32 of the same program disagree on some images.

    On which ones depends on the processor, so there are many.
    """
    asked = replace(request(authors(POCKET), tmp_path), batch=BatchRange(low=16, high=16))
    tensors = dict(build_model(POCKET.config).named_parameters())
    save_file({k: 5 * v for k, v in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(VerificationError, match="needs 60 dB"):
        run_export(asked, Silent())


def test_an_ordinary_network_is_held_to_the_usual_floor(pocket_run: RunResult) -> None:
    rows = pocket_run.verification["comparisons"]
    assert {row["floor_db"] for row in rows} == {110, 40, 30}  # FP16 on extremes is held to 30


@pytest.mark.parametrize(
    ("interface", "names"),
    [
        (Interface(activation="softmax"), {"logits", "probabilities"}),
        (Interface(activation="softmax", topk=2), {"logits", "probabilities", "scores"}),
        (Interface(topk=2), {"logits", "scores"}),
    ],
    ids=["probabilities", "scores of probabilities", "scores"],
)
def test_its_measure_covers_what_the_ends_give(interface: Interface, names: set[str]) -> None:
    model = build_model(POCKET.config)
    context: Any = SimpleNamespace(
        eager=model,
        request=SimpleNamespace(interface=interface),
        as_asked=lambda network: with_outputs(network, "logits", "x"),
    )
    images = make_noise(2, 3, POCKET.config.image_size)
    found = rounding._own_rounding(context, copy.deepcopy(model).double(), images)
    assert names == {name for name in found if not name.startswith("stage ")}
    assert all(90 < found[name] < 160 for name in names)
