"""Re-implementations of Swin V1 that compute something of their own, by the names of their tensors.

berniwal/swin-transformer-pytorch: patches and groups are cut out by Unfold and projected with a
bias, without a norm; one table of positions serves all heads of a block, by the offset of the key
minus the query; masks are saved, and are infinite; the last norm is that of the mean.

csm-kr/swin_transformer_pytorch: a module holds two blocks, the second one shifted by 3. Merging
hands a map whose channels are last to an Unfold that expects them first. Until April 2023 it had
neither tables of positions nor norms in its merges, but biases there.

Both shift at every stage, also where one window covers the grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from torch import Tensor

from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.dialect import (
    BLOCK,
    KIND,
    SHARED_TABLE,
    TABLE,
    Dialect,
    Rename,
    Tensors,
)
from swin_deploy.network.checkpoints.options import Hints
from swin_deploy.network.swin import Semantics

_COLOURS = 3
# Instead of an infinity, which FP16 and INT8 cannot calculate with: e to the power of it is 0 in
# every type, so that the softmax is the same.
_NEVER = -1e4

_ATTENTION = r"stage\d+\.layers\.\d+\.[01]\.attention_block\.fn\.fn\."
_PLANAR = 2  # axes of a matrix


def _nth_of_pair(second: int) -> Callable[[int], int]:
    return lambda pair: 2 * pair + second


def _convert_berniwal(tensors: Tensors) -> Tensors:
    """Patches as a convolution, and one position table in our order of offsets."""
    converted = dict(tensors)
    for name, value in tensors.items():
        if name == "stage1.patch_partition.linear.weight":
            converted[name] = _convolution(name, value)
        elif re.fullmatch(rf"{_ATTENTION}to_qkv\.weight", name):
            _require_whole_heads(name, value)
        elif re.fullmatch(rf"{_ATTENTION}pos_embedding", name):
            # By key minus query, both from negative to positive; ours is by query minus key.
            _require_relative(name, value, _window_tokens(tensors))
            converted[name] = value.flip(0, 1).reshape(-1, 1)
    return converted


def _convolution(name: str, value: Tensor) -> Tensor:
    """The projection of flattened patches, (c, 3 * p * p), with its axes: (c, 3, p, p)."""
    side = math.isqrt(value.shape[-1] // _COLOURS) if value.ndim == _PLANAR else 0
    if side == 0 or _COLOURS * side**2 != value.shape[1]:
        raise InputError(
            f"{name} is {tuple(value.shape)}, so its patches are no squares of {_COLOURS} colours"
        )
    return value.reshape(-1, _COLOURS, side, side)


def _require_whole_heads(name: str, value: Tensor) -> None:
    if value.ndim == _PLANAR and value.shape[0] != 3 * value.shape[1]:
        raise InputError(
            f"{name} is {tuple(value.shape)}: its heads have {value.shape[0] // 3} channels "
            f"together, and the stage has {value.shape[1]}",
            "a network whose head_dim times heads is its channels",
        )


def _window_tokens(tensors: Tensors) -> int:
    """Tokens of a window, by a mask: shapes of positions alone may mean two windows."""
    for name, value in tensors.items():
        if re.fullmatch(rf"{_ATTENTION}upper_lower_mask", name) and value.ndim == _PLANAR:
            return value.shape[-1]
    raise InputError("it has no masks, which tell its windows", "weights of its later versions")


def _require_relative(name: str, value: Tensor, tokens: int) -> None:
    shape, offsets = tuple(value.shape), 2 * math.isqrt(tokens) - 1
    if shape == (tokens, tokens):
        raise InputError(
            f"{name} is {shape}: a bias for every two of the {tokens} tokens of a window, which "
            "is no function of their offset (relative_pos_embedding = False)",
            "a network with relative_pos_embedding = True",
        )
    if shape != (offsets, offsets):
        raise InputError(
            f"{name} is {shape}, but windows of {tokens} tokens have {offsets}x{offsets} offsets"
        )


_BERNIWAL_PARTS = (
    (rf"attention_block\.fn\.norm\.{KIND}", "norm1.{kind}"),
    (rf"attention_block\.fn\.fn\.to_qkv\.{KIND}", "attn.qkv.{kind}"),
    (rf"attention_block\.fn\.fn\.to_out\.{KIND}", "attn.proj.{kind}"),
    (r"attention_block\.fn\.fn\.pos_embedding", f"attn.{SHARED_TABLE}"),
    (r"attention_block\.fn\.fn\.(?P<part>upper_lower_mask|left_right_mask)", "attn.{part}"),
    (rf"mlp_block\.fn\.norm\.{KIND}", "norm2.{kind}"),
    (rf"mlp_block\.fn\.fn\.net\.0\.{KIND}", "mlp.fc1.{kind}"),
    (rf"mlp_block\.fn\.fn\.net\.2\.{KIND}", "mlp.fc2.{kind}"),
)

BERNIWAL = Dialect(
    name="berniwal",
    mark=r"stage\d+\.patch_partition\.linear\.weight",
    prepare=_convert_berniwal,
    renames=(
        Rename(rf"stage1\.patch_partition\.linear\.{KIND}", "patch_embed.proj.{kind}"),
        Rename(  # a stage begins with the merge that ends the one before
            rf"stage(?P<stage>\d+)\.patch_partition\.linear\.{KIND}",
            "layers.{stage}.downsample.reduction.{kind}",
            lambda number: number - 2,
        ),
        *(
            Rename(
                rf"stage(?P<stage>\d+)\.layers\.(?P<block>\d+)\.{second}\.{theirs}",
                BLOCK + ours,
                lambda number: number - 1,
                _nth_of_pair(second),
            )
            for second in (0, 1)
            for theirs, ours in _BERNIWAL_PARTS
        ),
        Rename(rf"mlp_head\.0\.{KIND}", "fc_norm.{kind}"),
        Rename(rf"mlp_head\.1\.{KIND}", "head.{kind}"),
    ),
    semantics=Semantics(
        patch_remainder="drop",
        small_grids="refuse",
        stop_shift="never",
        merge_order="channels",
        mask_value=_NEVER,
    ),
    hints=Hints(head_channels=32),
)

_CSM_KR_WINDOW = 7
_CSM_KR_BLOCK = r"features\.(?P<stage>\d*[13579])\.(?P<block>\d+)\."


def _require_windows_of_7(tensors: Tensors) -> Tensors:
    rows = (2 * _CSM_KR_WINDOW - 1) ** 2
    for name, value in tensors.items():
        if name.endswith(TABLE) and value.shape[:1] != (rows,):
            raise InputError(
                f"{name} is {tuple(value.shape)}, but this code shifts by 3 and has windows of "
                f"{_CSM_KR_WINDOW}, so tables of {rows} rows"
            )
    return dict(tensors)


def _stage(number: int) -> int:
    return (number - 1) // 2  # 1, 3, 5, 7 are blocks; 2, 4, 6 the merges after them


CSM_KR = Dialect(
    name="csm-kr",
    mark=r"features\.\d+\.\d+\.(w_msa|sw_msa)\.qkv\.weight",
    prepare=_require_windows_of_7,
    renames=(
        Rename(rf"features\.0\.(?P<part>proj|norm)\.{KIND}", "patch_embed.{part}.{kind}"),
        *(
            Rename(_CSM_KR_BLOCK + theirs, BLOCK + ours, _stage, _nth_of_pair(second))
            for second, (number, attention) in enumerate(((1, "w_msa"), (2, "sw_msa")))
            for theirs, ours in (
                (rf"norm{number}_(?P<part>[12])\.{KIND}", "norm{part}.{kind}"),
                (rf"mlp{number}\.(?P<part>fc[12])\.{KIND}", "mlp.{part}.{kind}"),
                (rf"{attention}\.(?P<part>qkv|proj)\.{KIND}", "attn.{part}.{kind}"),
                (rf"{attention}\.(?P<part>{TABLE}|relative_position_index)", "attn.{part}"),
            )
        ),
        Rename(
            rf"features\.(?P<stage>\d*[2468])\.norm\.{KIND}",
            "layers.{stage}.downsample.norm.{kind}",
            _stage,
        ),
        Rename(
            rf"features\.(?P<stage>\d*[2468])\.linear\.{KIND}",
            "layers.{stage}.downsample.reduction.{kind}",
            _stage,
        ),
        Rename(rf"(?P<part>norm|head)\.{KIND}", "{part}.{kind}"),
    ),
    semantics=Semantics(
        patch_remainder="drop",
        small_grids="refuse",
        stop_shift="never",
        merge_order="channels_last",
    ),
    note="its merges put values of many tokens together, by the size of the grid: weights are good "
    "for the image size of their training only, which is 224 as its code is published",
    hints=Hints(image_size=(224, 224), window_size=_CSM_KR_WINDOW, head_channels=32),
)
