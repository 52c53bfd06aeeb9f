"""Which form of attention is exported for what.

All forms compute the same; which one is the fastest depends on what the compiler makes of it. The
choice is a table, and every entry was measured: docs/fusion.md has the figures of these and of all
other forms that were tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from swin_deploy.errors import ConfigError

FormName = Literal["packed", "slabs"]

# (kind of target, whether the batch is static) -> form. Where the batch is dynamic, so are the
# offsets of the slabs, and TensorRT's compilers copy after all.
CHOICE: dict[tuple[str, bool], FormName] = {
    ("tensorrt", True): "slabs",
    ("tensorrt", False): "packed",
    ("onnxruntime", True): "slabs",
    ("onnxruntime", False): "packed",
}


def choose_form(kinds: Iterable[str], static: bool) -> FormName:
    """The form of one graph for all of these kinds of target.

    Args:
        kinds: "tensorrt", "onnxruntime".
        static: Whether the batch is.

    Raises:
        ConfigError: They want different ones.
    """
    chosen = {kind: CHOICE[kind, static] for kind in kinds}
    if len(set(chosen.values())) != 1:
        wishes = ", ".join(f"{kind}: {form}" for kind, form in chosen.items())
        raise ConfigError(
            f"these targets need graphs of different forms ({wishes})", "a run for each of them"
        )
    return next(iter(chosen.values()))
