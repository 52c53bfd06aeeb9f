"""Rows of the table: where the classifier is, and of how many layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import nn

from head_networks import KNOWN, Beside, C, backbone, fill, normed, one, timm_head, two
from layouts import Layout, Written, refused, saved
from swin_deploy.network.checkpoints.options import LoadOptions

WRITERS = {
    "timm": "timm 1.0.31",
    "torchvision": "torchvision 0.28.0",
    "transformers": "transformers 5.24.0",
}
AT_64 = LoadOptions(image_size=(64, 64))


def _loads(name: str) -> Layout:
    network, said, _ = KNOWN[name]
    library, _, what = name.partition(", ")

    def make(folder: Path) -> Written:
        return saved(fill(network()).eval(), folder)

    options = replace(said, image_size=AT_64.image_size)
    return Layout(writer=WRITERS[library], what=f"head: {what}", make=make, options=options)


def _refused(what: str, network: Callable[[], nn.Module], refusal: str) -> Layout:
    def make(folder: Path) -> Written:
        return refused(folder, fill(network()).state_dict())

    writer = WRITERS["timm"]
    return Layout(writer=writer, what=f"head: {what}", make=make, options=AT_64, refusal=refusal)


def _layer_norm() -> nn.Module:
    return Beside(backbone(), fc=nn.Sequential(nn.LayerNorm(C), one()))


LAYOUTS: tuple[Layout, ...] = (
    *(_loads(name) for name in KNOWN),
    _refused("two layers, nothing said", lambda: timm_head(two()), "which activation function"),
    _refused("batch norm, nothing said", lambda: timm_head(normed()), "which activation function"),
    _refused(
        "two beside", lambda: Beside(backbone(), a=one(), b=nn.Linear(C, 3)), "could be the head"
    ),
    _refused("LayerNorm beside", _layer_norm, "may be its head"),
)
