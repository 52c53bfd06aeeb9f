"""A graph with FP32 ends -> the same with the ends that a run was asked for, pass by pass.

They work on graphs whose ``image`` and outputs are FP32, whatever is in between. A pass that finds
another graph leaves it alone and says why at DEBUG level.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import DataType

from swin_deploy.core.errors import InputError, present
from swin_deploy.core.records import decode, parse_json
from swin_deploy.data.images import ImageInput
from swin_deploy.graph.casts import cast_node
from swin_deploy.graph.export import read_ends, rewrite
from swin_deploy.network.interface import (
    CLASSES,
    LOGITS,
    PROBABILITIES,
    SCORES,
    Interface,
    Io,
    Precision,
    Preprocessing,
)

logger = logging.getLogger(__name__)


class TakePixels(ir.passes.InPlacePass):
    """Normalise inside the graph.

    Before:  float image (b, c, H, W) -> ...
    After:   uint8 image (b, H, W, c) -> Cast -> Div(255) -> Sub(mean) -> Div(std) -> Transpose

    In FP32, in the order of ``swin_deploy.data.bands.normalise``: the network gets the same bits.
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
            name = f"{image.name}.fp32"
            cast = cast_node(image, DataType.FLOAT, name, f"{image.name}/Cast.fp32")
            wide = cast.outputs[0]
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
        cast = cast_node(output, DataType.FLOAT16, name, f"{name}/Cast.fp16")
        half = graph.outputs[position] = cast.outputs[0]
        graph.append(cast)
    half.name = name


class GiveProbabilities(ir.passes.InPlacePass):
    """Probabilities in place of logits.

    Before:  ... -> float logits
    After:   ... -> logits -> Softmax or Sigmoid -> float probabilities

    Left alone unless the logits, FP32, are the only output.

    Args:
        operator: "Softmax", over all classes, or "Sigmoid", of each label by itself.
    """

    def __init__(self, operator: str) -> None:
        super().__init__()
        self.operator = operator

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        if [(v.name, v.dtype) for v in graph.outputs] != [(LOGITS, DataType.FLOAT)]:
            logger.debug("no probabilities: the outputs are %s", graph.outputs)
            return ir.passes.PassResult(model, modified=False)
        logits = graph.outputs[0]
        attributes = {"axis": -1} if self.operator == "Softmax" else {}
        name = f"{PROBABILITIES}/{self.operator}"
        node = ir.node(self.operator, [logits], attributes, name=name)
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


def apply_interface(
    source: Path,
    final: Path,
    interface: Interface,
    preprocessing: Preprocessing,
    precision: Precision,
) -> None:
    """Write ``source`` with the ends of ``interface`` to ``final``, and say in it what they are.

    Args:
        source: Input ``image`` and outputs in FP32, inside in ``precision``. Unchanged.
        final: Replaced only by a graph that passes the checker.
        interface: What to take and give.
        preprocessing: Whose mean and std pixels are normalised with.
        precision: "fp16" is the only one whose ends can be FP16.
    """
    io: Io = interface.io_of(precision)
    passes: list[ir.passes.InPlacePass] = []
    if interface.probabilities:
        passes.append(GiveProbabilities(interface.activation.capitalize()))
    if interface.topk is not None:
        passes.append(GiveBest(interface.topk))
    if io == "uint8":
        passes.append(TakePixels(preprocessing.mean, preprocessing.std))
    if io == "fp16":
        passes.append(HalveEnds())
    with rewrite(source, final) as model:
        for step in passes:
            if not step(model).modified:
                raise InputError(f"{source.name} is no graph for {type(step).__name__}")
        pixels = io == "uint8"
        model.metadata_props.update(
            {  # what a reader of the file alone has to know of its input
                "image.layout": "NHWC" if pixels else "NCHW",
                "image.values": "pixels 0..255" if pixels else "(pixels / 255 - mean) / std",
                "image.mean": json.dumps(preprocessing.mean),
                "image.std": json.dumps(preprocessing.std),
            }
        )


def read_image_input(path: Path) -> ImageInput:
    """What a valid ONNX file takes, from its types and what ``apply_interface`` wrote into it."""
    dtype = next(iter(read_ends(path)[0].values()), ("float32", []))[0]
    if dtype != "uint8":
        return ImageInput("fp16" if dtype == "float16" else "fp32")
    said = {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}
    try:
        texts = [said[f"image.{name}"].encode() for name in ("mean", "std")]
        mean, std = (decode(tuple[float, ...], parse_json(text, path), path) for text in texts)
    except (KeyError, InputError) as error:
        raise InputError(
            f"{path} takes pixels, and its metadata does not say with what mean and std"
        ) from error
    return ImageInput("uint8", mean, std)
