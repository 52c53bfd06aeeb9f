"""The token grid of every stage: what it is cut into, how far it shifts, which sizes work."""

from __future__ import annotations

from dataclasses import dataclass, replace

from swin_deploy.architecture import SwinConfig
from swin_deploy.errors import ConfigError
from swin_deploy.preprocessing import Size

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
    """The grid, window and shift of every stage.

    Raises:
        ConfigError: The image size fits no stage grid; names the nearest sizes that do.
    """
    if (reason := _problem(config, config.image_size)) is not None:
        raise _refusal(config, reason)
    stages = []
    grid = patch_grid(config)
    for index, (depth, heads) in enumerate(zip(config.depths, config.num_heads, strict=True)):
        window = _window(config, grid)
        shift = _shift(config, grid)
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


def _window(config: SwinConfig, grid: Size) -> Size:
    side, rule = config.window_size, config.semantics.small_grids
    if rule == "shrink_axis":
        return min(side, grid[0]), min(side, grid[1])
    if rule == "shrink_both":
        side = min(side, *grid)
    return side, side


def _shift(config: SwinConfig, grid: Size) -> Size:
    rule = config.semantics.stop_shift
    fits = [size <= config.window_size for size in grid]  # one window covers the grid
    if rule == "both":
        fits = [any(fits)] * 2
    elif rule == "never":
        fits = [False] * 2
    step = config.window_size // 2
    return 0 if fits[0] else step, 0 if fits[1] else step


def _problem(config: SwinConfig, size: Size) -> str | None:
    """Why an image of ``size`` cannot be used; None if it can."""
    side, semantics = config.patch_size, config.semantics
    if semantics.patch_remainder == "refuse" and (size[0] % side or size[1] % side):
        return f"it is not a multiple of the patch size {side}"
    grid = patch_grid(replace(config, image_size=size))
    if min(grid) == 0:
        return f"it is smaller than one patch of {side}"
    for stage in range(len(config.depths)):
        if semantics.small_grids == "refuse" and min(grid) < config.window_size:
            return (
                f"stage {stage + 1} has {min(grid)} tokens along it, fewer than "
                f"windows of {config.window_size} need"
            )
        for tokens, window in zip(grid, _window(config, grid), strict=True):
            if semantics.padding == "refuse" and tokens % window:
                return (
                    f"stage {stage + 1} has {tokens} tokens along it, "
                    f"which windows of {window} do not tile"
                )
        if stage + 1 < len(config.depths):
            odd = [tokens for tokens in grid if tokens % 2]
            if semantics.padding == "refuse" and odd:
                return f"stage {stage + 1} has {odd[0]} tokens along it, which merging cannot halve"
            grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
    return None


def _nearest_sizes(config: SwinConfig, pixels: int) -> str:
    """The working sizes on both sides of ``pixels``, and the windows that would fit it."""
    reach = config.patch_size * config.window_size << len(config.depths)
    reach = min(reach, _MOST_TRIED)
    below, above = (
        next((p for p in sizes if _problem(config, (p, p)) is None), None)
        for sizes in (
            range(pixels, max(0, pixels - reach), -1),
            range(pixels, pixels + reach + 1),
        )
    )
    sizes = " or ".join(str(size) for size in (below, above) if size is not None)
    windows = [
        str(m)
        for m in range(2, min(2 * config.window_size, _MOST_WINDOW) + 1)
        if _problem(replace(config, window_size=m), (pixels, pixels)) is None
    ]
    hint = f"image size {sizes}" if sizes else "another patch_size"
    return f"{hint} (or window_size {', '.join(windows)})" if windows else hint
