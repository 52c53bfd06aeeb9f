"""What the compiler made of a graph, as data: one entry per kernel, in the order in which they run.

Read from the verbose log of TensorRT-RTX or from TensorRT's engine inspector, and kept beside the
engine as JSON.

TensorRT 10 writes a tensor's datatype and layout into one field, "Format/Datatype", as "Half" or
as "Row major linear FP16 format", and the names of the engine's inputs and outputs into "Bindings".
TensorRT 11 has "Datatype" beside "Format", and objects under "I/O Tensors" (NVIDIA, "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x"). One reader takes either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import InputError
from swin_deploy.core.records import (
    VERSION,
    decode,
    load_json,
    parse_json,
    reading,
    require_version,
)

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
        return {VERSION: SCHEMA_VERSION, **asdict(self)}


def from_dict(data: dict[str, Any], where: str) -> Listing:
    """A listing that ``as_dict`` wrote."""
    require_version(data, (SCHEMA_VERSION,), where, "export again")
    found = {key: value for key, value in data.items() if key != VERSION}
    return decode(Listing, found, where, "export again")


def load_listing(path: Path) -> Listing:
    """The listing in a file; errors as of ``from_dict`` and ``load_json``."""
    return from_dict(load_json(path, "export again"), str(path))


def total(sizes: Iterable[int | None]) -> int | None:
    """The sum; None if any is not known."""
    known = list(sizes)
    return None if None in known else sum(size for size in known if size is not None)


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
                    kernels.append(_kernel_of_line(match))
    return Listing(tuple(kernels))


def read_onnx_nodes(metadata: str) -> tuple[str, ...]:
    """The names of ONNX nodes in a layer's metadata, which both sources write alike."""
    return tuple(_ONNX_NODE.findall(metadata))


def _kernel_of_line(match: re.Match[str]) -> Kernel:
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


_DTYPES = {
    "float": "Float",
    "fp32": "Float",
    "half": "Half",
    "fp16": "Half",
    "bf16": "BFloat16",
    "bfloat16": "BFloat16",
    "fp8": "FP8",
    "fp4": "FP4",
    "int8": "Int8",
    "uint8": "UInt8",
    "int4": "Int4",
    "bool": "Bool",
    "int32": "Int32",
    "int64": "Int64",
}
_WHAT = "the engine inspector's answer"
_NOT_SHOWN = re.compile(r"N/A|unknown", re.IGNORECASE)


def read_inspector(text: str) -> Listing:
    """Read the inspector's JSON of a whole engine.

    An input that no layer writes and that is none of the engine's own is a weight: in TensorRT 10
    the layers of fused kernels have their weights among the inputs.

    Args:
        text: Of an engine that was built with profiling verbosity DETAILED.

    Raises:
        InputError: It is neither of the two schemas, or has less detail.
    """
    data = parse_json(text.encode(errors="replace"), _WHAT, finite=False)
    with reading(_WHAT, "in a layout of TensorRT 10 or 11"):
        layers = data["Layers"]
        if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
            raise InputError(
                "the engine inspector gives only names of layers",
                "an engine built with profiling verbosity DETAILED",
            )
        written = {output["Name"] for layer in layers for output in layer["Outputs"]}
        ends = data["I/O Tensors"] if "I/O Tensors" in data else data["Bindings"]
        activations = written | {end if isinstance(end, str) else end["Name"] for end in ends}
        kernels = [_kernel(layer, activations) for layer in layers]
    return Listing(tuple(kernel for kernel in kernels if kernel.kind not in NOT_KERNELS))


def _kernel(layer: dict[str, Any], activations: set[str]) -> Kernel:
    inputs = [entry for entry in layer["Inputs"] if entry["Name"] in activations]
    weights = [entry for entry in layer["Inputs"] if entry["Name"] not in activations]
    plain = [layer.get(name, {}) for name in ("Weights", "Bias")]  # of layers that are not fused
    constants = [
        *(_tensor(entry) for entry in (*weights, *layer.get("Constants", ()))),
        *(Tensor(_dtype(e["Type"]), (int(e["Count"]),)) for e in plain if e.get("Count")),
    ]
    return Kernel(
        name=layer["Name"],
        kind=layer["LayerType"],
        inputs=tuple(map(_tensor, inputs)),
        constants=tuple(constants),
        outputs=tuple(map(_tensor, layer["Outputs"])),
        onnx_nodes=read_onnx_nodes(layer.get("Metadata", "")),
    )


def _tensor(entry: dict[str, Any]) -> Tensor:
    name = next((n for n in ("Datatype", "DataType") if n in entry), "Format/Datatype")
    return Tensor(_dtype(entry[name]), tuple(int(size) for size in entry["Dimensions"]))


def _dtype(text: str) -> str:
    """The one datatype that ``text`` names, in whichever words."""
    if _NOT_SHOWN.search(text):
        return UNKNOWN
    words = {_DTYPES[word] for word in re.findall(r"\w+", text.lower()) if word in _DTYPES}
    if len(words) != 1:
        raise InputError(f"unknown datatype {text!r} in the engine inspector's answer")
    return words.pop()
