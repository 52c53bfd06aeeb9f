"""The same function in the form that compilers fuse.

The eager network rolls, cuts and joins the token grid in every block. Everything in a block but
attention treats each token alone, so here the tokens stay in the window order of the block at hand
and one constant permutation leads from each order to the next. The stream has the token-in-window
axis slowest, (n * k, b, c): that is how fused attention kernels read it. Masks, position biases and
the query scale are constants. ``freeze`` has the forms of attention, and here is the table of
which one is exported when. ``swin_deploy.network.model`` has the legend of the axis letters.

All forms compute the same; which one is the fastest depends on what the compiler makes of it. The
choice is two tables, and docs/fusion.md has what was measured: for TensorRT kernels and bytes of
these and of all other forms that were tried, for CPUs times of these, at batch 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

FormName = Literal["packed", "slabs"]

# (kind of target, whether the batch is static) -> form. Where the batch is dynamic, so are the
# offsets of the slabs, and TensorRT's compilers copy after all. CPUs have no copy to avoid.
CHOICE: dict[tuple[str, bool], FormName] = {
    ("tensorrt", True): "slabs",
    ("tensorrt", False): "packed",
    ("openvino", True): "packed",
    ("openvino", False): "packed",
    ("onnxruntime", True): "packed",
    ("onnxruntime", False): "packed",
}

# A run has one graph for all of its targets: the first of these that is among them decides. Slabs
# save a GPU a sixth of the bytes; in FP32 they cost a CPU up to 5 % and are no slower than timm's.
PRIORITY = ("tensorrt", "openvino", "onnxruntime")


def choose_form(kinds: Iterable[str], static: bool) -> FormName:
    """The form of one graph for all of these kinds of target.

    Args:
        kinds: Of ``PRIORITY``; one or more.
        static: Whether the batch is.
    """
    return CHOICE[min(kinds, key=PRIORITY.index), static]
