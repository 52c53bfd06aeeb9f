"""Whether every converted graph of a run is its FP32 graph, rounded, and nothing else.

A floor in dB leaves room for mistakes as small as the rounding, and for a scale that is wrong by a
factor of 64. An exact comparison leaves none. The scales of activations are worked out again from
the counts of the calibration, which are taken from the file of the run, and from nowhere else: they
are those that were counted, or the run fails.

An engine that runs here is compared with eager PyTorch as well. A plan for another GPU is not: all
that is known of it is what its bytes say. They have to be those that the compiler handed over, as
its own process has hashed them, of the graph that passed; and the plan has to name the nodes of
that graph, and all that its listing of kernels names. TensorRT-RTX keeps names of nodes in a plan,
but reads no plan without a GPU (1.7.1: ``deserialize_cuda_engine`` gives None,
``get_engine_validity`` says INVALID), so shapes and profile follow from the graph alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from swin_deploy.core.errors import InputError, VerificationError
from swin_deploy.core.files import sha256
from swin_deploy.engine.cost.listing import load_listing
from swin_deploy.graph.int8 import CalibrationMethod
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.graph.int8.thresholds import LARGEST, SMALLEST_SCALE, round_scale
from swin_deploy.network.interface import HALF_PRECISIONS, Precision
from swin_deploy.run.details import (
    GRAPHS,
    INT8_GRAPHS,
    SIMPLE,
    STATISTICS,
    CalibrateDetails,
    EngineDetails,
    Int8Details,
    graph_of,
)
from swin_deploy.run.manifest import Stages

if TYPE_CHECKING:
    from swin_deploy.graph.int8.thresholds import TensorStatistics


_SCALE = ".scale"
_AGAIN = "export again, with nothing else writing into the folder"
File = Callable[[str], Path]


def require_conversions(stages: Stages, file: File) -> list[Precision]:
    """Check that each converted graph is the FP32 graph, rounded; returns which precisions.

    Args:
        stages: Of the run.
        file: Name of one of its files -> where its bytes lie.

    Raises:
        VerificationError: One is something else.
    """
    from swin_deploy.graph.structure import require_converted

    present, full = stages.outputs(), file(SIMPLE)
    halves = [precision for precision in HALF_PRECISIONS if GRAPHS[precision] in present]
    for precision in halves:
        require_converted(full, file(GRAPHS[precision]), precision)
    quantised = stages.details(Int8Details).values()
    for made in quantised:
        around = RECIPES[made.kind].surrounding
        scales = expected_scales(stages, file, made.method, around)
        graph = file(INT8_GRAPHS[made.kind])
        require_converted(full, graph, None if around == "fp32" else around, scales)
    found: list[Precision] = [*halves]
    return [*found, "int8"] if quantised else found


def read_statistics(stages: Stages, file: File) -> dict[str, TensorStatistics]:
    """What the calibration of a run has counted, by tensor."""
    from swin_deploy.graph.int8.observe import digest_statistics, load_statistics

    path = file(STATISTICS)
    (made,) = stages.details(CalibrateDetails).values()
    try:
        statistics = load_statistics(path, made.tensors)
    except InputError as error:
        raise VerificationError(error.problem, _AGAIN) from error
    recorded, found = made.statistics, digest_statistics(statistics)
    if found != recorded:
        raise VerificationError(
            f"{path} does not hold what was counted: sha256 {found[:12]}, recorded {recorded[:12]}",
            _AGAIN,
        )
    return statistics


def expected_scales(
    stages: Stages, file: File, method: CalibrationMethod, around: Literal["fp32", "fp16"]
) -> dict[str, float]:
    """Name of an activation -> its scale, of all that were calibrated.

    Args:
        stages: Of the run.
        file: As of ``require_conversions``.
        method: Of the calibration.
        around: The precision of what is not quantised.
    """
    smallest = SMALLEST_SCALE[around]
    return {
        name: float(round_scale(np.asarray(found.threshold(method) / LARGEST), smallest))
        for name, found in read_statistics(stages, file).items()
    }


def require_scales_of_graph(graph: Path, engine: Path) -> None:
    """Check that an INT8 engine that is an ONNX file has the scales of its graph.

    ONNX Runtime turns products into integer ones and keeps the names of their scales.
    """
    import onnx
    from onnx import numpy_helper

    wanted, found = (
        {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in onnx.load(path).graph.initializer
            if tensor.name.endswith(_SCALE)
        }
        for path in (graph, engine)
    )
    shared = wanted.keys() & found.keys()
    wrong = sorted(name for name in shared if not np.array_equal(wanted[name], found[name]))
    if wrong or not shared:
        what = f"{wrong[0]} is {found[wrong[0]].max():g}" if wrong else "none has the name"
        raise VerificationError(
            f"{engine.name} has other scales than {graph.name}: {what}",
            "another version of ONNX Runtime",
        )


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
            raise VerificationError(f"{name} is not the file {what}: {hashes}", _AGAIN)


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
            _AGAIN,
        )
    for what, some in (("that its graph does not have", named - nodes), ("less", listed - named)):
        if some:
            raise VerificationError(
                f"{name} names {len(some)} nodes {what}, {min(some)} for one: it is a plan of "
                "another graph or has another listing",
                _AGAIN,
            )
