"""Microsoft's release, what is written like it, and timm, which moved the merges and the head.

Swin-Transformer/models/swin_transformer.py and swin_transformer_v2.py; its Object-Detection
repository; timm before and since 0.9; WZMIAOMIAO's deep-learning-for-image-processing.
"""

from __future__ import annotations

from swin_deploy.architecture import Semantics
from swin_deploy.checkpoints.dialect import (
    BLOCK,
    KIND,
    MERGE,
    MLP_OF_POSITIONS,
    TABLE,
    Dialect,
    Rename,
)

_IN_BLOCK = r"layers\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."

_BLOCKS = (
    Rename(rf"patch_embed\.(?P<part>proj|norm)\.{KIND}", "patch_embed.{part}.{kind}"),
    Rename(rf"{_IN_BLOCK}(?P<part>norm[12]|mlp\.fc[12])\.{KIND}", BLOCK + "{part}.{kind}"),
    Rename(rf"{_IN_BLOCK}attn\.(?P<part>qkv|proj)\.{KIND}", BLOCK + "attn.{part}.{kind}"),
    Rename(rf"{_IN_BLOCK}attn\.{TABLE}", BLOCK + f"attn.{TABLE}"),
    Rename(rf"{_IN_BLOCK}attn\.(?P<part>q_bias|v_bias|logit_scale)", BLOCK + "attn.{part}"),
    Rename(rf"{_IN_BLOCK}attn\.cpb_mlp\.{MLP_OF_POSITIONS}", BLOCK + "attn.cpb_mlp.{part}"),
    Rename(
        rf"{_IN_BLOCK}(?P<part>attn_mask|attn\.relative_position_index|attn\.relative_coords_table)",
        BLOCK + "{part}",
    ),
    Rename(rf"norm\.{KIND}", "norm.{kind}"),
)
_AUTHORS = (
    *_BLOCKS,
    Rename(rf"layers\.(?P<stage>\d+)\.downsample\.{MERGE}", "layers.{stage}.downsample.{part}"),
    Rename(rf"head\.{KIND}", "head.{kind}"),
)

MICROSOFT = Dialect(
    name="Microsoft or timm before 0.9",
    mark=r"layers\.0\.downsample\..*",
    renames=_AUTHORS,
    semantics=Semantics(small_grids="shrink_both", stop_shift="both"),
)
MICROSOFT_BACKBONE = Dialect(
    name="Microsoft, backbone of a detector",
    mark=r"norm\d\.weight",
    lacks=r"(?!layers\.|patch_embed\.|norm\d).*",
    renames=(*_AUTHORS, Rename(rf"norm(?P<stage>\d)\.{KIND}", "stage_norms.{stage}.{kind}")),
    semantics=Semantics(
        patch_remainder="pad", padding="before_roll", small_grids="pad", stop_shift="never"
    ),
)
WZMIAOMIAO = Dialect(
    # Saves the position index as the authors do, but builds its masks on every call.
    name="WZMIAOMIAO",
    mark=r"layers\.0\.blocks\.0\.attn\.relative_position_index",
    lacks=r".*\.attn_mask|head\.fc\..*|.*\.logit_scale|layers\.3\.downsample\..*",
    renames=_AUTHORS,
    semantics=Semantics(
        patch_remainder="pad_both", padding="before_roll", small_grids="pad", stop_shift="never"
    ),
)
TIMM = Dialect(
    name="timm, 0.9 or later",
    mark=rf"{_IN_BLOCK}attn\.qkv\.weight",
    renames=(
        *_BLOCKS,
        Rename(
            rf"layers\.(?P<stage>[1-9])\.downsample\.{MERGE}",
            "layers.{stage}.downsample.{part}",
            lambda number: number - 1,
        ),
        Rename(rf"head\.fc\.{KIND}", "head.{kind}"),
    ),
    semantics=Semantics(patch_remainder="drop", padding="after_roll"),
)
