"""Engines as files: whether they are what their compiler wrote, and of which graph.

An engine that runs here is compared with eager PyTorch as well. A plan for another GPU is not: all
that is known of it is what its bytes say. They have to be those that the compiler handed over, as
its own process has hashed them, of the graph that passed; and the plan has to name the nodes of
that graph, and all that its listing of kernels names. TensorRT-RTX keeps names of nodes in a plan,
but reads no plan without a GPU (1.7.1: ``deserialize_cuda_engine`` gives None,
``get_engine_validity`` says INVALID), so shapes and profile follow from the graph alone.
"""

from __future__ import annotations

import re
from pathlib import Path

from swin_deploy.engine.listing import load_listing
from swin_deploy.errors import VerificationError
from swin_deploy.files import sha256
from swin_deploy.run.details import EngineDetails
from swin_deploy.run.manifest import Stages
from swin_deploy.run.names import graph_of
from swin_deploy.verify.conversions import File, require_scales_of_graph

_LAYER = re.compile(rb"\[ONNX Layer: ([^\]\x00]+)\]")


def require_as_built(stages: Stages, file: File) -> None:
    """Check every engine of a run against what its compiler's process has read and written.

    Args:
        stages: Of the run.
        file: Name of one of its files -> where its bytes lie.

    Raises:
        VerificationError: A file, its graph or its listing is another one; names it.
    """
    for engine in stages.details(EngineDetails).values():
        _require_bytes(file, engine)
        _require_nodes(file, engine)
        if engine.row.kind == "onnxruntime" and engine.precision == "int8":
            graph = file(graph_of(engine.row, engine.precision))
            require_scales_of_graph(graph, file(engine.row.engine_name(engine.precision)))


def _require_bytes(file: File, engine: EngineDetails) -> None:
    made, graph = engine.written, graph_of(engine.row, engine.precision)
    files = engine.row.engine_files(engine.precision)
    known = {name: made.files.get(Path(name).suffix) for name in files}
    for name, expected in {graph: made.graph, **known}.items():
        if (found := sha256(file(name))) != expected:
            what = "that the engine was compiled from" if name == graph else "its compiler wrote"
            hashes = f"sha256 {found[:12]}, recorded {str(expected)[:12]}"
            raise VerificationError(
                f"{name} is not the file {what}: {hashes}",
                "export again, with nothing else writing into the folder",
            )


def _require_nodes(file: File, engine: EngineDetails) -> None:
    target, precision = engine.row, engine.precision
    listing = target.listing_name(precision)
    if target.module != "tensorrt_rtx" or listing is None:
        return
    import onnx  # late: what else is here is asked before a command knows that it can begin

    name = target.engine_name(precision)
    named = {text.decode() for text in _LAYER.findall(file(name).read_bytes())}
    graph = file(graph_of(target, precision))
    nodes = {node.name for node in onnx.load(graph, load_external_data=False).graph.node}
    kernels = load_listing(file(listing)).kernels
    listed = {node for kernel in kernels for node in kernel.onnx_nodes}
    if not named:  # then its listing cannot tell either, whatever it says
        raise VerificationError(
            f"{name} names no node of {graph.name}: it is no plan of TensorRT-RTX, or of no graph",
            "export again, with nothing else writing into the folder",
        )
    for what, some in (("that its graph has not", named - nodes), ("less", listed - named)):
        if some:
            raise VerificationError(
                f"{name} names {len(some)} nodes {what}, {min(some)} for one: it is a plan of "
                "another graph or has another listing",
                "export again, with nothing else writing into the folder",
            )
