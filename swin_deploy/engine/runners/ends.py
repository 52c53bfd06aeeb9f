"""The logits of a file that gives probabilities or the best classes instead, as its only output.

Of classes that are never among the best, such a file shows nothing: their logits may be anything. A
gate therefore reads the tensor that the ends take. It changes a copy in memory, by appending to
the content of the file: in protobuf what is appended is merged, and a device has no other library
for ONNX than the runtime. The ends themselves have to be what they are by definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import VerificationError
from swin_deploy.network.interface import CLASSES, LOGITS, PROBABILITIES, SCORES, Interface

BEFORE = ", before its ends"  # what tables call it
# Numbers of fields in onnx.proto.
_GRAPH, _NODE, _OUTPUT = 7, 1, 12
_INPUTS, _OUTPUTS, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5
_NAME, _INTEGER, _STRING = 1, 3, 4
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(slots=True)
class _Node:
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    integers: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    content: memoryview = field(default_factory=lambda: memoryview(b""))


def has_ends(interface: Interface) -> bool:
    """Whether graphs of this interface give something in place of logits."""
    return interface.probabilities or interface.topk is not None


def expose_logits(content: bytes, interface: Interface, file: str) -> tuple[bytes, str]:
    """The content of an ONNX file with the tensor before its ends as a further output, last.

    Args:
        content: Of the file, with its weights inside.
        interface: Whose ends it has; see ``has_ends``.
        file: Its name, for messages.

    Returns:
        The content, and the name of the tensor.
    """
    makers = {name: node for node in _nodes(content) for name in node.outputs}
    problem = f"{file} does not end as it should: "

    def behind(name: str, operator: str, outputs: list[str], **expected: int) -> str:
        node = makers.get(name, _Node("nothing"))
        if node.operator != operator or (outputs and node.outputs != outputs):
            raise VerificationError(f"{problem}{name} is made by {node.operator}, not {operator}")
        for key, value in expected.items():
            if node.integers.get(key, value) not in (value, 1):  # 1 is the last axis of two
                raise VerificationError(f"{problem}{operator} has {key} {node.integers[key]}")
        return node.inputs[0]

    tensor, added = PROBABILITIES, b""
    if interface.topk is not None:
        tensor = behind(SCORES, "TopK", [SCORES, CLASSES], axis=-1, largest=1, sorted=1)
    if interface.activation == "softmax":
        tensor = behind(tensor, "Softmax", [], axis=-1)
    if interface.activation == "sigmoid":
        maker = makers.get(tensor, _Node())
        if maker.operator == _FUSED and maker.texts.get("activation") == "Sigmoid":
            tensor = f"{tensor}.before"
            added = _field(_NODE, _without_activation(maker, tensor))
        else:
            tensor = behind(tensor, "Sigmoid", [])
    output = _field(_OUTPUT, _field(_NAME, tensor.encode()))
    return content + _field(_GRAPH, added + output), tensor


# What ONNX Runtime makes of a head and the sigmoid behind it.
_FUSED = "FusedGemm"


def _without_activation(node: _Node, output: str) -> bytes:
    """A node with the same product, and no activation: what the fused one computes before it."""
    kept = b""
    for number, value in _fields(node.content):
        named = dict(_fields(value)) if number == _ATTRIBUTE else {}
        if number == _INPUTS or (named and not _text(named[_NAME]).startswith("activation")):
            kept += _field(number, bytes(value))
    return kept + _field(_OUTPUTS, output.encode()) + _field(_OPERATOR, b"Gemm")


def cut_openvino(model: Any, interface: Interface, path: Path) -> Any:
    """The same of an ``openvino.Model``: another one whose only output is called "logits"."""
    import openvino

    problem = f"{path.name} does not end as it should: "

    def behind(value: Any, operator: str) -> Any:
        node = value.get_node()
        while node.get_type_name() == "Convert":  # between types of integers or floats
            node = node.input_value(0).get_node()
        if node.get_type_name() != operator:
            raise VerificationError(f"{problem}{node.get_type_name()}, not {operator}")
        axis = node.get_attributes().get("axis", -1)  # a sigmoid has none
        if axis not in (-1, 1) or node.get_attributes().get("mode", "max") != "max":
            raise VerificationError(f"{problem}{operator} has {node.get_attributes()}")
        return node.input_value(0)

    tensor = model.output(SCORES if interface.topk is not None else PROBABILITIES)
    tensor = tensor.get_node().input_value(0)
    if interface.topk is not None:
        tensor = behind(tensor, "TopK")
    if interface.activation != "none":
        tensor = behind(tensor, interface.activation.capitalize())
    tensor.get_tensor().set_names({LOGITS})
    return openvino.Model([tensor], model.get_parameters(), model.get_friendly_name())


def _nodes(content: bytes) -> Iterator[_Node]:
    for number, graph in _fields(memoryview(content)):
        if number != _GRAPH:
            continue
        for kind, value in _fields(graph):
            if kind == _NODE:
                yield _node(value)


def _node(content: memoryview) -> _Node:
    node = _Node(content=content)
    for number, value in _fields(content):
        if number == _INPUTS:
            node.inputs.append(_text(value))
        elif number == _OUTPUTS:
            node.outputs.append(_text(value))
        elif number == _OPERATOR:
            node.operator = _text(value)
        elif number == _ATTRIBUTE:
            parts = dict(_fields(value))
            if isinstance(parts.get(_INTEGER), int):
                node.integers[_text(parts[_NAME])] = _signed(parts[_INTEGER])
            elif _STRING in parts:
                node.texts[_text(parts[_NAME])] = _text(parts[_STRING])
    return node


def _fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers of fields and what they hold: an integer, or bytes."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, 0)
        if kind == _BYTES:
            size, at = _varint(content, at)
        elif not size:
            raise VerificationError(f"field {number} of an ONNX file is of kind {kind}")
        yield number, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise VerificationError("an ONNX file ends within a number")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _text(value: memoryview) -> str:
    return bytes(value).decode()


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _BYTES]) + _size(len(content)) + content


def _size(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
