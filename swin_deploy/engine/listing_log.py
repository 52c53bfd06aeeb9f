"""Kernels in the verbose log of TensorRT-RTX: it lists them as it builds, without a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterable

from swin_deploy.engine.listing import NOT_KERNELS, Kernel, Listing, Tensor
from swin_deploy.errors import InputError

_KERNEL = re.compile(
    r"Name: (?P<name>[^,]+), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName:.*?"
    r"(?:Metadata: (?P<metadata>.*))?$"
)
_TENSOR = re.compile(r"Dimensions: \[(?P<dims>[-\d,]*)\].*?Datatype: (?P<dtype>\w+)")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def read_listing(messages: Iterable[str]) -> Listing:
    """Find the kernels in what the builder logged at verbose level.

    Args:
        messages: Log messages, each of one or more lines. The builder's profiling verbosity has
            to be DETAILED.

    Raises:
        InputError: A kernel's line has a datatype of unknown size, or another layout.
    """
    kernels = []
    for message in messages:
        for line in message.splitlines():
            if line.startswith("Name: ") and "LayerType: " in line:
                if (match := _KERNEL.match(line)) is None:
                    raise InputError(f"cannot read the compiler's line {line[:120]!r}")
                if match["kind"] not in NOT_KERNELS:
                    kernels.append(_kernel(match))
    return Listing(tuple(kernels))


def read_onnx_nodes(metadata: str) -> tuple[str, ...]:
    """The names of ONNX nodes in a layer's metadata, which both sources write alike."""
    return tuple(_ONNX_NODE.findall(metadata))


def _kernel(match: re.Match[str]) -> Kernel:
    return Kernel(
        name=match["name"],
        kind=match["kind"],
        inputs=_tensors(match["inputs"]),
        constants=_tensors(match["constants"]),
        outputs=_tensors(match["outputs"]),
        onnx_nodes=read_onnx_nodes(match["metadata"] or ""),
    )


def _tensors(text: str) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(match["dtype"], tuple(int(size) for size in match["dims"].split(",") if size))
        for match in _TENSOR.finditer(text)
    )
