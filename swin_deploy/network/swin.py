"""A Swin Transformer as plain data: its shapes, what shapes do not tell, and its token grids.

Nothing here needs torch: a wrong size is refused before anything heavy is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from swin_deploy.core.errors import ConfigError
from swin_deploy.network.interface import Size, require_architecture

MOST = 1 << 24  # of any size: beyond, trying to build it or to find a better one takes for ever
MOST_BLOCKS = 1000
Activation = Literal["gelu", "gelu_tanh"]
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh")
HeadActivation = Literal["none", "relu", "gelu", "tanh", "silu"]
HEAD_ACTIVATIONS: tuple[HeadActivation, ...] = ("none", "relu", "gelu", "tanh", "silu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Semantics:
    """What libraries do differently with the same weights. The README has their table.

    Attributes:
        patch_remainder: Of an image whose side the patch does not divide: ``refuse`` it, ``drop``
            the remaining pixels, ``pad`` with zeros at the bottom and the right, or ``pad_both``
            axes by up to a whole patch as soon as one of them needs it.
        padding: Of a grid that windows do not tile or merging cannot halve: ``refuse`` it, or pad
            with zeros at the bottom and the right, ``before_roll`` or ``after_roll``. Padded
            tokens take part in attention; V1 pads after the norm, so they are exactly zero.
        small_grids: Along an axis that is shorter than a window: ``shrink_axis`` shrinks the window
            to it, ``shrink_both`` shrinks both axes of the window to the shorter side of the grid,
            ``pad`` pads the grid to a window, ``refuse`` refuses.
        stop_shift: Where one window covers the grid: windows do not shift along that ``axis``,
            along ``both`` axes, or shift as everywhere (``never`` stops).
        merge_order: Of the channels that a merge concatenates, over (row, column) of the group:
            ``columns`` is (0, 0), (1, 0), (0, 1), (1, 1), ``rows`` is row-major, ``channels`` is
            that of Unfold, the channel slowest and then row-major. ``channels_last`` is Unfold of
            a map whose channels are the last axis, as if they were the first: every merged token
            gets values of many tokens, and which ones depends on the size of the grid.
        mask_value: Added to the attention logits of tokens that only the roll brought together.
    """

    patch_remainder: Literal["refuse", "drop", "pad", "pad_both"] = "refuse"
    padding: Literal["refuse", "before_roll", "after_roll"] = "refuse"
    small_grids: Literal["shrink_axis", "shrink_both", "pad", "refuse"] = "shrink_axis"
    stop_shift: Literal["axis", "both", "never"] = "axis"
    merge_order: Literal["columns", "rows", "channels", "channels_last"] = "columns"
    mask_value: float = -100.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mask_value) and self.mask_value < 0):
            raise ConfigError(
                f"semantics.mask_value = {self.mask_value} has to be finite and below 0",
                "-100, as in every release",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig:
    """The architecture of a Swin Transformer, V1 or V2.

    Attributes:
        name: Names the run folder; not part of the arithmetic.
        image_size: (height, width) of the input, in pixels.
        patch_size: Side of a patch, in pixels.
        in_channels: Channels of the image.
        embed_dim: Channels after the patch embedding; doubled by every merge.
        depths: Blocks per stage. Odd-numbered blocks shift their windows.
        num_heads: Attention heads per stage.
        window_size: Side of an attention window, in tokens.
        stage_windows: Windows of the stages, (rows, columns) in tokens, where they are not
            ``window_size`` squares in all of them; their longest side is ``window_size`` then.
        mlp_ratio: Hidden channels of the MLP over its input channels.
        activation: Of the MLPs: exact GELU, or its approximation by tanh.
        qkv_bias: Whether the query, key and value projection has a bias.
        num_classes: Width of the head; 0 for a backbone without one.
        head_hidden: Channels between the linear layers of a head that has several, in their order.
        head_activation: The function between those.
        keeps_norm: Without classes: whether the last norm is there all the same, so that the
            network gives embeddings. With classes it always is.
        version: 1 (Liu et al. 2021) or 2 (Liu et al. 2022: norms after the residual branches,
            cosine attention, a position bias computed by a small MLP).
        pretrained_window_sizes: V2 only, one per stage: the window that the position MLP was
            trained with, 0 for the present one.
        position_bias: V1 only: whether there is a table of position biases.
        patch_norm: Whether the patch embedding ends with a norm.
        merge_norm: Whether merges have a norm.
        merge_bias: Whether the projection of a merge has a bias.
        fc_norm: Whether the last norm is that of the mean over all tokens, as timm calls it, in
            place of one of every token before the mean.
        stage_norms: The stages, from 0, whose feature maps have a norm of their own, as in
            backbones of detectors.
        semantics: What the library of the weights does where shapes leave a choice.

    Raises:
        ConfigError: A value is impossible by itself or beside the others.
    """

    name: str
    image_size: Size = (224, 224)
    patch_size: int = 4
    in_channels: int = 3
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    stage_windows: tuple[Size, ...] = ()
    mlp_ratio: float = 4.0
    activation: Activation = "gelu"
    qkv_bias: bool = True
    num_classes: int = 1000
    head_hidden: tuple[int, ...] = ()
    head_activation: HeadActivation = "none"
    keeps_norm: bool = False
    version: Literal[1, 2] = 1
    pretrained_window_sizes: tuple[int, ...] = ()
    position_bias: bool = True
    patch_norm: bool = True
    merge_norm: bool = True
    merge_bias: bool = False
    fc_norm: bool = False
    stage_norms: tuple[int, ...] = ()
    semantics: Semantics = Semantics()

    def __post_init__(self) -> None:
        require_architecture(self, ("patch_size", "in_channels", "embed_dim", "window_size"))
        if self.num_classes < 0:
            raise ConfigError(f"num_classes = {self.num_classes} must not be negative")
        for field in ("image_size", "depths", "num_heads"):
            values = getattr(self, field)
            if not values or min(values) < 1:
                raise ConfigError(f"{field} = {list(values)} needs values of at least 1")
        sizes = (
            *(self.patch_size, self.in_channels, self.embed_dim, self.window_size),
            *(self.num_classes, *self.head_hidden, *self.image_size, *self.num_heads),
        )
        if max(sizes) > MOST or sum(self.depths) > MOST_BLOCKS:
            raise ConfigError(
                f"{max(sizes)} as a size, or {sum(self.depths)} as the number of blocks, is more "
                f"than any network has: up to {MOST}, and {MOST_BLOCKS}"
            )
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation = {self.activation!r} is none of {', '.join(ACTIVATIONS)}"
            )
        self._check_head()
        self._check_windows()
        if len(self.depths) != len(self.num_heads):
            raise ConfigError(
                f"depths has {len(self.depths)} stages and num_heads has {len(self.num_heads)}",
                "one number of each per stage",
            )
        if not math.isfinite(self.mlp_ratio) or self.embed_dim * self.mlp_ratio < 1:
            raise ConfigError(f"mlp_ratio = {self.mlp_ratio} leaves the MLP without channels")
        for stage, heads in enumerate(self.num_heads):
            if (channels := self.embed_dim << stage) % heads:
                raise ConfigError(
                    f"num_heads[{stage}] = {heads} does not divide that stage's {channels} channels"
                )
        self._check_version()

    def _check_head(self) -> None:
        if self.head_activation not in HEAD_ACTIVATIONS:
            raise ConfigError(
                f"head_activation = {self.head_activation!r} is none of "
                f"{', '.join(HEAD_ACTIVATIONS)}"
            )
        if self.head_hidden and (min(self.head_hidden) < 1 or not self.num_classes):
            raise ConfigError(
                f"head_hidden = {list(self.head_hidden)} needs values of at least 1, and classes"
            )
        if self.keeps_norm and self.num_classes:
            raise ConfigError(
                f"keeps_norm = true is of a network without classes, and num_classes = "
                f"{self.num_classes}",
                "num_classes = 0, or no keeps_norm",
            )
        if self.head_activation != "none" and not self.head_hidden:
            raise ConfigError(
                f"head_activation = {self.head_activation} is of a head of several layers",
                "head_hidden, or no head_activation",
            )

    def _check_windows(self) -> None:
        if not (windows := self.stage_windows):
            return
        sides = [side for window in windows for side in window]
        if len(windows) != len(self.depths) or min(sides) < 1 or max(sides) != self.window_size:
            raise ConfigError(
                f"stage_windows = {[list(window) for window in windows]} beside window_size = "
                f"{self.window_size} and {len(self.depths)} stages",
                "one [rows, columns] per stage, and the longest side of all as window_size",
            )
        if self.semantics.small_grids == "shrink_both" and any(p != q for p, q in windows):
            raise ConfigError(
                "stage_windows with small_grids = shrink_both: that library has squares only",
                "small_grids = shrink_axis, as in timm",
            )

    @property
    def has_norm(self) -> bool:
        """Whether there is a norm behind the last stage."""
        return self.num_classes > 0 or self.keeps_norm

    def base_window(self, stage: int) -> Size:
        """The window of a stage, (rows, columns) in tokens, on a grid that is large enough."""
        if self.stage_windows:
            return self.stage_windows[stage]
        return self.window_size, self.window_size

    def _check_version(self) -> None:
        if self.version not in (1, 2):
            raise ConfigError(f"version = {self.version} is neither 1 nor 2")
        sizes = self.pretrained_window_sizes
        if sizes and (self.version == 1 or len(sizes) != len(self.depths) or min(sizes) < 0):
            raise ConfigError(
                f"pretrained_window_sizes = {list(sizes)} is not one number per stage of a V2",
                "leave it out where the windows are those of the training",
            )
        if not {*self.stage_norms} <= {*range(len(self.depths))}:
            raise ConfigError(
                f"stage_norms = {list(self.stage_norms)}, but the stages are 0 to "
                f"{len(self.depths) - 1}"
            )
        if self.version == 2 and not self.position_bias:
            raise ConfigError("position_bias = false is for version 1")
        if self.semantics.merge_order == "channels_last" and (
            self.version == 2 or self.embed_dim % 2
        ):
            raise ConfigError(
                "merge_order = channels_last is for version 1 and an even embed_dim: it takes "
                "pairs of channels for pairs of columns"
            )


_MOST_TRIED = 4096  # sizes on either side, for a hint: more than lie between two of any real Swin
_MOST_WINDOW = 64  # in tokens, of a hint


@dataclass(frozen=True, slots=True)
class StageGeometry:
    """The token grid of one stage. Pairs are (rows, columns), in tokens."""

    grid: Size
    window: Size
    shift: Size
    channels: int
    heads: int
    depth: int

    @property
    def tokens(self) -> int:
        """Tokens per image."""
        return self.grid[0] * self.grid[1]

    @property
    def padded(self) -> Size:
        """The grid, padded at the bottom and the right to whole windows."""
        rows, columns = (
            -(-size // side) * side for size, side in zip(self.grid, self.window, strict=True)
        )
        return rows, columns

    @property
    def is_padded(self) -> bool:
        """Whether some slots of the windows hold no token."""
        return self.padded != self.grid

    @property
    def window_tokens(self) -> int:
        """Slots per window."""
        return self.window[0] * self.window[1]

    @property
    def windows(self) -> int:
        """Windows per image."""
        return self.padded[0] * self.padded[1] // self.window_tokens


def stage_geometry(config: SwinConfig) -> tuple[StageGeometry, ...]:
    """The grid, window and shift of every stage."""
    if (reason := _problem(config, config.image_size)) is not None:
        raise _refusal(config, reason)
    stages = []
    grid = patch_grid(config)
    for index, (depth, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
        window = _window(config, index, grid)
        shift = _shift(config, index, grid)
        stages.append(StageGeometry(grid, window, shift, config.embed_dim << index, heads, depth))
        grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
    return tuple(stages)


def _refusal(config: SwinConfig, reason: str) -> ConfigError:
    """Blames the axis that would not work in a square image either."""
    for axis, pixels in zip(("height", "width"), config.image_size, strict=True):
        if (own := _problem(config, (pixels, pixels))) is not None:
            return ConfigError(
                f"{config.name}: image {axis} {pixels} does not work: {own}",
                _nearest_sizes(config, pixels),
            )
    height, width = config.image_size
    return ConfigError(
        f"{config.name}: image {height}x{width} does not work: {reason}", "a square --image"
    )


def patch_grid(config: SwinConfig) -> Size:
    """(rows, columns) of patches; where the patch does not divide, by ``patch_remainder``."""
    side, remainder = config.patch_size, config.semantics.patch_remainder
    height, width = config.image_size
    if remainder in ("refuse", "drop"):
        return height // side, width // side
    if remainder == "pad_both" and (height % side or width % side):
        return height // side + 1, width // side + 1
    return -(-height // side), -(-width // side)


def _window(config: SwinConfig, stage: int, grid: Size) -> Size:
    (rows, columns), rule = config.base_window(stage), config.semantics.small_grids
    if rule == "shrink_axis":
        return min(rows, grid[0]), min(columns, grid[1])
    if rule == "shrink_both":
        side = min(rows, *grid)
        return side, side
    return rows, columns


def _shift(config: SwinConfig, stage: int, grid: Size) -> Size:
    rule, window = config.semantics.stop_shift, config.base_window(stage)
    # Where one window covers the grid.
    fits = [size <= side for size, side in zip(grid, window, strict=True)]
    if rule == "both":
        fits = [any(fits)] * 2
    elif rule == "never":
        fits = [False] * 2
    return 0 if fits[0] else window[0] // 2, 0 if fits[1] else window[1] // 2


def _problem(config: SwinConfig, size: Size) -> str | None:
    """Why an image of ``size`` cannot be used; None if it can."""
    side, semantics = config.patch_size, config.semantics
    if semantics.patch_remainder == "refuse" and (size[0] % side or size[1] % side):
        return f"it is not a multiple of the patch size {side}"
    grid = patch_grid(replace(config, image_size=size))
    if min(grid) == 0:
        return f"it is smaller than one patch of {side}"
    for stage in range(len(config.depths)):
        for tokens, side in zip(grid, config.base_window(stage), strict=True):
            if semantics.small_grids == "refuse" and tokens < side:
                return (
                    f"stage {stage + 1} has {tokens} tokens along it, fewer than "
                    f"windows of {side} need"
                )
        for tokens, window in zip(grid, _window(config, stage, grid), strict=True):
            if semantics.padding == "refuse" and tokens % window:
                return (
                    f"stage {stage + 1} has {tokens} tokens along it, "
                    f"which windows of {window} do not tile"
                )
        if stage + 1 < len(config.depths):
            odd = [tokens for tokens in grid if tokens % 2]
            mixes = semantics.merge_order == "channels_last"
            if mixes and grid[0] != grid[1]:
                return "merges that take channels for columns are defined for square grids only"
            if (semantics.padding == "refuse" or mixes) and odd:
                return f"stage {stage + 1} has {odd[0]} tokens along it, which merging cannot halve"
            grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
    return None


def _nearest_sizes(config: SwinConfig, pixels: int) -> str:
    """The working sizes on both sides of ``pixels``, and the windows that would fit it."""
    reach = config.patch_size * config.window_size << len(config.depths)
    reach = min(reach, _MOST_TRIED)
    below, above = (
        next((p for p in sizes if _problem(config, (p, p)) is None), None)
        for sizes in (range(pixels, max(0, pixels - reach), -1), range(pixels, pixels + reach + 1))
    )
    sizes = " or ".join(str(size) for size in (below, above) if size is not None)
    windows = (
        []
        if config.stage_windows
        else [
            str(m)
            for m in range(2, min(2 * config.window_size, _MOST_WINDOW) + 1)
            if _problem(replace(config, window_size=m), (pixels, pixels)) is None
        ]
    )
    hint = f"image size {sizes}" if sizes else "another patch_size"
    return f"{hint} (or window_size {', '.join(windows)})" if windows else hint
