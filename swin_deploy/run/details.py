"""Names of a run's files, and what each kind of stage says in the manifest, typed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.records import decode
from swin_deploy.engine.here import Fingerprint
from swin_deploy.engine.options import Written
from swin_deploy.engine.target import Kind, Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.graph.int8 import CalibrationMethod
from swin_deploy.network.interface import HALF_PRECISIONS, Batches, Precision
from swin_deploy.network.judge import int8_floor_db

Shape = list[int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What any stage may say.

    Attributes:
        notes: What the user has to know.
    """

    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsDetails(Details):
    """The checkpoint that was read, and how many of its tensors."""

    file: str
    sha256: str
    dialect: str
    tensors: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportDetails(Details):
    """The graph as it was exported; ``form`` is of attention, None of a ViT."""

    parameters: int
    form: str | None
    nodes: int
    opset: int
    outputs: dict[str, Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplifyDetails(Details):
    """``failure`` says why the graph is as it was exported, or nothing."""

    nodes_before: int
    nodes_after: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceDetails(Details):
    """The ends of the deployed graph: name -> datatype and shape."""

    inputs: dict[str, tuple[str, Shape]]
    outputs: dict[str, tuple[str, Shape]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HalfDetails(Details):
    """``fp32_nodes``: node that stays in FP32 -> the peak that it is for, if it has one."""

    weights: int
    largest: float
    flushed: float
    fp32_nodes: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateDetails(Details):
    """How many images, how many tensors were watched, and the digest of what was counted."""

    images: int
    found: int
    tensors: int
    statistics: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """The worst of an INT8 graph against FP32."""

    inputs: str
    sqnr_db: float
    top1_agreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Top1:
    """In percent, with the 95 % interval."""

    top1: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Of both graphs on labelled images; ``drop`` in points."""

    images: int
    drop: float
    fp32: Top1
    int8: Top1


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Details(Details):
    """What was quantised, with what, and how it was judged."""

    gemms: dict[str, str]
    attentions: tuple[str, ...]
    left: tuple[str, ...]
    scales: dict[str, float]
    kind: str
    method: CalibrationMethod
    fp32_nodes: dict[str, float | None]
    agreement: Agreement
    accuracy: Accuracy | None

    @property
    def floor_db(self) -> float:
        """What it and every engine of it have to reach on photos: see ``judge.int8_floor_db``."""
        return int8_floor_db(None if self.accuracy is None else self.agreement.sqnr_db)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDetails(Details):
    """What an engine was built for, and from: see ``engine.build.BuiltEngine``.

    Attributes:
        target: Name of the row of ``engine.targets``.
        precision: Of its graph.
        refitted_from: SHA-256 of the engine whose weights were replaced.
    """

    target: str
    precision: Precision
    module: str
    version: str | None
    built_for: Fingerprint
    written: Written
    kernels: int | None
    fused_attentions: int | None
    activation_bytes: int | None
    settings: dict[str, Any] = field(default_factory=dict)
    refitted_from: str | None = None

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ConfigError(f"target = {self.target!r} is none of {', '.join(TARGETS)}")

    @property
    def row(self) -> Target:
        """Of the table of targets."""
        return TARGETS[self.target]

    @property
    def flags(self) -> tuple[str, ...]:
        """Of its compiler."""
        flags = self.settings.get("flags", ())
        return tuple(map(str, flags)) if isinstance(flags, list | tuple) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyDetails(Details):
    """What the gate compared.

    Attributes:
        batches: On how many images at once.
        comparisons: How many.
        converted_exactly: Precisions whose conversion was compared exactly.
        not_run: Candidate -> why it cannot run on the machine of the export.
        fp32_floors_db: Output -> what FP32 was held to, on noise and photos.
        fp32_extreme_floors_db: Likewise, on images that no camera takes.
    """

    batches: Batches
    comparisons: int
    converted_exactly: tuple[str, ...]
    not_run: dict[str, str]
    fp32_floors_db: dict[str, float]
    fp32_extreme_floors_db: dict[str, float]


# By the name of the stage, or by what it begins with, up to a colon.
DETAILS: dict[str, type[Details]] = {
    "weights": WeightsDetails,
    "export": ExportDetails,
    "simplify": SimplifyDetails,
    "interface": InterfaceDetails,
    "fp16": HalfDetails,
    "bf16": HalfDetails,
    "calibrate": CalibrateDetails,
    "int8:": Int8Details,
    "engine:": EngineDetails,
    "verify": VerifyDetails,
}


def decode_details(stage: str, details: object, where: object) -> Details:
    """The details of a stage as their class."""
    kind = DETAILS.get(stage[: stage.find(":") + 1] or stage)
    if kind is None:
        raise InputError(
            f"{where}: stages.{stage} is no stage of this version ({', '.join(DETAILS)})",
            "export again",
        )
    return decode(kind, details, where, "export again", f"stages.{stage}.details")


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
