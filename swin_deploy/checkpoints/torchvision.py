"""torchvision.models.swin_transformer: stages and merges are numbered through."""

from __future__ import annotations

import re

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

_IN_BLOCK = r"features\.(?P<stage>\d*[13579])\.(?P<block>\d+)\."


def _stage(number: int) -> int:
    return (number - 1) // 2  # 1, 3, 5, 7 are blocks; 2, 4, 6 the merges after them


def _split_bias(tensors: Tensors) -> Tensors:
    """V2 keeps a bias of the key, and sets it to zero in every call; ours has none."""
    split = dict(tensors)
    for name in tensors:
        match = re.fullmatch(r"(.*\.attn\.)qkv\.bias", name)
        if match is None or not {f"{match[1]}logit_scale", f"{match[1]}v2_logit_scale"} & {
            *tensors
        }:
            continue
        q, key, v = split.pop(name).chunk(3)
        split |= {f"{match[1]}{n}_bias": part for n, part in (("q", q), ("k", key), ("v", v))}
    return split


TORCHVISION = Dialect(
    name="torchvision",
    mark=r"features\.1\.0\.attn\.qkv\.weight",
    prepare=_split_bias,
    renames=(
        Rename(rf"features\.0\.0\.{KIND}", "patch_embed.proj.{kind}"),
        Rename(rf"features\.0\.2\.{KIND}", "patch_embed.norm.{kind}"),
        *(
            Rename(_IN_BLOCK + theirs, BLOCK + ours, _stage)
            for theirs, ours in (
                (rf"(?P<part>norm[12])\.{KIND}", "{part}.{kind}"),
                (rf"attn\.(?P<part>qkv|proj)\.{KIND}", "attn.{part}.{kind}"),
                (rf"attn\.{TABLE}", f"attn.{TABLE}"),
                (r"attn\.(?P<part>[qkv]_bias|logit_scale)", "attn.{part}"),
                (r"attn\.v2_logit_scale", "attn.logit_scale"),  # before 0.14
                (rf"attn\.cpb_mlp\.{MLP_OF_POSITIONS}", "attn.cpb_mlp.{part}"),
                (
                    r"attn\.(?P<part>relative_position_index|relative_coords_table)",
                    "attn.{part}",
                ),
                (rf"mlp\.0\.{KIND}", "mlp.fc1.{kind}"),
                (rf"mlp\.3\.{KIND}", "mlp.fc2.{kind}"),
            )
        ),
        Rename(
            rf"features\.(?P<stage>\d*[2468])\.{MERGE}", "layers.{stage}.downsample.{part}", _stage
        ),
        Rename(rf"(?P<part>norm|head)\.{KIND}", "{part}.{kind}"),
    ),
    semantics=Semantics(patch_remainder="drop", padding="before_roll", small_grids="pad"),
)
