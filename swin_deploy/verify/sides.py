"""What can be compared: eager, the graphs of a run, its engines, and other ONNX files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from swin_deploy.data.pixels import FP32_INPUT, ImageInput
from swin_deploy.errors import ConfigError, EnvironmentMissingError
from swin_deploy.files import Recorded, refuse_impostors, sha256
from swin_deploy.graph.dress import read_image_input
from swin_deploy.graph.export import check_graph
from swin_deploy.graph.widen import round_every_result
from swin_deploy.model.build import Network
from swin_deploy.model.outputs import with_outputs
from swin_deploy.precisions import Precision
from swin_deploy.run.finished import Run
from swin_deploy.run.names import GRAPHS, INT8_GRAPHS, PRECISION_OF, RAW
from swin_deploy.runners.base import Runner
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.runners.torch_eager import TorchRunner
from swin_deploy.verify.comparison import FLOORS_DB

EAGER = "eager"
# As ``FLOORS_DB``, on the images of ``make_extremes``. FP16: logits are at 44.6 dB at worst, but
# scores of classes between which swin_pocket is torn, on a checkerboard, are at 35.4; the floor is
# about 6 dB below.
EXTREME_FLOORS_DB: dict[Precision, float] = FLOORS_DB | {"fp16": 30.0}
# Lowest SQNR of a tensor between blocks on one image, in dB. FP32 and FP16: the worst maps that
# scripts/measure_floors.py found, in the smallest Swin V2, are at 103.6 and 36.0 dB; FP16 has 6 dB
# less, twice that error. BF16: 15.2 dB there, and 6 less. INT8: 32.6 dB in swin_pocket on photos,
# the only one that was looked at; the floor is that of its logits, 20, less 6 dB: a choice, since
# logits are averages of what stands before them.
TENSOR_FLOORS_DB: dict[Precision, float] = {"fp32": 100.0, "fp16": 30.0, "bf16": 9.0, "int8": 14.0}
SIDES = {  # name of a side -> its graph
    "raw": RAW,
    "onnx": GRAPHS["fp32"],
    "fp16": GRAPHS["fp16"],
    "bf16": GRAPHS["bf16"],
    "int8": INT8_GRAPHS["tensorrt"],
    "int8-cpu": INT8_GRAPHS["onnxruntime"],
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: As ``--between`` takes it.
        precision: That selects its floor.
        graph: Its ONNX file, or the one that the engine was made from; None for eager.
        image_input: What that graph takes.
        engine: Name of the engine, where it is one.
        exact: Whether it is what the others are measured by: eager, on this machine.
        recorded: The graph with its recorded hash, where it is one of the run.
    """

    name: str
    precision: Precision
    graph: Path | None = None
    image_input: ImageInput = FP32_INPUT
    engine: str | None = None
    exact: bool = False
    recorded: Recorded | None = None

    @property
    def sha256(self) -> str | None:
        """Of its graph; None for eager."""
        if self.recorded is not None:
            return self.recorded.sha256
        return None if self.graph is None else sha256(self.graph)


def list_sides(opened: Run) -> dict[str, Side]:
    """Everything of a run that can be a side, by name, whether it runs here or not.

    Raises:
        UnsafeError: A graph is not the one that was recorded.
    """
    sides = {EAGER: Side(EAGER, "fp32", exact=True)}
    for name, file in SIDES.items():
        if file in opened.files:
            sides[name] = _graph(opened, name, file)
    for name, engine in opened.engines.items():
        sides[name] = replace(_graph(opened, name, engine.graph), engine=name)
    return sides


def _graph(opened: Run, name: str, file: str) -> Side:
    path, taken = opened.checked(file), opened.input_of(file)
    return Side(name, PRECISION_OF[file], path, taken, recorded=opened.file(file))


def find_side(opened: Run, sides: dict[str, Side], name: str) -> Side:
    """One of ``sides`` by its name, or an ONNX file by its path.

    Raises:
        ConfigError: The run has none of that name.
        InputError: The file is no ONNX file.
    """
    if name in sides:
        return sides[name]
    if name.endswith(".onnx"):
        path = Path(name)
        refuse_impostors(path, "an ONNX model")
        check_graph(path)
        return Side(name, precision_of_graph(path), path, read_image_input(path))
    raise ConfigError(
        f"{opened.path} has nothing called {name}",
        f"{', '.join(sides)}, or the path of an ONNX file",
    )


def precision_of_graph(path: Path) -> Precision:
    """The precision that an ONNX file computes in, by its nodes and weights."""
    graph = onnx.load(path, load_external_data=False).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    kinds = {tensor.data_type for tensor in graph.initializer}
    if onnx.TensorProto.BFLOAT16 in kinds:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def open_side(opened: Run, side: Side, model: Network, scratch: Path) -> Runner:
    """A runner for a side; graphs in half precision are run with every result rounded.

    Args:
        opened: The run.
        side: Of it.
        model: The eager network.
        scratch: A folder for the rounded graph.

    Raises:
        EnvironmentMissingError: This machine cannot run it.
    """
    if side.graph is None:
        return TorchRunner(with_outputs(model, opened.outputs, opened.config.name), EAGER)
    if side.engine is not None:
        runner = opened.open_engine(side.engine)
        if isinstance(runner, str):
            raise EnvironmentMissingError(f"{side.name} cannot run here: {runner}")
        return runner
    graph = runnable(side, scratch)
    # What is rounded for it to run here is meant for another runtime.
    rounded = graph != side.graph
    return OnnxRuntimeRunner(
        graph,
        None,
        side.name,
        side.image_input,
        simulated_int8=rounded,
        recorded=None if rounded else side.recorded,
    )


def runnable(side: Side, scratch: Path) -> Path:
    """The graph of a side as ONNX Runtime computes what the types of the file say."""
    graph = side.graph
    assert graph is not None  # eager has none
    model = onnx.load(graph, load_external_data=False)
    halves = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    if not any(tensor.data_type in halves for tensor in model.graph.initializer):
        return graph
    rounding = scratch / f"{side.sha256}.onnx"
    if not rounding.exists():
        source = graph if side.recorded is None else side.recorded.copy_to(scratch)
        round_every_result(source, rounding)
    return rounding


def floor_between(
    sides: Sequence[Side], own_db: float | None = None, extreme: bool = False
) -> float:
    """What the outputs of two sides have to agree to, in dB.

    Each is held to its floor against eager. Of two that just reach theirs the errors add up: the
    amplitudes of both, which is what this returns as one ratio. Eager itself has no error.

    Args:
        sides: The two.
        own_db: Floor of the run's FP32 files, where it is lower than the usual one.
        extreme: Whether on images that no camera takes.
    """
    return _add_up(sides, EXTREME_FLOORS_DB if extreme else FLOORS_DB, own_db)


def tensor_floor(sides: Sequence[Side], own_db: float | None = None) -> float:
    """As ``floor_between``, for tensors between blocks."""
    return _add_up(sides, TENSOR_FLOORS_DB, own_db)


def _add_up(
    sides: Sequence[Side], floors_db: Mapping[Precision, float], own_db: float | None
) -> float:
    amplitude = 0.0
    for side in sides:
        floor = floors_db[side.precision]
        if side.precision == "fp32" and own_db is not None:
            floor = min(floor, own_db)
        amplitude += 0.0 if side.exact else 10 ** (-floor / 20)
    return -20 * math.log10(amplitude) if amplitude else math.inf


def coarser(sides: Sequence[Side]) -> Precision:
    """The precision of the two that has the lower floor."""
    return min((side.precision for side in sides), key=lambda precision: FLOORS_DB[precision])
