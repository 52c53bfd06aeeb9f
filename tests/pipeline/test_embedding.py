"""Embeddings as the output: what they are, in every form, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from conftest import POCKET, SMALL, Silent
from damage import DAMAGES
from swin_deploy.core.errors import ConfigError, VerificationError
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange, Interface
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import build_model, output_names, with_outputs
from swin_deploy.network.swin import SwinConfig
from swin_deploy.pipeline.request import ExportRequest, Int8Options
from swin_deploy.pipeline.run import run_export

Noise = Callable[[Variant, int], np.ndarray]


def embedding_request(out: Path) -> ExportRequest:
    batch = BatchRange(low=1, high=4)
    return ExportRequest(variant=POCKET, out=out, batch=batch, outputs="embedding")


@pytest.mark.parametrize("variant", SMALL.values(), ids=SMALL.keys())
def test_an_embedding_is_what_the_head_reads(variant: Variant, noise: Noise) -> None:
    eager = build_model(variant.config)
    images = torch.from_numpy(noise(variant, 2))
    with torch.inference_mode():
        logits = eager(images).numpy()
        for network in (eager, freeze(eager, "packed"), freeze(eager, "slabs")):
            module = with_outputs(network, "embedding", "x")
            assert output_names(module) == ("embedding",)
            found = eager.head(module(images)).numpy()
            assert sqnr_db(logits, found) >= FLOORS_DB["fp32"]


def test_a_network_without_classes_may_keep_its_norm(noise: Noise) -> None:
    bare = replace(POCKET.config, num_classes=0)
    kept = build_model(replace(bare, keeps_norm=True))
    images = torch.from_numpy(noise(POCKET, 2))
    with torch.inference_mode():
        whole = with_outputs(build_model(POCKET.config), "embedding", "x")(images)
        assert torch.equal(with_outputs(kept, "embedding", "x")(images), whole)
    with pytest.raises(ConfigError, match=r"mine lacks the norm .* --outputs stages"):
        with_outputs(build_model(bare), "embedding", "mine")
    with pytest.raises(ConfigError, match="of a network without classes"):
        replace(POCKET.config, keeps_norm=True)


def test_a_vit_has_one_too(noise: Noise) -> None:
    variant = VARIANTS["vit_t_16"]
    config = replace(variant.config, image_size=(32, 32), depth=2)  # type: ignore[call-arg]
    eager = build_model(config)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        logits = eager(images).numpy()
        for network in (eager, freeze(eager, "packed")):
            found = eager.head(with_outputs(network, "embedding", "x")(images)).numpy()
            assert sqnr_db(logits, found) >= FLOORS_DB["fp32"]


def test_no_file_has_the_head(tmp_path: Path, noise: Noise) -> None:
    run = run_export(embedding_request(tmp_path / "run"), Silent())
    for name in ("model.onnx", "model.fp16.onnx"):
        graph = onnx.load(run.path / name).graph
        assert [output.name for output in graph.output] == ["embedding"]
        assert not [t.name for t in graph.initializer if "head" in t.name]
        norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
        assert len(norms) == 1 + 2 * 6 + 2 + 1  # patches, two a block, merges, the last
    again = run_export(embedding_request(run.path), Silent())
    assert {*again.current} == {*again.stages}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_network_fails(
    damage: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(monkeypatch)
    request = replace(embedding_request(tmp_path), precisions=("fp32",), batch=BatchRange())
    with pytest.raises(VerificationError, match="form") as caught:
        run_export(request, Silent())
    rows = caught.value.details["verification"]["comparisons"]
    worst = min(row["sqnr_db"] for row in rows if row["candidate"] == "export form")
    assert worst < FLOORS_DB["fp32"] - 40


BARE = replace(POCKET.config, num_classes=0)
REFUSED = {
    "no norm": (
        {"variant": replace(POCKET, config=replace(POCKET.config, num_classes=0))},
        "lacks",
    ),
    "best classes": ({"interface": Interface(topk=2)}, "--outputs embedding gives none"),
    "labelled images": (
        {
            "precisions": ("fp32", "int8"),
            "int8": Int8Options(calibration=Path("x"), labelled=Path("y")),
        },
        "an embedding has no classes",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_needs_classes_is_refused(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        replace(embedding_request(tmp_path), **changes)  # type: ignore[arg-type]


def test_a_network_of_the_users_own_may_say_so() -> None:
    config = SwinConfig(name="x", num_classes=0, keeps_norm=True)
    assert config.has_norm
