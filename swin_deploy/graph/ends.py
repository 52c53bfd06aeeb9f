"""Passes over the ends of a finished graph: pixels in, FP16 in and out.

They work on graphs whose ``image`` and outputs are FP32, whatever is in between. A pass that finds
another graph leaves it alone and says why at DEBUG level.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.interface import PROBABILITIES, SCORES
from swin_deploy.narrow import present

logger = logging.getLogger(__name__)


class TakePixels(ir.passes.InPlacePass):
    """Normalise inside the graph.

    Before:  float image (b, c, H, W) -> ...
    After:   uint8 image (b, H, W, c) -> Cast -> Div(255) -> Sub(mean) -> Div(std) -> Transpose

    In FP32, in the order of ``swin_deploy.data.pixels.normalise``: the network gets the same bits.
    Left alone unless the only input is FP32 with four axes, of which the second has a mean each.

    Args:
        mean: Per channel, of pixels from 0 to 1.
        std: Per channel.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean, self.std = (np.asarray(values, dtype=np.float32) for values in (mean, std))

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        if (refusal := self._refusal(graph)) is not None:
            logger.debug("no pixels: %s", refusal)
            return ir.passes.PassResult(model, modified=False)
        image = graph.inputs[0]
        uses, normal = tuple(image.uses()), present(image.shape)
        b, c, h, w = normal
        image.dtype, image.shape = DataType.UINT8, ir.Shape([b, h, w, c])
        name = image.name
        nodes = [ir.node("Cast", [image], {"to": int(DataType.FLOAT)}, name=f"{name}/Cast.pixels")]
        for operator, what, array in (
            ("Div", "range", np.asarray(255, dtype=np.float32)),
            ("Sub", "mean", self.mean),
            ("Div", "std", self.std),
        ):
            number = ir.Value(name=f"{name}.{what}", const_value=ir.tensor(array))
            graph.register_initializer(number)
            before = nodes[-1].outputs[0]
            nodes.append(ir.node(operator, [before, number], name=f"{name}/{operator}.{what}"))
        order = {"perm": [0, 3, 1, 2]}
        nodes.append(ir.node("Transpose", nodes[-1].outputs, order, name=f"{name}/Transpose"))
        first = graph[0]
        for position, node in enumerate(nodes):
            value = node.outputs[0]
            value.name, value.dtype = f"{name}.{position}", DataType.FLOAT
            value.shape = image.shape
            graph.insert_before(first, node)
        result = nodes[-1].outputs[0]
        result.name, result.shape = f"{name}.normalised", normal
        for reader, index in uses:
            reader.replace_input_with(index, result)
        return ir.passes.PassResult(model, modified=True)

    def _refusal(self, graph: ir.Graph) -> str | None:
        if len(graph.inputs) != 1 or graph.inputs[0].dtype != DataType.FLOAT:
            return "its input is not one FP32 image"
        shape = graph.inputs[0].shape
        if shape is None or len(shape) != 4 or shape[1] != len(self.mean):
            return f"its input has shape {shape}, and there are {len(self.mean)} means"
        return None


class HalveEnds(ir.passes.InPlacePass):
    """Hand FP16 in and out of an FP16 graph.

    Before:  float image -> Cast -> ... -> Cast -> float logits
    After:   float16 image -> ... -> float16 logits

    An end without such a cast, because a node in FP32 is next to it, gets one. Probabilities,
    scores and classes stay as they are.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        modified = False
        for image in graph.inputs:
            if image.dtype == DataType.FLOAT:
                _halve_input(graph, image)
                modified = True
        for position, output in enumerate(list(graph.outputs)):
            if output.dtype == DataType.FLOAT and output.name not in (PROBABILITIES, SCORES):
                _halve_output(graph, position, output)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _halve_input(graph: ir.Graph, image: ir.Value) -> None:
    uses = tuple(image.uses())
    image.dtype = DataType.FLOAT16
    wide: ir.Value | None = None
    for node, index in uses:
        if node.op_type == "Cast" and node.outputs[0].dtype == DataType.FLOAT16:
            node.outputs[0].replace_all_uses_with(image)
            graph.remove(node, safe=True)
            continue
        if wide is None:
            to = {"to": int(DataType.FLOAT)}
            cast = ir.node("Cast", [image], to, name=f"{image.name}/Cast.fp32")
            wide = cast.outputs[0]
            wide.name, wide.dtype, wide.shape = f"{image.name}.fp32", DataType.FLOAT, image.shape
            graph.insert_before(graph[0], cast)
        node.replace_input_with(index, wide)


def _halve_output(graph: ir.Graph, position: int, output: ir.Value) -> None:
    name, node = output.name, output.producer()
    half = node.inputs[0] if node is not None and node.op_type == "Cast" else None
    if node is not None and half is not None and half.dtype == DataType.FLOAT16:
        graph.outputs[position] = half
        graph.remove(node, safe=True)
    else:
        output.name = f"{name}.fp32"
        cast = ir.node("Cast", [output], {"to": int(DataType.FLOAT16)}, name=f"{name}/Cast.fp16")
        half = cast.outputs[0]
        half.dtype, half.shape = DataType.FLOAT16, output.shape
        graph.append(cast)
        graph.outputs[position] = half
    half.name = name
