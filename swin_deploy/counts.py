"""Bounds of numbers that people ask for: processes, threads, images at a time, seeds."""

from __future__ import annotations

from collections.abc import Iterator

from swin_deploy.errors import ConfigError

MOST_IMAGES = 4096  # at a time
_MOST_AT_ONCE = 1024  # more than any machine has use for, and few enough for it to stay usable
_MOST = {"threads": _MOST_AT_ONCE, "workers": _MOST_AT_ONCE, "batch": MOST_IMAGES}


def wrong_counts(**counts: int | None) -> Iterator[ConfigError]:
    """An error for every setting that is there and out of its bounds.

    Args:
        counts: Of "threads", "workers" and "batch"; None for one that was not set.
    """
    for name, value in counts.items():
        if value is not None and not 1 <= value <= _MOST[name]:
            yield ConfigError(f"{name} = {value} is not from 1 to {_MOST[name]}")


def wrong_seed(seed: int) -> Iterator[ConfigError]:
    """An error for a seed that PyTorch, numpy and all others do not take alike."""
    if not 0 <= seed < 2**31:
        yield ConfigError(f"seed {seed} is not from 0 to {2**31 - 1}")
