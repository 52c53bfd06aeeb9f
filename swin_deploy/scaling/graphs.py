"""The graph of every point: exported and simplified, compared, and its cost counted."""

from __future__ import annotations

from pathlib import Path

from swin_deploy.batches import BatchRange
from swin_deploy.child import run_in_child
from swin_deploy.data.inputs import make_noise
from swin_deploy.engine.build import TIMEOUT_S
from swin_deploy.engine.targets import TARGETS
from swin_deploy.engine.tensorrt_build import build_quietly
from swin_deploy.engine.traffic import GraphCost, cost_graph
from swin_deploy.errors import InputError
from swin_deploy.export_form.choice import choose_form
from swin_deploy.export_form.entry import freeze
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.model.build import build_model
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.runners.torch_eager import TorchRunner
from swin_deploy.scaling.report import Compiled
from swin_deploy.scaling.request import Point
from swin_deploy.verify import Verification, compare_outputs

COMPILER = TARGETS["rtx"]
FORM = choose_form(("tensorrt", "onnxruntime"), static=True)  # as ``export`` has it by default


class Graphs:
    """Makes graphs when they are first asked for.

    Args:
        folder: Where they lie; whoever made it removes it.
        seed: Of the random weights.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def path(self, point: Point) -> Path:
        """The simplified FP32 graph, proven to compute what the eager network does.

        Raises:
            InputError: PyTorch cannot trace the network, or onnxsim cannot simplify it.
            ResourceError: onnxsim died.
            VerificationError: The graph computes something else.
        """
        final = self.folder / f"{point.name.replace(' ', '-')}.onnx"
        if final.exists():
            return final
        config = point.variant.config
        raw, log = self.folder / "raw.onnx", self.folder / "log"
        images = make_noise(point.batch, config.in_channels, config.image_size)
        model = build_model(config, self.seed)
        export_graph(freeze(model, FORM), config, _batch(point), raw)
        simplify_graph(raw, final, images.images, log, strict=True)
        raw.unlink()
        with TorchRunner(model) as eager, OnnxRuntimeRunner(final) as graph:
            expected, found = eager.run(images.images), graph.run(images.images)
        rows = compare_outputs(f"{point.name}, graph", images.name, expected, found, "fp32")
        Verification(tuple(rows), {}).require()
        return final

    def describe(self, point: Point) -> GraphCost:
        """FLOPs and bytes of the graph, node by node.

        Raises:
            SwinDeployError: As ``path``, or an operator has no rule.
        """
        return cost_graph(self.path(point))

    def compile(self, point: Point) -> Compiled:
        """What TensorRT-RTX makes of the graph in FP16: kernels, and the bytes that they move.

        Raises:
            SwinDeployError: As ``path`` and ``build_quietly``, or the kernels are not known.
        """
        half, plan = self.folder / "half.onnx", self.folder / "plan"
        convert_to_half(self.path(point), half, "fp16")
        listing, version = run_in_child(
            build_quietly,
            self.folder / "log",
            TIMEOUT_S,
            COMPILER.module,
            half,
            plan,
            _batch(point),
        )
        half.unlink()
        plan.unlink()
        if listing.problem or listing.activation_bytes is None:
            raise InputError(f"{point.name}: its kernels are not known: {listing.problem}")
        return Compiled(
            compiler=f"{COMPILER.module} {version}, fp16",
            kernels=len(listing.kernels),
            fused_attentions=listing.fused_attentions,
            compiled_bytes=listing.activation_bytes,
        )


def _batch(point: Point) -> BatchRange:
    return BatchRange(low=point.batch, high=point.batch)
