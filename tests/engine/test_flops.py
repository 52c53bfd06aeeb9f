"""FLOPs of ONNX graphs, against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from swin_deploy.core.errors import InputError
from swin_deploy.engine.cost.graph_facts import GraphFacts, module_of, profile_of, read_graph
from swin_deploy.measure.cost import DYNAMIC


def graph_of(
    folder: Path,
    operator: str,
    shapes: list[list[Any]],
    weights: tuple[int, ...],
    **attributes: Any,
) -> GraphFacts:
    """One node; inputs whose index is in ``weights`` are constants."""
    names = [f"x{index}" for index in range(len(shapes))]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for index, (name, shape) in enumerate(zip(names, shapes, strict=True))
        if index not in weights
    ]
    constants = [numpy_helper.from_array(np.ones(shapes[i], np.float32), names[i]) for i in weights]
    nodes = [
        helper.make_node(operator, names, ["y"], name="net/node", **attributes),
        helper.make_node("Size", ["y"], ["size"], name="size"),  # so that the shape is inferred
    ]
    result = helper.make_tensor_value_info("size", TensorProto.INT64, [])
    graph = helper.make_graph(nodes, "g", values, [result], constants)
    path = folder / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), path)
    return read_graph(path)


@pytest.mark.parametrize(
    ("operator", "shapes", "weights", "attributes", "flops", "role"),
    [
        ("MatMul", [[5, 7], [7, 11]], (1,), {}, 2 * 5 * 7 * 11, "linear"),
        ("MatMul", [[3, 4, 5, 7], [4, 7, 11]], (), {}, 2 * 3 * 4 * 5 * 7 * 11, "product"),
        ("Gemm", [[7, 5], [11, 7]], (1,), {"transA": 1, "transB": 1}, 2 * 5 * 7 * 11, "linear"),
        (
            *("Conv", [[2, 6, 8, 8], [9, 3, 4, 4]], (1,)),
            {"group": 2, "strides": [4, 4]},
            *(2 * 2 * 9 * 2 * 2 * (3 * 4 * 4), "linear"),
        ),
        (
            *("Attention", [[2, 3, 5, 8], [2, 3, 7, 8], [2, 3, 7, 4]], (), {}),
            *(2 * 2 * 3 * 5 * 7 * (8 + 4), "product"),
        ),
        ("Softmax", [[5, 7]], (), {}, 0, "softmax"),
        ("Add", [[5, 7], [7]], (1,), {}, 0, "bias"),
        ("Add", [[5, 7], [5, 7]], (1,), {}, 0, "math"),
        ("Mul", [[5, 7], [1]], (1,), {}, 0, "scale"),
        ("MatMul", [["batch", 7], [7, 11]], (1,), {}, None, "linear"),
    ],
)
def test_a_node_counts_by_its_definition(
    operator: str,
    shapes: list[list[Any]],
    weights: tuple[int, ...],
    attributes: dict[str, Any],
    flops: int | None,
    role: str,
    tmp_path: Path,
) -> None:
    node = graph_of(tmp_path, operator, shapes, weights, **attributes).nodes["net/node"]
    assert (node.flops, node.role) == (flops, role)


def test_an_operator_without_a_rule_is_not_counted_as_zero(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rule for the FLOPs of Einsum"):
        graph_of(tmp_path, "Einsum", [[5, 7], [7, 11]], (1,), equation="ij,jk->ik")


def test_what_depends_on_constants_alone_is_known_as_such(tmp_path: Path) -> None:
    node = graph_of(tmp_path, "MatMul", [[5, 7], [7, 11]], (0, 1)).nodes["net/node"]
    assert node.constant
    assert node.role == "math"


def test_a_batch_is_fixed_or_a_range_and_nothing_else_is_dynamic(tmp_path: Path) -> None:
    graph_of(tmp_path, "Softmax", [[3, 7]], ())
    assert str(profile_of(tmp_path / "x.onnx", DYNAMIC)) == "3"
    graph_of(tmp_path, "Softmax", [["batch", 7]], ())
    assert profile_of(tmp_path / "x.onnx", DYNAMIC) == DYNAMIC
    graph_of(tmp_path, "Softmax", [["batch", "width"]], ())
    with pytest.raises(InputError, match="dynamic axes beside the batch"):
        profile_of(tmp_path / "x.onnx", DYNAMIC)


def test_names_of_other_exporters_lead_to_modules() -> None:
    assert module_of("layers.0.blocks.1.attn/MatMul") == "layers.0.blocks.1.attn"
    assert module_of("/layers/layers.0/blocks/blocks.1/attn/MatMul") == "layers.0.blocks.1.attn"
    assert module_of("node_MatMul_29") == ""
