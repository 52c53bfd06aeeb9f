"""The rounding that is trained with is the one that the graph computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swin_deploy.pipeline.qat.graphs as proof
import swin_deploy.pipeline.qat.network as network_module
from conftest import BARE, MIXED, OBLONG, POCKET
from swin_deploy.core.errors import VerificationError
from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.quantize import tensors_to_calibrate
from swin_deploy.graph.int8.thresholds import LARGEST, SMALLEST_SCALE
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import freeze, frozen_tensors
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FLOORS
from swin_deploy.network.model.build import build_model
from swin_deploy.network.model.swin import SwinTransformer
from swin_deploy.pipeline.qat.graphs import GraphMaker
from swin_deploy.pipeline.qat.network import (
    Activation,
    Sites,
    find_sites,
    round_activation,
    round_bias,
    round_weight,
    weight_scale,
)
from swin_deploy.pipeline.qat.request import QatRequest
from swin_deploy.pipeline.request import Int8Options

V2 = replace(POCKET, config=replace(POCKET.config, name="pocket_v2", version=2))
VIT = replace(
    VARIANTS["vit_t_16"],
    config=replace(
        VARIANTS["vit_t_16"].config, depth=2, image_size=(32, 32), embed_dim=48, num_classes=7
    ),
)
NETWORKS = {"v1": POCKET, "oblong": OBLONG, "v2": V2, "vit": VIT, "bare": BARE, "mixed": MIXED}
KINDS = ("tensorrt", "onnxruntime")


@pytest.mark.parametrize("form", ["slabs", "packed"])
@pytest.mark.parametrize("variant", NETWORKS.values(), ids=NETWORKS.keys())
def test_gradients_through_the_export_form_are_those_of_the_eager_network(
    variant: Variant, form: FormName, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    model, images = build_model(variant.config), torch.from_numpy(noise(variant, 2))
    frozen = freeze(build_model(variant.config), form)
    model.requires_grad_(True)
    tensors = frozen_tensors(model, form)
    torch.func.functional_call(frozen, tensors, (images,)).square().sum().backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    model(images).square().sum().backward()
    for name, parameter in model.named_parameters():
        gradient, expected = found[name], parameter.grad
        assert gradient is not None
        assert expected is not None
        assert (gradient - expected).norm() <= 1e-3 * expected.norm() + 1e-4, name


def test_freezing_still_shares_and_still_trains_nothing() -> None:
    model = build_model(POCKET.config)
    frozen = freeze(model, "slabs")
    assert not any(p.requires_grad for p in frozen.parameters())
    assert isinstance(model, SwinTransformer)
    norms = {id(module) for module in model.modules() if isinstance(module, nn.LayerNorm)}
    assert any(id(module) in norms for module in frozen.modules())


def make(
    variant: Variant,
    kind: str,
    folder: Path,
    noise: Callable[[Variant, int], np.ndarray],
    also: tuple[Any, ...] = (),
    batch: BatchRange = BatchRange(),  # noqa: B008 - it is frozen
) -> tuple[GraphMaker, nn.Module, Path, dict[str, float], np.ndarray]:
    """A network with random weights, its FP32 graph, and thresholds from noise."""
    request = QatRequest(
        variant=variant,
        weights=folder,
        data=folder,
        out=folder,
        kind=kind,
        batch=batch,
        int8=Int8Options(calibration=folder, also=also),
    )
    maker = GraphMaker(request, folder / "log", lambda text: None)
    model, graph, images = build_model(variant.config), folder / "graph.onnx", noise(variant, 3)
    maker.export(model, graph)
    tensors = tensors_to_calibrate(graph, maker.recipe, 1)
    found = collect_statistics(graph, tensors, lambda: [images], None, {})
    return maker, model, graph, {n: s.threshold("percentile") for n, s in found.items()}, images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", NETWORKS.values(), ids=NETWORKS.keys())
def test_the_graph_is_what_is_trained(
    variant: Variant, kind: str, tmp_path: Path, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    maker, model, graph, thresholds, images = make(
        variant, kind, tmp_path, noise, ("embed", "head")
    )
    agreement = proof.require_same_places(maker, model, graph, thresholds, images)  # type: ignore[arg-type]
    assert agreement.place_db > 115
    assert agreement.place_db >= FLOORS["place"]["fp32"]


def test_the_graph_of_a_dynamic_batch_is_what_is_trained(
    tmp_path: Path, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    """Where query, key and value are apart."""
    wide = BatchRange(low=1, high=4)
    maker, model, graph, thresholds, images = make(POCKET, "tensorrt", tmp_path, noise, batch=wide)
    sites = find_sites(graph, maker.recipe, 4, ())
    names = {site.module.rpartition(".")[2] for site in sites.activations}
    assert {"at_query", "at_key", "at_value", "at_weights"} <= names
    assert "at_slabs" not in names
    proof.require_same_places(maker, model, graph, thresholds, images)  # type: ignore[arg-type]


def forget_an_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = network_module._on_output
    calls = iter(range(1000))
    monkeypatch.setattr(
        network_module,
        "_on_output",
        lambda rounding: hook(rounding if next(calls) else lambda x: x),
    )


def forget_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "round_weight", lambda weight, scale: weight)


def forget_the_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "round_bias", lambda bias, steps: bias)


def round_after_the_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale before it is brought to FP16."""
    monkeypatch.setattr(
        network_module,
        "weight_scale",
        lambda weight, smallest: (
            weight.detach().abs().amax(dim=(0, 1, 2) if weight.ndim == 3 else 1, keepdim=True)
            / LARGEST
        ),
    )


def cut_off_at_127(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        network_module, "round_activation", lambda x, scale: round_weight(x, torch.tensor(scale))
    )


DAMAGE = {
    "weights": ("tensorrt", forget_the_weights),
    "an attention's": ("tensorrt", forget_an_activation),
    "scales of weights": ("tensorrt", round_after_the_fact),
    "biases": ("onnxruntime", forget_the_biases),
    "negative end": ("tensorrt", cut_off_at_127),
}


@pytest.mark.parametrize(("kind", "damage"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_difference_is_seen(
    kind: str,
    damage: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    noise: Callable[[Variant, int], np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker, model, graph, thresholds, images = make(POCKET, kind, tmp_path, noise)
    thresholds = {name: 0.5 * value for name, value in thresholds.items()}  # so that some are cut
    proof.require_same_places(maker, model, graph, thresholds, images)  # type: ignore[arg-type]
    damage(monkeypatch)
    with pytest.raises(VerificationError, match="not what was trained"):
        proof.require_same_places(maker, model, graph, thresholds, images)  # type: ignore[arg-type]


def test_a_place_that_only_the_graph_has_is_seen(
    tmp_path: Path, noise: Callable[[Variant, int], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, model, graph, thresholds, images = make(POCKET, "tensorrt", tmp_path, noise)

    def fewer(*arguments: Any) -> Sites:
        sites = find_sites(*arguments)
        return replace(sites, activations=sites.activations[1:])

    monkeypatch.setattr(proof, "find_sites", fewer)
    with pytest.raises(VerificationError, match="activations, the training"):
        proof.require_same_places(maker, model, graph, thresholds, images)  # type: ignore[arg-type]


def test_sites_of_a_slab_attention(
    tmp_path: Path, noise: Callable[[Variant, int], np.ndarray]
) -> None:
    maker, _, graph, _, _ = make(POCKET, "tensorrt", tmp_path, noise)
    sites = find_sites(graph, maker.recipe, 1, ())
    block = "layers.0.blocks.0.attn"
    of_it = {(s.module, s.side) for s in sites.activations if s.module.startswith(block)}
    assert of_it == {
        (block, "input"),
        (f"{block}.at_slabs", "output"),
        (f"{block}.at_weights", "output"),
        (f"{block}.proj", "input"),
    }
    assert block in {site.module for site in sites.weights}
    kept = find_sites(graph, maker.recipe, 1, (block, f"{block}.*"))
    assert not [s for s in kept.activations if s.module.startswith(block)]
    assert isinstance(sites.activations[0], Activation)


def test_rounding_cuts_off_and_has_straight_gradients() -> None:
    x = torch.tensor([-200.0, -128.0, -0.6, 0.4, 2.5, 126.6, 300.0], requires_grad=True)
    rounded = round_activation(x, 1.0)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert rounded.tolist() == [-128, -128, -1, 0, 2, 127, 127]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_scales_of_weights_are_one_a_row_or_one_for_all_slabs() -> None:
    rows = torch.tensor([[0.5, -127.0], [12.7, 1.0], [0.0, 0.0]])
    scale = weight_scale(rows, SMALLEST_SCALE["fp16"])
    assert scale.shape == (3, 1)
    assert scale[0] == 1.0
    assert 0.1 <= scale[1] < 0.1001  # up to the next number of FP16
    assert scale[2] == SMALLEST_SCALE["fp16"]
    assert round_weight(rows, scale)[0].tolist() == [0, -127]
    assert weight_scale(torch.ones(3, 2, 2), 1e-9).shape == (1, 1, 1)
    assert round_bias(torch.tensor([0.26]), torch.tensor([0.1])).item() == pytest.approx(0.3)
