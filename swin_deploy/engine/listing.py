"""What the compiler made of the graph, read from its own verbose listing: one line per kernel."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from swin_deploy.errors import InputError

_KERNEL = re.compile(
    r"Name: (?P<name>[^,]+), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"Constants: \[(?P<constants>.*?)\], Outputs: \[(?P<outputs>.*?)\], TacticName:.*?"
    r"(?:Metadata: (?P<metadata>.*))?$"
)
_TENSOR = re.compile(r"Dimensions: \[(?P<dims>[-\d,]*)\].*?Datatype: (?P<dtype>\w+)")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_STREAM_SYNC = {"signal", "wait"}  # events between streams, not kernels
_BYTES = {
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Int8": 1,
    "UInt8": 1,
    "FP8": 1,
    "Bool": 1,
    "Int32": 4,
    "Int64": 8,
}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of an engine.

    Attributes:
        name: As the compiler calls it.
        kind: Its LayerType: kgen, gemm, runtime_fusion, correlation.
        activation_bytes: Read and written; None where a dimension is dynamic.
        constant_bytes: Weights read.
        onnx_nodes: The nodes that it computes, or parts of.
    """

    name: str
    kind: str
    activation_bytes: int | None
    constant_bytes: int
    onnx_nodes: tuple[str, ...]

    @property
    def fused_attention(self) -> bool:
        """Whether it computes a whole softmax(q k^T + bias) v; gemv where there is one query."""
        return "_gemm_mha" in self.name or "_gemv_mha" in self.name


@dataclass(frozen=True, slots=True)
class Listing:
    """All kernels of an engine, in the order in which they run."""

    kernels: tuple[Kernel, ...]

    @property
    def fused_attentions(self) -> int:
        """How many attentions are one kernel each."""
        return sum(kernel.fused_attention for kernel in self.kernels)

    @property
    def activation_bytes(self) -> int | None:
        """Read and written by all kernels of one inference; None where that is dynamic."""
        sizes = [kernel.activation_bytes for kernel in self.kernels]
        return None if None in sizes else sum(size for size in sizes if size is not None)


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
                if match["kind"] not in _STREAM_SYNC:
                    kernels.append(_kernel(match))
    return Listing(tuple(kernels))


def _kernel(match: re.Match[str]) -> Kernel:
    return Kernel(
        name=match["name"],
        kind=match["kind"],
        activation_bytes=_bytes(match["inputs"] + match["outputs"]),
        constant_bytes=_bytes(match["constants"]) or 0,
        onnx_nodes=tuple(_ONNX_NODE.findall(match["metadata"] or "")),
    )


def _bytes(tensors: str) -> int | None:
    total = 0
    for match in _TENSOR.finditer(tensors):
        dims = [int(size) for size in match["dims"].split(",") if size]
        if min(dims, default=0) < 0:
            return None
        if match["dtype"] not in _BYTES:
            raise InputError(f"unknown datatype {match['dtype']} in the compiler's listing")
        total += math.prod(dims) * _BYTES[match["dtype"]]
    return total
