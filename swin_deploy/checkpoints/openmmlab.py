"""OpenMMLab: mmpretrain's classifiers, and the backbones of mmdet and mmseg.

Merging goes through Unfold, so a group's channels come channel first. The two families treat small
grids differently (``pad_small_map``).
"""

from __future__ import annotations

from dataclasses import replace

from swin_deploy.architecture import Semantics
from swin_deploy.checkpoints.dialect import BLOCK, KIND, MERGE, TABLE, Dialect, Rename

_IN_BLOCK = r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."
_MARK = r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\.qkv\.weight"

_RENAMES = (
    Rename(rf"patch_embed\.projection\.{KIND}", "patch_embed.proj.{kind}"),
    Rename(rf"patch_embed\.norm\.{KIND}", "patch_embed.norm.{kind}"),
    *(
        Rename(_IN_BLOCK + theirs, BLOCK + ours)
        for theirs, ours in (
            (rf"(?P<part>norm[12])\.{KIND}", "{part}.{kind}"),
            (rf"attn\.w_msa\.(?P<part>qkv|proj)\.{KIND}", "attn.{part}.{kind}"),
            (rf"attn\.w_msa\.{TABLE}", f"attn.{TABLE}"),
            (r"attn\.w_msa\.relative_position_index", "attn.relative_position_index"),
            (rf"ffn\.layers\.0\.0\.{KIND}", "mlp.fc1.{kind}"),
            (rf"ffn\.layers\.1\.{KIND}", "mlp.fc2.{kind}"),
        )
    ),
    Rename(rf"stages\.(?P<stage>\d+)\.downsample\.{MERGE}", "layers.{stage}.downsample.{part}"),
)
_SEMANTICS = Semantics(
    patch_remainder="pad",
    padding="before_roll",
    small_grids="pad",
    stop_shift="never",
    merge_order="channels",
)

OPENMMLAB_BACKBONE = Dialect(
    name="OpenMMLab, backbone of a detector or segmenter",
    mark=_MARK,
    lacks=r"head\.fc\..*|norm\d\.(?!weight|bias).*",
    renames=(*_RENAMES, Rename(rf"norm(?P<stage>\d)\.{KIND}", "stage_norms.{stage}.{kind}")),
    semantics=_SEMANTICS,
)
OPENMMLAB = Dialect(
    name="OpenMMLab, classifier",
    mark=_MARK,
    renames=(
        *_RENAMES,
        Rename(rf"norm3\.{KIND}", "norm.{kind}"),
        Rename(rf"head\.fc\.{KIND}", "head.{kind}"),
    ),
    semantics=replace(_SEMANTICS, small_grids="refuse", stop_shift="both"),
)
