"""All dialects, in the order in which they are tried, and those that are refused by name.

A dialect is told by its keys alone, never by the name of the file. Another library's layout is one
more ``Dialect`` here. The authors' is that of Microsoft's repositories and of what is written like
it: timm before 0.9, and WZMIAOMIAO's deep-learning-for-image-processing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import torch

from swin_deploy.network.checkpoints.dialect import (
    BLOCK,
    KIND,
    MERGE,
    MLP_OF_POSITIONS,
    TABLE,
    Dialect,
    Rename,
    Tensors,
)
from swin_deploy.network.checkpoints.reimplementations import BERNIWAL, CSM_KR
from swin_deploy.network.checkpoints.vit_dialects import VIT_DIALECTS
from swin_deploy.network.swin import Semantics

_ROOT = r"((swin|swinv2)\.)?"
_HF_BLOCK = _ROOT + r"encoder\.layers\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."
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


def _join_backbone(tensors: Tensors) -> Tensors:
    """As ``_join_qkv``, and MaskFormer's norms by the stage whose channels they have."""
    joined = _join_qkv(tensors)
    patches = [name for name in joined if name.endswith("patch_embeddings.projection.weight")]
    for name in tensors:
        match = re.fullmatch(r"hidden_states_norms\.\d+\.(weight|bias)", name)
        if match is None or not patches:
            continue
        stage = (len(tensors[name]) // joined[patches[0]].shape[0]).bit_length()
        joined[f"hidden_states_norms.stage{stage}.{match[1]}"] = joined.pop(name)
    return joined


_HF_MARK = rf"{_HF_BLOCK}attention\.(self\.query|q_proj)\.weight"
_HF_RENAMES = (
    Rename(rf"{_ROOT}embeddings\.patch_embeddings\.projection\.{KIND}", "patch_embed.proj.{kind}"),
    Rename(rf"{_ROOT}embeddings\.norm\.{KIND}", "patch_embed.norm.{kind}"),
    *(
        Rename(_HF_BLOCK + theirs, BLOCK + ours)
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
    mark=_HF_MARK,
    lacks=r"hidden_states_norms\..*",
    prepare=_join_qkv,
    renames=(*_HF_RENAMES, Rename(rf"classifier\.{KIND}", "head.{kind}")),
    semantics=replace(_PADS, small_grids="refuse", stop_shift="both"),
    semantics_v2=_V2,
    windows_as_trained=True,
)
HUGGING_FACE_BACKBONE = Dialect(
    name="Hugging Face, backbone",
    mark=_HF_MARK,
    prepare=_join_backbone,
    renames=(
        *_HF_RENAMES,
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

_TORCHVISION_BLOCK = r"features\.(?P<stage>\d*[13579])\.(?P<block>\d+)\."


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
            Rename(_TORCHVISION_BLOCK + theirs, BLOCK + ours, _stage)
            for theirs, ours in (
                (rf"(?P<part>norm[12])\.{KIND}", "{part}.{kind}"),
                (rf"attn\.(?P<part>qkv|proj)\.{KIND}", "attn.{part}.{kind}"),
                (rf"attn\.{TABLE}", f"attn.{TABLE}"),
                (r"attn\.(?P<part>[qkv]_bias|logit_scale)", "attn.{part}"),
                (r"attn\.v2_logit_scale", "attn.logit_scale"),  # before 0.14
                (rf"attn\.cpb_mlp\.{MLP_OF_POSITIONS}", "attn.cpb_mlp.{part}"),
                (r"attn\.(?P<part>relative_position_index|relative_coords_table)", "attn.{part}"),
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

_MMLAB_BLOCK = r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."
_MMLAB_MARK = r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\.qkv\.weight"

_MMLAB_RENAMES = (
    Rename(rf"patch_embed\.projection\.{KIND}", "patch_embed.proj.{kind}"),
    Rename(rf"patch_embed\.norm\.{KIND}", "patch_embed.norm.{kind}"),
    *(
        Rename(_MMLAB_BLOCK + theirs, BLOCK + ours)
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
    mark=_MMLAB_MARK,
    lacks=r"head\.fc\..*|norm\d\.(?!weight|bias).*",
    renames=(*_MMLAB_RENAMES, Rename(rf"norm(?P<stage>\d)\.{KIND}", "stage_norms.{stage}.{kind}")),
    semantics=_SEMANTICS,
)
OPENMMLAB = Dialect(
    name="OpenMMLab, classifier",
    mark=_MMLAB_MARK,
    renames=(
        *_MMLAB_RENAMES,
        Rename(rf"norm3\.{KIND}", "norm.{kind}"),
        Rename(rf"head\.fc\.{KIND}", "head.{kind}"),
    ),
    semantics=replace(_SEMANTICS, small_grids="refuse", stop_shift="both"),
)

_AUTHORS_BLOCK = r"layers\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."

_BLOCKS = (
    Rename(rf"patch_embed\.(?P<part>proj|norm)\.{KIND}", "patch_embed.{part}.{kind}"),
    Rename(rf"{_AUTHORS_BLOCK}(?P<part>norm[12]|mlp\.fc[12])\.{KIND}", BLOCK + "{part}.{kind}"),
    Rename(rf"{_AUTHORS_BLOCK}attn\.(?P<part>qkv|proj)\.{KIND}", BLOCK + "attn.{part}.{kind}"),
    Rename(rf"{_AUTHORS_BLOCK}attn\.{TABLE}", BLOCK + f"attn.{TABLE}"),
    Rename(rf"{_AUTHORS_BLOCK}attn\.(?P<part>q_bias|v_bias|logit_scale)", BLOCK + "attn.{part}"),
    Rename(rf"{_AUTHORS_BLOCK}attn\.cpb_mlp\.{MLP_OF_POSITIONS}", BLOCK + "attn.cpb_mlp.{part}"),
    Rename(
        rf"{_AUTHORS_BLOCK}(?P<part>attn_mask|attn\.relative_position_index|attn\.relative_coords_table)",
        BLOCK + "{part}",
    ),
    Rename(rf"norm\.{KIND}", "norm.{kind}"),
)
_AUTHORS = (
    *_BLOCKS,
    Rename(rf"layers\.(?P<stage>\d+)\.downsample\.{MERGE}", "layers.{stage}.downsample.{part}"),
    Rename(rf"head\.{KIND}", "head.{kind}"),
    # Parts that the authors have not, in names of ours: files that were written here.
    Rename(
        r"layers\.(?P<stage>\d+)\.downsample\.reduction\.bias",
        "layers.{stage}.downsample.reduction.bias",
    ),
    Rename(rf"fc_norm\.{KIND}", "fc_norm.{kind}"),
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
    mark=rf"{_AUTHORS_BLOCK}attn\.qkv\.weight",
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

_REFUSED = (
    Dialect(
        name="Swin V2-CR (timm's swinv2_cr)",
        mark=r".*\.meta_mlp\..*",
        refusal="it is another network than Swin V2: its positions go through a different MLP",
    ),
    Dialect(
        name="OpenMMLab Swin V2",
        mark=r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\.logit_scale",
        refusal="Swin V2 is supported from Microsoft, timm, torchvision and Hugging Face",
    ),
    Dialect(
        name="Swin with absolute positions",
        mark=r"(.*\.)?(absolute_pos_embed|embeddings\.position_embeddings)",
        refusal="the releases that are supported add no position to the patches (ape=False)",
    ),
    Dialect(
        name="masked image model",
        mark=r"(.*\.)?mask_token",
        refusal="it reconstructs images; fine-tune it to a classifier first",
    ),
)

DIALECTS: tuple[Dialect, ...] = (
    *_REFUSED,
    OPENMMLAB_BACKBONE,
    OPENMMLAB,
    TORCHVISION,
    CSM_KR,
    BERNIWAL,
    HUGGING_FACE,
    HUGGING_FACE_BACKBONE,
    MICROSOFT_BACKBONE,
    WZMIAOMIAO,
    MICROSOFT,
    TIMM,
)


KNOWN = (*DIALECTS, *VIT_DIALECTS)


def detect_dialect(names: Iterable[str]) -> Dialect | None:
    """The first dialect that the keys fit."""
    names = list(names)
    return next((dialect for dialect in KNOWN if dialect.fits(names)), None)
