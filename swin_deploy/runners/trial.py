"""The first run of a graph that this tool did not make: in a child, by a clock.

A valid graph may loop for ever or take its process along, and nothing in the file tells.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from swin_deploy.child import run_in_child
from swin_deploy.errors import InputError, ResourceError
from swin_deploy.files import refuse_impostors
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner

LIMIT_S = 300.0  # the largest Swin opens and runs within 10 s on two cores
MOST_BYTES = 2 << 30  # of images; a batch beyond is no batch for a CPU


def require_runs(runner: OnnxRuntimeRunner, shape: tuple[int, ...]) -> None:
    """Run the smallest batch of grey images that a graph takes, where it can do no harm.

    Args:
        runner: Of the graph; not entered.
        shape: (channels, height, width) of its images.

    Raises:
        ResourceError: It does not end within ``LIMIT_S``, or takes the process with it; says how
            to see it.
    """
    refuse_impostors(runner.path, "an ONNX model")
    with tempfile.TemporaryDirectory(prefix="swin-deploy-trial.") as folder:
        try:
            run_in_child(_run_once, Path(folder) / "log", LIMIT_S, runner, shape)
        except ResourceError as error:
            raise ResourceError(
                f"{runner.path} was run in a process of its own: {error.problem}",
                f"the same alone: {reproduce(runner.path, shape)}",
            ) from error


def reproduce(path: Path, shape: tuple[int, ...]) -> str:
    """A command that runs a graph once, in a process without a clock."""
    return f"{sys.executable} -m {__name__} {path} {' '.join(map(str, shape))}"


def _run_once(runner: OnnxRuntimeRunner, shape: tuple[int, ...]) -> None:
    with runner as opened:
        count, taken = opened.batch.low, opened.image_input
        if count * int(np.prod(shape)) * 4 > MOST_BYTES:
            raise InputError(f"{runner.path} takes batches of {count} images, no fewer")
        grey = np.zeros((count, *shape), dtype=np.float32)
        if taken.mean:  # the nearest that pixels can be
            mean = np.asarray(taken.mean).reshape(-1, 1, 1)
            pixels = np.rint(mean * 255)
            grey += ((pixels / 255 - mean) / np.asarray(taken.std).reshape(-1, 1, 1)).astype("f4")
        opened.run(opened.prepare(grey))


if __name__ == "__main__":
    _run_once(OnnxRuntimeRunner(Path(sys.argv[1])), tuple(map(int, sys.argv[2:])))
