"""Ways to get the export form of a ViT wrong: to prove that gates bite."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from swin_deploy.network.export_form import freeze as vit
from swin_deploy.network.model.vit import VisionTransformer


def change_start(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, VisionTransformer], Tensor]
) -> None:
    """Have ``change`` applied to the constant of positions and class token, (n, c)."""
    init = vit.FrozenVitEmbed.__init__

    def damaged(self: vit.FrozenVitEmbed, model: VisionTransformer) -> None:
        init(self, model)
        self.start = change(self.start[:, 0].clone(), model)[:, None]

    monkeypatch.setattr(vit.FrozenVitEmbed, "__init__", damaged)


def forgotten_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The query is not divided by sqrt(d)."""
    monkeypatch.setattr(vit, "scaled_query", lambda qkv, heads: qkv)


def dropped_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token knows where it is."""
    change_start(monkeypatch, lambda start, model: start - model.pos_embed[0])


def transposed_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches have each other's positions."""

    def change(start: Tensor, model: VisionTransformer) -> Tensor:
        positions = model.pos_embed[0, 1:]
        start[1:] += positions.flip(0) - positions
        return start

    change_start(monkeypatch, change)


def forgotten_class_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class token starts as its position alone."""

    def change(start: Tensor, model: VisionTransformer) -> Tensor:
        start[0] = model.pos_embed[0, 0]
        return start

    change_start(monkeypatch, change)


def wrong_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head sees the last patch."""
    forward = vit.FrozenVitLast.forward
    monkeypatch.setattr(vit.FrozenVitLast, "forward", lambda self, x: forward(self, x.flip(0)))


VIT_DAMAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    damage.__name__: damage
    for damage in (
        forgotten_scale,
        dropped_positions,
        transposed_positions,
        forgotten_class_token,
        wrong_token,
    )
}
