"""The tensors inside an ONNX graph, by the nodes that compute them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from swin_deploy.data.pixels import ImageInput
from swin_deploy.graph.calibrate import observe
from swin_deploy.metrics import FloatArray
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner


def trace_graph(
    graph: Path, nodes: Sequence[str], images: FloatArray, image_input: ImageInput
) -> dict[str, FloatArray]:
    """Run images through a graph and read what the nodes give.

    Every output that is added keeps ONNX Runtime from fusing across it, so that this is the graph
    as it stands in the file.

    Args:
        graph: FP32, or with Q/DQ pairs, or in half precision as ``round_every_result`` has it.
            Unchanged.
        nodes: Names of nodes with one float result each; those that it lacks are left out.
        images: (b, channels, H, W) float32, normalised; b as the graph takes it.
        image_input: What the graph takes.

    Returns:
        Node -> its result, rounded to the type that it has in the file, as float32.

    Raises:
        InputError: It cannot be run, or cannot take these images.
    """
    content = onnx.load(graph, load_external_data=False).graph
    given = {value.name for value in content.input}
    made = given | {name for node in content.node for name in node.output}
    tensors = {node.name: node.output[0] for node in content.node if node.name in set(nodes)}
    for node, name in tensors.items():
        # What ``round_every_result`` calls the rounded result, where it does not keep the name.
        tensors[node] = next(n for n in (f"{name}.rounded.wide", name) if n in made)
    if not tensors:
        return {}
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        looked_into = observe(graph, list(dict.fromkeys(tensors.values())), Path(folder) / "x.onnx")
        observed = OnnxRuntimeRunner(looked_into, image_input=image_input, simulated_int8=True)
        with observed as runner:
            values = runner.run(runner.prepare(images))
    return {node: values[name] for node, name in tensors.items()}
