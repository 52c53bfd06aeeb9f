"""What the sides of a comparison are called, as a manifest tells."""

from __future__ import annotations

from pathlib import Path

from swin_deploy.artifacts.reader import FinishedRun
from swin_deploy.errors import ConfigError
from swin_deploy.files import refuse_impostors

EAGER = "eager"
GRAPHS = {
    "raw": "model.raw.onnx",
    "onnx": "model.onnx",
    "fp16": "model.fp16.onnx",
    "bf16": "model.bf16.onnx",
    "int8": "model.int8.onnx",
    "int8-cpu": "model.int8.cpu.onnx",
}
_ENGINE = "engine:"  # how the names of their stages begin


def require_side(run: FinishedRun, name: str) -> None:
    """Check that a run has a side of that name, or that it is the path of an ONNX file.

    Raises:
        ConfigError: The run has none of that name.
        InputError: The file is no ONNX file, as far as a look tells.
    """
    files, stages = run.manifest.outputs(), run.manifest.stages
    names = [EAGER, *(graph for graph, file in GRAPHS.items() if file in files)]
    names += [stage.removeprefix(_ENGINE) for stage in stages if stage.startswith(_ENGINE)]
    if name in names:
        return
    if not name.endswith(".onnx"):
        raise ConfigError(
            f"{run.path} has nothing called {name}",
            f"{', '.join(names)}, or the path of an ONNX file",
        )
    refuse_impostors(Path(name), "an ONNX model")
