"""What the sides of a comparison are called, as a manifest tells."""

from __future__ import annotations

from pathlib import Path

from swin_deploy.errors import ConfigError
from swin_deploy.files import refuse_impostors
from swin_deploy.run.finished import Run
from swin_deploy.run.names import GRAPHS, INT8_GRAPHS, RAW

EAGER = "eager"
SIDES = {  # name of a side -> its graph
    "raw": RAW,
    "onnx": GRAPHS["fp32"],
    "fp16": GRAPHS["fp16"],
    "bf16": GRAPHS["bf16"],
    "int8": INT8_GRAPHS["tensorrt"],
    "int8-cpu": INT8_GRAPHS["onnxruntime"],
}


def require_side(run: Run, name: str) -> None:
    """Check that a run has a side of that name, or that it is the path of an ONNX file.

    Raises:
        ConfigError: The run has none of that name.
        InputError: The file is no ONNX file, as far as a look tells.
    """
    graphs = (side for side, file in SIDES.items() if file in run.files)
    names = [EAGER, *graphs, *run.engines]
    if name in names:
        return
    if not name.endswith(".onnx"):
        raise ConfigError(
            f"{run.path} has nothing called {name}",
            f"{', '.join(names)}, or the path of an ONNX file",
        )
    refuse_impostors(Path(name), "an ONNX model")
