"""What can be compared: eager, the graphs of a run, its engines, and other ONNX files."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from swin_deploy.core.errors import EnvironmentMissingError, present
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.data.images import FP32_INPUT, ImageInput
from swin_deploy.engine.open import looks_at
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.runners.ends import BEFORE, has_ends
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner, require_runs
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph.casts import as_computed
from swin_deploy.graph.export import check_graph
from swin_deploy.graph.interface import read_image_input
from swin_deploy.measure.verify.report import EAGER, SIDES, require_candidate
from swin_deploy.network.interface import PRECISIONS, Interface, Precision
from swin_deploy.network.judge import FLOORS
from swin_deploy.network.model.build import Network, with_outputs
from swin_deploy.run.details import AS_EXPORTED, PRECISION_OF
from swin_deploy.run.finished import Run


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the two that are compared.

    Attributes:
        name: As ``--between`` takes it.
        precision: That selects its floor.
        graph: Its ONNX file, or the one that the engine was made from; None for eager.
        image_input: What that graph takes.
        engine: Name of the engine, where it is one.
        foreign: Whether it is an ONNX file that the run knows nothing of.
        exact: Whether it is what the others are measured by: eager, on this machine.
        recorded: The graph with its recorded hash, where it is one of the run.
        photos_db: What the run held it to on photos, where that is not the usual floor: INT8.
        before: The ends that its logits are read before; None to take what it gives.
    """

    name: str
    precision: Precision
    graph: Path | None = None
    image_input: ImageInput = FP32_INPUT
    engine: str | None = None
    exact: bool = False
    foreign: bool = False
    recorded: Recorded | None = None
    photos_db: float | None = None
    before: Interface | None = None

    @property
    def sha256(self) -> str | None:
        """Of its graph; None for eager."""
        if self.recorded is not None:
            return self.recorded.sha256
        return None if self.graph is None else sha256(self.graph)


def list_candidates(opened: Run) -> dict[str, Candidate]:
    """Everything of a run that can be a side, by name, whether it runs here or not.

    What has other ends than the network is there before these as well, as far as it can be looked
    into, under its name with ``BEFORE``: of classes that never win, the ends show nothing.
    """

    def path(name: str) -> Path:
        opened.checked(name)
        return opened.path / name  # its bytes may lie elsewhere, and move

    int8_db = opened.manifest.int8_floors_db()
    graphs = {
        side.name: replace(
            side, recorded=opened.file(SIDES[side.name]), photos_db=int8_db.get(SIDES[side.name])
        )
        for side in list_graphs(opened.files, path, opened.image_input)
    }
    sides = {EAGER: Candidate(EAGER, "fp32", exact=True)} | graphs
    for name, engine in opened.engines.items():
        (origin,) = [side for side, file in SIDES.items() if file == engine.graph]
        sides[name] = replace(sides[origin], name=name, engine=name)
    return {seen.name: seen for side in sides.values() for seen in _looks_at(opened, side)}


def _looks_at(opened: Run, side: Candidate) -> Iterator[Candidate]:
    """A side, and then the same before its ends, if it has any."""
    yield side
    if side.engine is not None:
        looks = looks_at(opened.engines[side.engine].target, opened.interface)
    else:
        ends = side.graph is not None and SIDES[side.name] not in AS_EXPORTED
        looks = (opened.interface,) if ends and has_ends(opened.interface) else ()
    for before in looks:
        if before is not None:
            yield replace(side, name=f"{side.name}{BEFORE}", before=before)


def list_graphs(
    present: Container[str],
    path: Callable[[str], Path],
    image_input: Callable[[Precision], ImageInput],
) -> Iterator[Candidate]:
    """The graphs of a run, in the order in which one is made from another.

    Args:
        present: Files that the run has.
        path: Where a file lies.
        image_input: What the graph of a precision takes, where that is not what the export takes.
    """
    for name, file in SIDES.items():
        if file in present:
            precision = PRECISION_OF[file]
            taken = FP32_INPUT if file in AS_EXPORTED else image_input(precision)
            yield Candidate(name, precision, path(file), taken)


def find_candidate(opened: Run, sides: dict[str, Candidate], name: str) -> Candidate:
    """One of ``sides`` by its name, or an ONNX file by its path."""
    require_candidate(opened, name)
    if name in sides:
        return sides[name]
    path = Path(name)
    check_graph(path)
    return Candidate(name, precision_of_graph(path), path, read_image_input(path), foreign=True)


def precision_of_graph(path: Path) -> Precision:
    """The precision that an ONNX file computes in, by its nodes and weights."""
    graph = onnx.load(path, load_external_data=False).graph
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        return "int8"
    kinds = {tensor.data_type for tensor in graph.initializer}
    if onnx.TensorProto.BFLOAT16 in kinds:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def open_candidate(opened: Run, side: Candidate, model: Network, scratch: Path) -> Runner:
    """A runner for a side; graphs in half precision are run with every result rounded.

    Args:
        opened: The run.
        side: Of it.
        model: The eager network.
        scratch: A folder for the rounded graph.
    """
    if side.graph is None:
        return TorchRunner(with_outputs(model, opened.outputs, opened.config.name), EAGER)
    if side.engine is not None:
        runner = opened.open_engine(side.engine, before=side.before)
        if isinstance(runner, str):
            raise EnvironmentMissingError(f"{side.name} cannot run here: {runner}")
        return runner
    runner = open_graph(side, scratch, before=side.before)
    if side.foreign:
        require_runs(runner, (opened.config.in_channels, *opened.config.image_size))
    return runner


def open_graph(
    side: Candidate, scratch: Path, name: str | None = None, before: Interface | None = None
) -> OnnxRuntimeRunner:
    """ONNX Runtime on the graph of a side, as it computes what the types of the file say.

    Args:
        side: Not eager.
        scratch: A folder for the rounded graph.
        name: For the tables, where it is not that of the side.
        before: As ``OnnxRuntimeRunner`` takes it.
    """
    graph, rounded = _computed(side, scratch)  # rounded: what is meant for another runtime
    return OnnxRuntimeRunner(
        graph if rounded else present(side.graph),
        None,
        name or side.name,
        side.image_input,
        simulated_int8=rounded,
        before=before,
        recorded=None if rounded else side.recorded,
    )


def runnable(side: Candidate, scratch: Path) -> Path:
    """``as_computed`` of the graph of a side, of the bytes that were recorded."""
    return _computed(side, scratch)[0]


def _computed(side: Candidate, scratch: Path) -> tuple[Path, bool]:
    """The same, and whether it was rounded."""
    source = own_graph(side, scratch)
    computed = as_computed(source, scratch)
    return computed, computed != source


def own_graph(side: Candidate, scratch: Path) -> Path:
    """The graph of a side: of one with a recorded hash, a copy of the recorded bytes."""
    return present(side.graph) if side.recorded is None else side.recorded.copy_to(scratch)


def floor_between(
    sides: Sequence[Candidate], own_db: float | None = None, extreme: bool = False
) -> float:
    """What the outputs of two sides have to agree to, in dB.

    Each is held to its floor against eager. Of two that just reach theirs the errors add up: the
    amplitudes of both, which is what this returns as one ratio. Eager itself has no error.

    Args:
        sides: The two.
        own_db: Floor of the run's FP32 files, where it is lower than the usual one.
        extreme: Whether on images that no camera takes.
    """
    return _add_up(sides, FLOORS["extreme" if extreme else "output"], own_db)


def tensor_floor(sides: Sequence[Candidate], own_db: float | None = None) -> float:
    """As ``floor_between``, for tensors between blocks."""
    return _add_up(sides, FLOORS["tensor"], own_db)


def _add_up(
    sides: Sequence[Candidate], floors_db: Mapping[Precision, float], own_db: float | None
) -> float:
    amplitude = 0.0
    for side in sides:
        floor = min(
            floors_db[side.precision], math.inf if side.photos_db is None else side.photos_db
        )
        if side.precision == "fp32" and own_db is not None:
            floor = min(floor, own_db)
        amplitude += 0.0 if side.exact else 10 ** (-floor / 20)
    return -20 * math.log10(amplitude) if amplitude else math.inf


def coarser(sides: Sequence[Candidate]) -> Precision:
    """The precision of the two that keeps less."""
    return max((side.precision for side in sides), key=PRECISIONS.index)
