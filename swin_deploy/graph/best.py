"""Passes behind the logits: probabilities, and the best classes.

A pass that finds another graph than it is for leaves it alone and says why at DEBUG level.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.interface import CLASSES, LOGITS, PROBABILITIES, SCORES
from swin_deploy.narrow import present

logger = logging.getLogger(__name__)


class GiveProbabilities(ir.passes.InPlacePass):
    """Softmax in place of logits.

    Before:  ... -> float logits
    After:   ... -> logits -> Softmax -> float probabilities

    Left alone unless the logits, FP32, are the only output.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        if [(v.name, v.dtype) for v in graph.outputs] != [(LOGITS, DataType.FLOAT)]:
            logger.debug("no probabilities: the outputs are %s", graph.outputs)
            return ir.passes.PassResult(model, modified=False)
        logits = graph.outputs[0]
        node = ir.node("Softmax", [logits], {"axis": -1}, name=f"{PROBABILITIES}/Softmax")
        result = node.outputs[0]
        result.name, result.dtype, result.shape = PROBABILITIES, DataType.FLOAT, logits.shape
        graph.append(node)
        graph.outputs[0] = result
        return ir.passes.PassResult(model, modified=True)


class GiveBest(ir.passes.InPlacePass):
    """The best classes in place of all.

    Before:  ... -> float logits (b, classes)
    After:   ... -> logits -> TopK -> float scores (b, k), int64 classes (b, k)

    Left alone unless FP32 logits or probabilities of at least k classes are the only output.

    Args:
        k: How many.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        if (refusal := self._refusal(graph)) is not None:
            logger.debug("no best classes: %s", refusal)
            return ir.passes.PassResult(model, modified=False)
        every = graph.outputs[0]
        shape = present(every.shape)
        number = ir.tensor(np.array([self.k], dtype=np.int64))
        count = ir.Value(name=f"{CLASSES}.count", const_value=number)
        graph.register_initializer(count)
        attributes = {"axis": -1, "largest": 1, "sorted": 1}
        node = ir.node("TopK", [every, count], attributes, num_outputs=2, name=f"{CLASSES}/TopK")
        for value, name, dtype in zip(
            node.outputs, (SCORES, CLASSES), (DataType.FLOAT, DataType.INT64), strict=True
        ):
            value.name, value.dtype = name, dtype
            value.shape = ir.Shape([shape[0], self.k])
        graph.append(node)
        graph.outputs[:] = node.outputs
        return ir.passes.PassResult(model, modified=True)

    def _refusal(self, graph: ir.Graph) -> str | None:
        names = [value.name for value in graph.outputs]
        if names not in ([LOGITS], [PROBABILITIES]) or graph.outputs[0].dtype != DataType.FLOAT:
            return f"the outputs are {names}"
        shape = graph.outputs[0].shape
        if shape is None or len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < self.k:
            return f"there are {shape} of them"
        return None
