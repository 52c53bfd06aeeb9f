"""Transformers' Swin and Swinv2: query, key and value apart; modules named unlike files."""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from swin_deploy.architecture import Semantics
from swin_deploy.checkpoints.dialect import (
    BLOCK,
    KIND,
    MERGE,
    MLP_OF_POSITIONS,
    TABLE,
    Dialect,
    Rename,
    Tensors,
)

_ROOT = r"((swin|swinv2)\.)?"
_IN_BLOCK = _ROOT + r"encoder\.layers\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."
_FILES = ("self.query", "self.key", "self.value")
_MODULES = ("q_proj", "k_proj", "v_proj")  # what V1 calls them in memory since transformers 5


def _join_qkv(tensors: Tensors) -> Tensors:
    """Ours is one matrix of the rows of all three. V2 has no bias of the key."""
    joined = dict(tensors)
    for name in tensors:
        match = re.fullmatch(r"(.*\.attention\.)(self\.query|q_proj)\.(weight|bias)", name)
        if match is None:
            continue
        stem, first, kind = match.groups()
        query, key, value = (
            f"{stem}{part}.{kind}" for part in (_FILES if first == _FILES[0] else _MODULES)
        )
        if all(part in joined for part in (query, key, value)):
            rows = [joined.pop(part) for part in (query, key, value)]
            joined[f"{stem}qkv.{kind}"] = torch.cat(rows)
        elif kind == "bias" and f"{stem}self.logit_scale" in tensors and value in joined:
            joined[f"{stem}q_bias"], joined[f"{stem}v_bias"] = joined.pop(query), joined.pop(value)
    return joined


_MARK = rf"{_IN_BLOCK}attention\.(self\.query|q_proj)\.weight"
_RENAMES = (
    Rename(rf"{_ROOT}embeddings\.patch_embeddings\.projection\.{KIND}", "patch_embed.proj.{kind}"),
    Rename(rf"{_ROOT}embeddings\.norm\.{KIND}", "patch_embed.norm.{kind}"),
    *(
        Rename(_IN_BLOCK + theirs, BLOCK + ours)
        for theirs, ours in (
            (rf"layernorm_before\.{KIND}", "norm1.{kind}"),
            (rf"layernorm_after\.{KIND}", "norm2.{kind}"),
            (rf"attention\.qkv\.{KIND}", "attn.qkv.{kind}"),
            (r"attention\.(?P<part>q_bias|v_bias)", "attn.{part}"),
            (r"attention\.self\.logit_scale", "attn.logit_scale"),
            (
                rf"attention\.self\.continuous_position_bias_mlp\.{MLP_OF_POSITIONS}",
                "attn.cpb_mlp.{part}",
            ),
            (rf"attention\.(output\.dense|o_proj)\.{KIND}", "attn.proj.{kind}"),
            (rf"(intermediate\.dense|mlp\.fc1)\.{KIND}", "mlp.fc1.{kind}"),
            (rf"(output\.dense|mlp\.fc2)\.{KIND}", "mlp.fc2.{kind}"),
            (rf"attention\.(self|relative_position_bias)\.{TABLE}", f"attn.{TABLE}"),
            (
                r"attention\.(self|relative_position_bias)\."
                r"(?P<part>relative_position_index|relative_coords_table)",
                "attn.{part}",
            ),
        )
    ),
    Rename(
        rf"{_ROOT}encoder\.layers\.(?P<stage>\d+)\.downsample\.{MERGE}",
        "layers.{stage}.downsample.{part}",
    ),
    Rename(rf"{_ROOT}layernorm\.{KIND}", "norm.{kind}"),
)
_PADS = Semantics(patch_remainder="pad", padding="before_roll")
_V2 = replace(_PADS, mask_value=-200.0)  # it adds its mask of -100 twice

HUGGING_FACE = Dialect(
    name="Hugging Face",
    mark=_MARK,
    lacks=r"hidden_states_norms\..*",
    prepare=_join_qkv,
    renames=(*_RENAMES, Rename(rf"classifier\.{KIND}", "head.{kind}")),
    semantics=replace(_PADS, small_grids="refuse", stop_shift="both"),
    semantics_v2=_V2,
    windows_as_trained=True,
)
HUGGING_FACE_BACKBONE = Dialect(
    name="Hugging Face, backbone",
    mark=_MARK,
    prepare=_join_qkv,
    renames=(
        *_RENAMES,
        Rename(
            rf"hidden_states_norms\.stage(?P<stage>\d)\.{KIND}",
            "stage_norms.{stage}.{kind}",
            lambda number: number - 1,
        ),
    ),
    semantics=replace(_PADS, small_grids="pad", stop_shift="never"),
    semantics_v2=_V2,
    windows_as_trained=True,
)
