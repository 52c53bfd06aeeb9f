"""Damage that is done to files of a run after their stage has made them, before the gate looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from swin_deploy.pipeline.stages import Stage

Change = Callable[[Path], None]


def behind(stage: str, name: str, change: Change) -> Callable[[list[Stage]], list[Stage]]:
    """As ``adapt`` of ``run_export``: ``change`` is called on a file when ``stage`` has made it."""

    def adapt(stages: list[Stage]) -> list[Stage]:
        assert stage in [one.name for one in stages]
        return [_damaged(one, name, change) if one.name == stage else one for one in stages]

    return adapt


def _damaged(stage: Stage, name: str, change: Change) -> Stage:
    def action(context: Any) -> dict[str, Any]:
        details = stage.action(context)
        change(context.folder.scratch(name))
        return details

    # Another spec, so that this stage and what reads its files run again in a finished run.
    return replace(stage, action=action, spec=[stage.spec, str(change)])


def put_behind_logits(path: Path, nodes: list[onnx.NodeProto], **constants: Any) -> None:
    """Append ``nodes``, which read "right" and give "logits", to a graph."""
    model = onnx.load(path)
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "right"
    for node in model.graph.node:  # those that read them are behind the damage
        if node is not last and "logits" in node.input:
            nodes = [*nodes, node]
    kept = [node for node in model.graph.node if not any(node is other for other in nodes)]
    kept, nodes = [_copy(node) for node in kept], [_copy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend([*kept, *nodes])
    for key, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), key))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    other = onnx.NodeProto()
    other.CopyFrom(node)
    return other


def halve_at_batch(size: int) -> Change:
    """Half of the logits where a call has just ``size`` images."""

    def change(path: Path) -> None:
        nodes = [
            helper.make_node("Shape", ["right"], ["its.shape"]),
            helper.make_node("Gather", ["its.shape", "zero"], ["its.batch"]),
            helper.make_node("Equal", ["its.batch", "size"], ["hit"]),
            helper.make_node("Mul", ["right", "half"], ["halved"]),
            helper.make_node("Where", ["hit", "halved", "right"], ["logits"]),
        ]
        zero, one = np.int64(0), np.int64(size)
        put_behind_logits(path, nodes, zero=zero, size=one, half=np.float32(0.5))

    return change


def nan_where(kind: str) -> Change:
    """NaN for images that are flat, or that have a value beyond 6 on either side."""

    def change(path: Path) -> None:
        flat = [
            helper.make_node("ReduceMax", ["image"], ["top"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("ReduceMin", ["image"], ["bottom"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Equal", ["top", "bottom"], ["hits"]),
        ]
        far = [
            helper.make_node("Abs", ["image"], ["size.of"]),
            helper.make_node("ReduceMax", ["size.of"], ["top"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Greater", ["top", "limit"], ["hits"]),
        ]
        nodes = [
            *(flat if kind == "flat" else far),
            helper.make_node("Unsqueeze", ["hits", "axis"], ["each"]),
            helper.make_node("Where", ["each", "nan", "right"], ["logits"]),
        ]
        model = onnx.load(path)
        if model.opset_import[0].version >= 18:  # axes are an input by now
            for node in nodes:
                if node.op_type.startswith("Reduce"):
                    del node.attribute[0]
                    node.input.append("axes")
        put_behind_logits(
            path,
            nodes,
            axes=np.array([1, 2, 3]),
            axis=np.array([1]),
            limit=np.float32(6),
            nan=np.float32(np.nan),
        )

    return change


def edit_head_bias(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other numbers in the bias of the head."""

    def edit(path: Path) -> None:
        model = onnx.load(path)
        found = [t for t in model.graph.initializer if t.name == "head.bias"]
        assert len(found) == 1, [t.name for t in model.graph.initializer]
        array = change(numpy_helper.to_array(found[0]).copy())
        found[0].CopyFrom(numpy_helper.from_array(array, found[0].name))
        onnx.save(model, path)

    return edit
