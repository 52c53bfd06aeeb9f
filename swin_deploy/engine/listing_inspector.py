"""Kernels in what TensorRT's engine inspector says of an engine, in JSON.

TensorRT 10 writes a tensor's datatype and layout into one field, "Format/Datatype", as "Half" or
as "Row major linear FP16 format", and the names of the engine's inputs and outputs into "Bindings".
TensorRT 11 has "Datatype" beside "Format", and objects under "I/O Tensors" (NVIDIA, "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x"). One reader takes either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from swin_deploy.engine.listing import NOT_KERNELS, UNKNOWN, Kernel, Listing, Tensor
from swin_deploy.engine.listing_log import read_onnx_nodes
from swin_deploy.errors import InputError
from swin_deploy.foreign import reading
from swin_deploy.records import parse_json

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
        activations = written | set(_engine_tensors(data))
        kernels = [_kernel(layer, activations) for layer in layers]
    return Listing(tuple(kernel for kernel in kernels if kernel.kind not in NOT_KERNELS))


def _engine_tensors(data: dict[str, Any]) -> Iterator[str]:
    entries = data["I/O Tensors"] if "I/O Tensors" in data else data["Bindings"]
    for entry in entries:
        yield entry if isinstance(entry, str) else entry["Name"]


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
