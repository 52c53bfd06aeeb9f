"""A graph with FP32 ends -> the same with the ends that a run was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx_ir as ir

from swin_deploy.data.pixels import ImageInput
from swin_deploy.errors import InputError
from swin_deploy.graph.best import GiveBest, GiveProbabilities
from swin_deploy.graph.ends import HalveEnds, TakePixels
from swin_deploy.graph.export import read_ends, rewrite
from swin_deploy.interface import Interface, Io
from swin_deploy.precisions import Precision
from swin_deploy.preprocessing import Preprocessing
from swin_deploy.records import decode, parse_json


def dress_graph(
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

    Raises:
        InputError: A pass left the graph alone, because it is another one than expected.
    """
    io: Io = interface.io_of(precision)
    passes: list[ir.passes.InPlacePass] = []
    if interface.softmax:
        passes.append(GiveProbabilities())
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
        model.metadata_props.update(_describe(io, preprocessing))


def _describe(io: Io, preprocessing: Preprocessing) -> dict[str, str]:
    """What a reader of the file alone has to know of its input."""
    pixels = io == "uint8"
    return {
        "image.layout": "NHWC" if pixels else "NCHW",
        "image.values": "pixels 0..255" if pixels else "(pixels / 255 - mean) / std",
        "image.mean": json.dumps(preprocessing.mean),
        "image.std": json.dumps(preprocessing.std),
    }


def read_image_input(path: Path) -> ImageInput:
    """What a valid ONNX file takes, from its types and from what ``dress_graph`` wrote into it.

    Raises:
        InputError: It takes pixels and does not say how they are normalised.
    """
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
