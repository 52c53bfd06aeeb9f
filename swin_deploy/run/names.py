"""What the files of a run folder are called: a contract, since other people's scripts read them."""

from __future__ import annotations

from swin_deploy.engine.target import Kind, Target
from swin_deploy.precisions import HALF_PRECISIONS, Precision

MANIFEST = "manifest.json"
STAGING, LOCK, VERSIONS = ".staging", ".lock", ".versions"  # the tool's own
WEIGHTS = "weights.safetensors"  # of a checkpoint, in our names; random ones have a seed instead
LABELS = "labels.json"  # of its classes, by index, where they came with it
RAW = "model.raw.onnx"
PLAIN = "model.sim.onnx"  # simplified, where the interface is not that of the export
SIMPLE = "model.onnx"
STATISTICS, SAMPLE = "calibration.npz", "calibration.json"
VERIFY = "verify.json"
BENCH = "bench.json"  # as those below it: made of a finished run, so its manifest lists none

# Kind of target -> key of ``RECIPES``. Kinds that share a recipe share statistics and graph.
INT8_RECIPES: dict[Kind, str] = {
    "tensorrt": "tensorrt",
    "onnxruntime": "onnxruntime",
    "openvino": "onnxruntime",
}
# By recipe: each wants other places quantised, and another precision around them.
INT8_GRAPHS = {"tensorrt": "model.int8.onnx", "onnxruntime": "model.int8.cpu.onnx"}
GRAPHS: dict[Precision, str] = {
    "fp32": SIMPLE,
    **{precision: f"model.{precision}.onnx" for precision in HALF_PRECISIONS},
}
AS_EXPORTED = (RAW, PLAIN)  # with the ends that were traced
# Every graph, and the precision that it computes in.
PRECISION_OF: dict[str, Precision] = {
    **dict.fromkeys(AS_EXPORTED, "fp32"),
    **{file: precision for precision, file in GRAPHS.items()},
    **dict.fromkeys(INT8_GRAPHS.values(), "int8"),
}


def graph_of(target: Target, precision: Precision) -> str:
    """The graph of a run that an engine is made from."""
    return INT8_GRAPHS[INT8_RECIPES[target.kind]] if precision == "int8" else GRAPHS[precision]
