"""How each library names the tensors of a Swin V1: data, and the few that need more than a name.

A dialect is told by its keys alone, never by the name of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from swin_deploy.networks import NetworkConfig
from swin_deploy.variants import Preprocessing

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Rename:
    """One kind of key.

    Attributes:
        pattern: Of the whole key; may have the groups ``stage``, ``block``, ``part`` and ``kind``.
        name: Ours, with those groups in braces.
        stage: The library's number of the stage -> ours, counted from 0.
    """

    pattern: str
    name: str
    stage: Callable[[int], int] = int

    def __call__(self, key: str) -> str | None:
        """Our name for ``key``; None if it is of another kind."""
        if (match := re.fullmatch(self.pattern, key)) is None:
            return None
        groups = match.groupdict()
        if "stage" in groups:
            groups["stage"] = str(self.stage(int(groups["stage"])))
        return self.name.format(**groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One library's names.

    Attributes:
        name: What ``inspect`` prints.
        mark: A pattern that some key has to match.
        lacks: A pattern that no key may match.
        renames: The first that fits a key names it.
        prepare: Applied to the tensors before renaming.
        refusal: Why it cannot be loaded; empty if it can.
        family: The kind of network; picks what reads the architecture off the shapes.
        preprocessing: Of this library's weights; None for that of the variant.
        note: What its files leave open, for whoever loads one.
        axes_apart: Whether an axis along which the grid is not larger than the window stops
            shifting by itself, as in ``architecture``. Others then shift along neither axis.
    """

    name: str
    mark: str
    lacks: str = r"(?!)"
    renames: tuple[Rename, ...] = ()
    prepare: Callable[[Tensors], Tensors] = dict
    refusal: str = ""
    family: Literal["Swin", "ViT"] = "Swin"
    preprocessing: Callable[[NetworkConfig], Preprocessing] | None = None
    note: str = ""
    axes_apart: bool = True

    def fits(self, names: Iterable[str]) -> bool:
        """Whether these are the keys of a checkpoint of this library."""
        names = list(names)
        return any(re.fullmatch(self.mark, name) for name in names) and not any(
            re.fullmatch(self.lacks, name) for name in names
        )


def _join_qkv(tensors: Tensors) -> Tensors:
    """Hugging Face keeps query, key and value apart; ours is one matrix of their rows.

    Its files say ``self.query``; since transformers 5 its modules say ``q_proj``.
    """
    joined = dict(tensors)
    for name in tensors:
        match = re.fullmatch(r"(.*\.attention\.)(self\.query|q_proj)\.(weight|bias)", name)
        if match is None:
            continue
        stem, first, kind = match.groups()
        parts = _QKV_FILES if first == _QKV_FILES[0] else _QKV_MODULES
        names = [f"{stem}{part}.{kind}" for part in parts]
        if all(part in tensors for part in names):  # otherwise they are reported as unknown
            joined[f"{stem}qkv.{kind}"] = torch.cat([joined.pop(part) for part in names])
    return joined


_QKV_FILES = ("self.query", "self.key", "self.value")
_QKV_MODULES = ("q_proj", "k_proj", "v_proj")

# Buffers that libraries save although they follow from the architecture.
BUFFERS = re.compile(r"(.*\.)?(relative_position_index|attn_mask|relative_coords_table)")

_KIND = r"(?P<kind>weight|bias)"
_TABLE = "relative_position_bias_table"
_BLOCK = "layers.{stage}.blocks.{block}."
_MERGE = r"\.downsample\.(?P<part>norm\.weight|norm\.bias|reduction\.weight)"
_IN_BLOCK = r"layers\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."

_AUTHORS = (
    Rename(rf"patch_embed\.(?P<part>proj|norm)\.{_KIND}", "patch_embed.{part}.{kind}"),
    Rename(rf"{_IN_BLOCK}(?P<part>norm[12]|mlp\.fc[12])\.{_KIND}", _BLOCK + "{part}.{kind}"),
    Rename(rf"{_IN_BLOCK}attn\.(?P<part>qkv|proj)\.{_KIND}", _BLOCK + "attn.{part}.{kind}"),
    Rename(rf"{_IN_BLOCK}attn\.{_TABLE}", _BLOCK + f"attn.{_TABLE}"),
    Rename(rf"norm\.{_KIND}", "norm.{kind}"),
)
_TORCHVISION_BLOCK = r"features\.(?P<stage>[1357])\.(?P<block>\d+)\."
_HF_BLOCK = r"(swin\.)?encoder\.layers\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."
_HF_EMBED = r"(swin\.)?embeddings\."


def _torchvision_stage(number: int) -> int:
    return (number - 1) // 2  # 1, 3, 5, 7 are blocks; 2, 4, 6 the merges after them


DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        name="Swin V2",
        mark=r".*(logit_scale|cpb_mlp|continuous_position_bias_mlp).*",
        refusal="only Swin V1 is supported so far",
    ),
    Dialect(
        name="OpenMMLab",
        mark=r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\..*",
        refusal="it merges patches in the channel order of Unfold, which is not supported so far",
    ),
    Dialect(
        name="csm-kr",
        mark=r"features\.\d+\.\d+\.(w_msa|sw_msa)\..*",
        refusal="its merging mixes rows with channels, so no standard Swin computes what it does",
    ),
    Dialect(
        name="berniwal",
        mark=r"stage\d\.patch_partition\..*",
        refusal="its heads share one position table, and its last stage shifts",
    ),
    Dialect(
        name="torchvision",
        mark=r"features\.1\.0\.attn\.qkv\.weight",
        renames=(
            Rename(rf"features\.0\.0\.{_KIND}", "patch_embed.proj.{kind}"),
            Rename(rf"features\.0\.2\.{_KIND}", "patch_embed.norm.{kind}"),
            *(
                Rename(rf"{_TORCHVISION_BLOCK}{theirs}\.{_KIND}", name, _torchvision_stage)
                for theirs, name in (
                    (r"(?P<part>norm[12])", _BLOCK + "{part}.{kind}"),
                    (r"attn\.(?P<part>qkv|proj)", _BLOCK + "attn.{part}.{kind}"),
                    (r"mlp\.0", _BLOCK + "mlp.fc1.{kind}"),
                    (r"mlp\.3", _BLOCK + "mlp.fc2.{kind}"),
                )
            ),
            Rename(
                rf"{_TORCHVISION_BLOCK}attn\.{_TABLE}",
                _BLOCK + f"attn.{_TABLE}",
                _torchvision_stage,
            ),
            Rename(
                r"features\.(?P<stage>[246])\.(?P<part>norm\.weight|norm\.bias|reduction\.weight)",
                "layers.{stage}.downsample.{part}",
                _torchvision_stage,
            ),
            Rename(rf"(?P<part>norm|head)\.{_KIND}", "{part}.{kind}"),
        ),
    ),
    Dialect(
        name="Hugging Face",
        axes_apart=False,
        mark=rf"{_HF_BLOCK}attention\.(self\.query|q_proj)\.weight",
        prepare=_join_qkv,
        renames=(
            Rename(rf"{_HF_EMBED}patch_embeddings\.projection\.{_KIND}", "patch_embed.proj.{kind}"),
            Rename(rf"{_HF_EMBED}norm\.{_KIND}", "patch_embed.norm.{kind}"),
            *(
                Rename(rf"{_HF_BLOCK}{theirs}\.{_KIND}", _BLOCK + ours + ".{kind}")
                for theirs, ours in (
                    ("layernorm_before", "norm1"),
                    ("layernorm_after", "norm2"),
                    (r"attention\.qkv", "attn.qkv"),
                    (r"attention\.(output\.dense|o_proj)", "attn.proj"),
                    (r"(intermediate\.dense|mlp\.fc1)", "mlp.fc1"),
                    (r"(output\.dense|mlp\.fc2)", "mlp.fc2"),
                )
            ),
            Rename(
                rf"{_HF_BLOCK}attention\.(self|relative_position_bias)\.{_TABLE}",
                _BLOCK + f"attn.{_TABLE}",
            ),
            Rename(
                rf"(swin\.)?encoder\.layers\.(?P<stage>\d+){_MERGE}",
                "layers.{stage}.downsample.{part}",
            ),
            Rename(rf"(swin\.)?layernorm\.{_KIND}", "norm.{kind}"),
            Rename(rf"classifier\.{_KIND}", "head.{kind}"),
        ),
    ),
    Dialect(
        # Saves the position index as the authors do, but builds its masks on every call.
        name="WZMIAOMIAO",
        mark=r"layers\.0\.blocks\.0\.attn\.relative_position_index",
        lacks=r".*\.attn_mask|head\.fc\..*",
        refusal="it shifts also where one window covers the grid, which no standard Swin does",
    ),
    Dialect(
        name="Microsoft or timm before 0.9",
        mark=r"layers\.0\.downsample\..*",
        axes_apart=False,
        renames=(
            *_AUTHORS,
            Rename(rf"layers\.(?P<stage>\d+){_MERGE}", "layers.{stage}.downsample.{part}"),
            Rename(rf"head\.{_KIND}", "head.{kind}"),
        ),
    ),
    Dialect(
        name="timm, 0.9 or later",
        mark=rf"{_IN_BLOCK}attn\.qkv\.weight",
        renames=(
            *_AUTHORS,
            Rename(
                rf"layers\.(?P<stage>[1-9]){_MERGE}",
                "layers.{stage}.downsample.{part}",
                lambda number: number - 1,
            ),
            Rename(rf"head\.fc\.{_KIND}", "head.{kind}"),
        ),
    ),
)
