"""The eager network against definitions that can be read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import CIFAR, FULL_SIZE, POCKET
from swin_deploy.core.errors import InputError
from swin_deploy.network.model.attention import (
    WindowAttention,
    join_windows,
    relative_position_index,
    shift_mask,
    split_windows,
)
from swin_deploy.network.model.build import build_model, count_parameters, load_model, randomise_
from swin_deploy.network.model.swin import PatchMerging, SwinBlock


def attend_one_window(x: Tensor, layer: WindowAttention, bias: Tensor) -> Tensor:
    """Textbook attention on a single window: x (n, c), bias (a, n, n) -> (n, c)."""
    q, k, v = layer.qkv(x).chunk(3, dim=-1)  # each (n, c)
    d = x.shape[-1] // layer.heads
    outs = []
    for a in range(layer.heads):
        head = slice(a * d, (a + 1) * d)
        logits = q[:, head] @ k[:, head].T / d**0.5 + bias[a]
        outs.append(logits.softmax(-1) @ v[:, head])
    return layer.proj(torch.cat(outs, dim=-1))


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "shifted"])
@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_attention_matches_the_definition(masked: bool, qkv_bias: bool, batch: int) -> None:
    torch.manual_seed(0)
    k, n, c, a = 4, 6, 12, 3
    layer = WindowAttention(c, a, (2, 3), qkv_bias)
    randomise_(layer, seed=0)
    x = torch.randn(batch, k, n, c)
    mask = torch.randn(k, n, n) if masked else None

    expected = torch.stack(
        [
            torch.stack(
                [
                    attend_one_window(
                        x[b, i], layer, layer.position_bias() + (0 if mask is None else mask[i])
                    )
                    for i in range(k)
                ]
            )
            for b in range(batch)
        ]
    )
    torch.testing.assert_close(layer(x, mask), expected, rtol=1e-5, atol=1e-6)


def test_windows_hold_the_tokens_that_they_should() -> None:
    grid = torch.arange(4 * 6).view(1, 4, 6, 1)
    windows = split_windows(grid, (2, 3))
    assert windows.shape == (1, 4, 6, 1)
    assert windows[0, 1, :, 0].tolist() == [3, 4, 5, 9, 10, 11]
    assert torch.equal(join_windows(windows, (2, 3), (4, 6)), grid)


def test_the_position_index_is_the_offset_of_query_and_key() -> None:
    p, q = 2, 3
    index = relative_position_index((p, q))
    for i in range(p * q):
        for j in range(p * q):
            rows, columns = i // q - j // q, i % q - j % q
            assert index[i, j] == (rows + p - 1) * (2 * q - 1) + columns + q - 1


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [((8, 8), (4, 4), (2, 2)), ((4, 8), (4, 4), (0, 2)), ((14, 14), (7, 7), (3, 3))],
)
def test_the_mask_parts_what_was_not_next_to_each_other(
    grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> None:
    """Two tokens of a shifted window see each other only if no edge of the image lies between."""
    (h, w), (p, q) = grid, window
    mask = shift_mask(grid, window, shift)
    rolled = torch.arange(h * w).view(1, h, w, 1).roll((-shift[0], -shift[1]), (1, 2))
    windows = split_windows(rolled, window)[0, :, :, 0]
    for k, tokens in enumerate(windows.tolist()):
        for i, one in enumerate(tokens):
            for j, other in enumerate(tokens):
                near = abs(one // w - other // w) < p and abs(one % w - other % w) < q
                assert mask[k, i, j] == (0 if near else -100)


def test_merging_keeps_the_order_of_the_checkpoints() -> None:
    merge = PatchMerging(POCKET.config, 1)
    merge.norm, merge.reduction = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    grid = torch.tensor([[[[0.0], [1.0]], [[2.0], [3.0]]]])  # rows (0, 1) and (2, 3)
    assert merge(grid).flatten().tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("name", [n for n in FULL_SIZE if n != CIFAR.name])
def test_variants_have_the_published_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        from swin_deploy.network.model.swin import SwinTransformer

        model = SwinTransformer(FULL_SIZE[name].config)
    assert count_parameters(model) == FULL_SIZE[name].parameters


def test_the_cifar_network_has_its_count_and_its_tables() -> None:
    model = build_model(CIFAR.config)
    tables = [p for n, p in model.named_parameters() if n.endswith("bias_table")]
    assert count_parameters(model) == 33_438_100
    assert sum(table.numel() for table in tables) == 3_882


def test_random_weights_leave_nothing_at_zero_or_one() -> None:
    for name, parameter in build_model(POCKET.config).named_parameters():
        assert parameter.unique().numel() >= 0.99 * parameter.numel(), name


def test_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (build_model(POCKET.config, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], same[key]) for key in one)
    parameters = [name for name, _ in build_model(POCKET.config).named_parameters()]
    assert not any(torch.equal(one[name], other[name]) for name in parameters)


def test_the_outputs_of_random_networks_are_of_ordinary_size() -> None:
    model = build_model(POCKET.config)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((4, 3, 64, 64), "float32"))
    with torch.inference_mode():
        spread = model(images).std().item()
    assert math.isfinite(spread)
    assert 0.1 < spread < 10


def test_only_odd_blocks_shift() -> None:
    model = build_model(POCKET.config)
    shifts = [[b.shift for b in layer.blocks if isinstance(b, SwinBlock)] for layer in model.layers]
    assert shifts == [[(0, 0), (2, 2)], [(0, 0), (2, 2)], [(0, 0), (0, 0)]]


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        (11, r"head\.weight is \(7, 64\), expected \(11, 64\) and 1 more"),
        (0, r"head\.bias is too many and 3 more"),
    ],
)
def test_weights_of_another_network_are_refused(classes: int, problem: str, tmp_path: Path) -> None:
    """As a record leads to that says something else than what lies beside it."""
    path = tmp_path / "weights.safetensors"
    save_file(build_model(POCKET.config).state_dict(), path)
    load_model(POCKET.config, path, seed=0)
    with pytest.raises(InputError, match=rf"weights\.safetensors: .*: {problem}"):
        load_model(replace(POCKET.config, num_classes=classes), path, seed=0)


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = build_model(POCKET.config).state_dict()
    save_file(tensors | {"head.bias": tensors["head.bias"].to(torch.int64)}, path)
    with pytest.raises(InputError, match=r"head\.bias is torch\.int64, expected torch\.float32"):
        load_model(POCKET.config, path, seed=0)
