"""What the compiler made of a graph, as data: one entry per kernel, in the order in which they run.

Read from the verbose log of TensorRT-RTX (``listing_log``) or from TensorRT's engine inspector
(``listing_inspector``), kept beside the engine as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.errors import InputError
from swin_deploy.records import decode, load_json

SCHEMA_VERSION = 1
UNKNOWN = "Unknown"  # where the inspector shows no format, which is so with a dynamic batch
# Events between streams, shapes that the host computes, and names without work: not kernels.
NOT_KERNELS = {"signal", "wait", "shape_call", "NoOp"}
BITS = {
    "Float": 32,
    "Half": 16,
    "BFloat16": 16,
    "FP8": 8,
    "FP4": 4,
    "Int8": 8,
    "UInt8": 8,
    "Int4": 4,
    "Bool": 8,
    "Int32": 32,
    "Int64": 64,
}
_MOST_DIMS, _LARGEST_DIM = 8, 1 << 31  # of TensorRT
_MATRIX_KINDS = {"gemm", "runtime_fusion", "fusion", "correlation", "CaskGemmMatrixMultiply"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a kernel reads or writes.

    Attributes:
        dtype: A key of ``BITS``, or ``UNKNOWN``.
        dims: Sizes; -1 where dynamic.

    Raises:
        InputError: The datatype has no known size, or no tensor could be as large.
    """

    dtype: str
    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in BITS and self.dtype != UNKNOWN:
            raise InputError(f"unknown datatype {self.dtype} in the compiler's listing")
        if len(self.dims) > _MOST_DIMS or any(abs(size) > _LARGEST_DIM for size in self.dims):
            raise InputError(f"a tensor of {self.dims} in the compiler's listing")

    @property
    def size_bytes(self) -> int | None:
        """None where a size is dynamic or the datatype is not shown."""
        if self.dtype == UNKNOWN or min(self.dims, default=0) < 0:
            return None
        return -(-math.prod(self.dims) * BITS[self.dtype] // 8)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of an engine.

    Bytes are an upper bound: of a tensor that is read in part, through a Slice, the compiler lists
    the dimensions of the whole.

    Attributes:
        name: As the compiler calls it.
        kind: Its LayerType: kgen, gemm, runtime_fusion, correlation.
        inputs: Activations read.
        constants: Weights read.
        outputs: Activations written.
        onnx_nodes: The nodes that it computes, or parts of.
    """

    name: str
    kind: str
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    onnx_nodes: tuple[str, ...]

    @property
    def fused_attention(self) -> bool:
        """Whether it computes a whole softmax(q k^T + bias) v; gemv where there is one query."""
        return "_gemm_mha" in self.name or "_gemv_mha" in self.name

    @property
    def matrix(self) -> bool:
        """Whether its kind is one of those that multiply matrices."""
        return self.kind in _MATRIX_KINDS or "Convolution" in self.kind or "Matrix" in self.kind

    @property
    def activation_bytes(self) -> int | None:
        """Read and written; None where a dimension is dynamic."""
        return total(tensor.size_bytes for tensor in self.inputs + self.outputs)

    @property
    def constant_bytes(self) -> int | None:
        """Weights read; None where their datatype is not shown."""
        return total(tensor.size_bytes for tensor in self.constants)

    @property
    def dtype(self) -> str:
        """Of what it writes; Int8 of a matrix product with Int8 operands, whatever it writes."""
        if self.matrix and any(tensor.dtype == "Int8" for tensor in self.inputs):
            return "Int8"
        return "+".join(dict.fromkeys(tensor.dtype for tensor in self.outputs)) or "none"

    @property
    def operand_dtype(self) -> str:
        """The narrowest of the float and Int8 activations that it reads: what it multiplies in."""
        operands = [t.dtype for t in self.inputs if t.dtype not in ("Bool", "Int32", "Int64")]
        return min(operands, key=lambda dtype: BITS.get(dtype, 64), default=self.dtype)


@dataclass(frozen=True, slots=True)
class Listing:
    """All kernels of an engine, in the order in which they run.

    Attributes:
        kernels: Empty where ``problem`` says why they are not known.
        problem: What kept the compiler's listing from being read.
    """

    kernels: tuple[Kernel, ...]
    problem: str = ""

    @property
    def fused_attentions(self) -> int:
        """How many attentions are one kernel each."""
        return sum(kernel.fused_attention for kernel in self.kernels)

    @property
    def activation_bytes(self) -> int | None:
        """Read and written by all kernels of one inference; None where that is dynamic."""
        return total(kernel.activation_bytes for kernel in self.kernels)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``from_dict`` reads back."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def from_dict(data: dict[str, Any], where: str) -> Listing:
    """A listing that ``as_dict`` wrote.

    Raises:
        InputError: It is none, or of another schema version.
    """
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{where} has schema version {version}, this version of swin-deploy reads "
            f"{SCHEMA_VERSION}",
            "export again",
        )
    found = {key: value for key, value in data.items() if key != "schema_version"}
    return decode(Listing, found, where, "export again")


def load_listing(path: Path) -> Listing:
    """The listing in a file; errors as of ``from_dict`` and ``load_json``."""
    return from_dict(load_json(path, "export again"), str(path))


def total(sizes: Iterable[int | None]) -> int | None:
    """The sum; None if any is not known."""
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)
