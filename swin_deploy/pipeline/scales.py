"""The scales that the activations of an INT8 graph have to have, from what its run has calibrated.

A floor in dB leaves room for a scale that is wrong by a factor of 64. So that there is none, they
are worked out again from the counts of the calibration, which are taken from the file of the run,
and from nowhere else: they are those that were counted, or the run fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from swin_deploy.errors import InputError, VerificationError
from swin_deploy.graph.int8.scales import LARGEST, SMALLEST_SCALE, round_scale
from swin_deploy.pipeline.context import RunContext
from swin_deploy.run.details import CalibrateDetails
from swin_deploy.run.names import STATISTICS

if TYPE_CHECKING:
    from swin_deploy.graph.tensor_statistics import TensorStatistics

_SCALE = ".scale"


def read_statistics(context: RunContext) -> dict[str, TensorStatistics]:
    """What the calibration of this run has counted, by tensor.

    Raises:
        VerificationError: The file is damaged, or holds something else than was counted.
    """
    from swin_deploy.graph.calibration_cache import digest_statistics, load_statistics

    path = context.folder.file(STATISTICS)
    (made,) = context.folder.current.details(CalibrateDetails).values()
    hint = "export again, with nothing else writing into the folder"
    try:
        statistics = load_statistics(path, made.tensors)
    except InputError as error:
        raise VerificationError(f"{error.problem}; nothing was published", hint) from error
    recorded, found = made.statistics, digest_statistics(statistics)
    if found != recorded:
        raise VerificationError(
            f"{path} does not hold what was counted: sha256 {found[:12]}, recorded "
            f"{recorded[:12]}; nothing was published",
            hint,
        )
    return statistics


def expected_scales(context: RunContext, around: Literal["fp32", "fp16"]) -> dict[str, float]:
    """Name of an activation -> its scale, of all that were calibrated.

    Args:
        context: Of the run.
        around: The precision of what is not quantised.

    Raises:
        VerificationError: As ``read_statistics``.
    """
    method, smallest = context.request.int8.method, SMALLEST_SCALE[around]
    return {
        name: float(round_scale(np.asarray(found.threshold(method) / LARGEST), smallest))
        for name, found in read_statistics(context).items()
    }


def require_scales_of_graph(context: RunContext, graph: str, engine: str) -> None:
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
            for tensor in onnx.load(context.folder.file(name)).graph.initializer
            if tensor.name.endswith(_SCALE)
        }
        for name in (graph, engine)
    )
    shared = wanted.keys() & found.keys()
    wrong = sorted(name for name in shared if not np.array_equal(wanted[name], found[name]))
    if wrong or not shared:
        what = f"{wrong[0]} is {found[wrong[0]].max():g}" if wrong else "none has the name"
        raise VerificationError(
            f"{engine} has other scales than {graph}: {what}; nothing was published",
            "another version of ONNX Runtime",
        )
