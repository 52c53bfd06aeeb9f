"""Whether every converted graph of a run is its FP32 graph, rounded, and nothing else.

A floor in dB leaves room for mistakes as small as the rounding, and for a scale that is wrong by a
factor of 64. An exact comparison leaves none. The scales of activations are worked out again from
the counts of the calibration, which are taken from the file of the run, and from nowhere else: they
are those that were counted, or the run fails.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from swin_deploy.errors import InputError, VerificationError
from swin_deploy.graph.int8.recipe import RECIPES
from swin_deploy.graph.int8.scales import LARGEST, SMALLEST_SCALE, round_scale
from swin_deploy.graph.methods import CalibrationMethod
from swin_deploy.precisions import HALF_PRECISIONS, Precision
from swin_deploy.run.details import CalibrateDetails, Int8Details
from swin_deploy.run.manifest import Stages
from swin_deploy.run.names import GRAPHS, INT8_GRAPHS, SIMPLE, STATISTICS

if TYPE_CHECKING:
    from swin_deploy.graph.tensor_statistics import TensorStatistics

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
    """What the calibration of a run has counted, by tensor; arguments as ``require_conversions``.

    Raises:
        VerificationError: The file is damaged, or holds something else than was counted.
    """
    from swin_deploy.graph.calibration_cache import digest_statistics, load_statistics

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

    Raises:
        VerificationError: One is another, or none has its name any more.
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
