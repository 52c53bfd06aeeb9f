"""Where a graph is looked into, after every block and merge, and its tensors there.

Nodes are found by the names that ``graph.export`` gave them, of Swin V1, V2 and ViT alike. What the
passes put in between (casts, Q/DQ pairs) has other names, so that the same points are found in
every graph of a run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from swin_deploy.core.onnx_file import read_onnx
from swin_deploy.core.records import reading
from swin_deploy.data.images import ImageInput
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.int8.observe import observe
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.judge import FloatArray
from swin_deploy.network.vit import VitConfig

Part = Literal[
    "embed",
    "merge",
    "norm1",
    "attn",
    "residual",
    "norm2",
    "fc1",
    "fc2",
    "out",
    "norm",
    "mean",
    "head",
]
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
EMBED, MERGE, HEAD = "embed", "merge", "head"


@dataclass(frozen=True, slots=True)
class Point:
    """A tensor that several forms of a network have.

    Attributes:
        name: The block or module after which it stands, for example "layers.1.blocks.0".
        part: What of it; "out" is the whole block.
        stage: For tables and plots: "embed", "stage 1" and so on, "head".
        node: The node that computes it.
    """

    name: str
    part: Part
    stage: str
    node: str

    @property
    def inner(self) -> bool:
        """Whether it is inside a block, and not between two."""
        return self.part in ("norm1", "attn", "residual", "norm2", "fc1", "fc2")

    @property
    def label(self) -> str:
        """One name for it."""
        return f"{self.name}, {self.part}" if self.inner else self.name


class GraphMap:
    """The nodes of an ONNX file in the order in which they run, by module.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        model = read_onnx(path)
        with reading(path, "a valid ONNX model"):
            model = onnx.shape_inference.infer_shapes(model)
        graph = model.graph
        self.path = path
        self.nodes = [node for node in graph.node if node.name]
        self.position = {node.name: index for index, node in enumerate(self.nodes)}
        self._maker = {name: node.name for node in self.nodes for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        values = (*graph.value_info, *graph.output)
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._float = {name for name, kind in types.items() if kind in _FLOATS}

    def last(self, module: str) -> str | None:
        """The last node of ``module`` and those in it; None if it has none."""
        found = None
        for node in self.nodes:
            scope = _module_of(node)
            if scope == module or scope.startswith(f"{module}."):
                found = node.name
        return found

    def first(self, module: str) -> onnx.NodeProto | None:
        """The first node of exactly ``module``."""
        return next((n for n in self.nodes if _module_of(n) == module), None)

    def before(self, module: str) -> str | None:
        """The node whose result ``module`` reads first."""
        node = self.first(module)
        return None if node is None else self._maker.get(node.input[0])

    def added_to(self, module: str) -> str | None:
        """The sum that the result of ``module`` goes into."""
        if (name := self.last(module)) is None:
            return None
        queue = list(self.nodes[self.position[name]].output)
        while queue:
            for reader in self._readers.get(queue.pop(0), []):
                if reader.op_type == "Add":
                    return reader.name
                queue += reader.output  # a cast or a Q/DQ pair
        return None

    def between(self, above: str | None, node: str) -> list[str]:
        """Nodes with a float result after ``above``, up to ``node`` itself."""
        start = -1 if above is None else self.position[above]
        return [
            n.name
            for n in self.nodes[start + 1 : self.position[node] + 1]
            if n.output[0] in self._float
        ]


def _module_of(node: onnx.NodeProto) -> str:
    """Its module, by its name; a network that gives maps is inside another module."""
    return str(node.name).rpartition("/")[0].removeprefix("backbone.")


def find_points(graph: GraphMap, config: NetworkConfig) -> list[Point]:
    """All points of a graph in the order of its depth; none where it lacks names like ours."""
    points: list[Point | None] = []
    if isinstance(config, VitConfig):
        points.append(_point("patch_embed", "embed", EMBED, graph.last("patch_embed")))
        for block in range(config.depth):
            # A ViT has one stage; in threes, as its landmarks, it has marks to go by.
            stage = f"blocks {block // 3 * 3}-{min(block // 3 * 3 + 2, config.depth - 1)}"
            points += _block(graph, f"blocks.{block}", stage, 1, "proj")
    else:
        points.append(_point("layers.0.enter", "embed", EMBED, graph.last("layers.0.enter")))
        for number, depth in enumerate(config.depths):
            stage = f"stage {number + 1}"
            if number:
                enter = f"layers.{number}.enter"
                ends = "norm" if config.version == 2 and config.merge_norm else "reduction"
                points.append(_point(enter, "merge", stage, graph.last(f"{enter}.{ends}")))
            for block in range(depth):
                name = f"layers.{number}.blocks.{block}"
                points += _block(graph, name, stage, config.version, "attn.proj")
    for norm in ("norm", "fc_norm"):  # a network has one of them
        points.append(_point(norm, "norm", HEAD, graph.last(norm)))
    points.append(_point("head", "head", HEAD, graph.last("head")))
    found = [point for point in points if point is not None]
    return sorted(found, key=lambda point: graph.position[point.node])


def _block(
    graph: GraphMap, name: str, stage: str, version: int, attention: str
) -> list[Point | None]:
    inner = f"{name}.norm2" if version == 1 else f"{name}.mlp.fc1"
    last = f"{name}.mlp.fc2" if version == 1 else f"{name}.norm2"
    return [
        _point(name, "norm1", stage, graph.last(f"{name}.norm1")),
        _point(name, "attn", stage, graph.last(f"{name}.{attention}")),
        _point(name, "residual", stage, graph.before(inner)),
        _point(name, "norm2", stage, graph.last(f"{name}.norm2")),
        _point(name, "fc1", stage, graph.last(f"{name}.mlp.fc1")),
        _point(name, "fc2", stage, graph.last(f"{name}.mlp.fc2")),
        _point(name, "out", stage, graph.added_to(last)),
    ]


def _point(name: str, part: Part, stage: str, node: str | None) -> Point | None:
    return None if node is None else Point(name, part, stage, node)


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
