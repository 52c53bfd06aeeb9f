"""What deployed graphs take and give: batches, precisions, dtypes, preprocessing, best classes."""

from __future__ import annotations

import math
import random
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from swin_deploy.core.errors import MOST_IMAGES, ConfigError

Outputs = Literal["logits", "stages", "embedding"]
OUTPUTS: tuple[Outputs, ...] = ("logits", "stages", "embedding")
STAGES: Outputs = "stages"
# Also what these outputs are called in every file.
LOGITS: Outputs = "logits"
EMBEDDING: Outputs = "embedding"
NO_EMBEDDING = "lacks the norm behind its last stage, so it gives no embedding"
Io = Literal["fp32", "fp16", "uint8"]
IOS: tuple[Io, ...] = ("fp32", "fp16", "uint8")
# What logits mean: one class of all, labels that each hold or not, or plain numbers.
Task = Literal["single-label", "multi-label", "regression"]
TASKS: tuple[Task, ...] = ("single-label", "multi-label", "regression")
Activation = Literal["none", "softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "softmax", "sigmoid")
# What makes probabilities of logits, and the task that this is the meaning of.
TASK_OF: dict[Activation, Task] = {"softmax": "single-label", "sigmoid": "multi-label"}
_OUTPUTS_OF: dict[Task, str] = {
    "single-label": "classes of which one is right",
    "multi-label": "independent labels",
    "regression": "no classes",
}
PROBABILITIES, SCORES, CLASSES = "probabilities", "scores", "classes"  # names of outputs


def require_architecture(config: Any, counts: Iterable[str]) -> None:
    """Check what any architecture has: a name for its folder, and fields of at least 1."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", config.name) is None:
        raise ConfigError(
            f"name = {config.name!r} cannot name a folder",
            "up to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    for field in counts:
        if getattr(config, field) < 1:
            raise ConfigError(f"{field} = {getattr(config, field)} must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The ends of the graphs that engines are made from.

    Attributes:
        io: "fp32": ``image`` (b, channels, H, W) float32, normalised. "fp16": the same in float16,
            and float16 logits or maps, in the FP16 graph; the FP32 graph keeps float32, since no
            float16 output could show that it is right to FP32. "uint8": ``image``
            (b, H, W, channels), pixels from 0 to 255, normalised inside the graph.
        activation: "softmax" and "sigmoid" give ``probabilities`` (b, classes) float32 in place of
            logits.
        topk: Give the best so many, in place of all: ``scores`` (b, topk) float32, descending, and
            ``classes`` (b, topk) int64; None for all.
        task: What the logits mean. It changes no graph, but what may be asked of one, what
            ``predict`` makes of its logits, and what ``evaluate`` counts.
    """

    io: Io = "fp32"
    activation: Activation = "none"
    topk: int | None = None
    task: Task = "single-label"

    def __post_init__(self) -> None:
        if self.io not in IOS:
            raise ConfigError(f"io = {self.io!r} is none of {', '.join(IOS)}")
        if self.topk is not None and self.topk < 1:
            raise ConfigError(f"topk = {self.topk} must be at least 1")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation = {self.activation!r} is none of {', '.join(ACTIVATIONS)}"
            )
        if self.task not in TASKS:
            raise ConfigError(f"task = {self.task!r} is none of {', '.join(TASKS)}")
        if TASK_OF.get(self.activation, self.task) != self.task:
            fit = next((name for name, task in TASK_OF.items() if task == self.task), "none")
            raise ConfigError(
                f"--activation {self.activation} is for "
                f"{_OUTPUTS_OF[TASK_OF[self.activation]]}, and the outputs of this network are "
                f"{_OUTPUTS_OF[self.task]} (--task {self.task})",
                f"--activation {fit}, or --task {TASK_OF[self.activation]}",
            )
        if self.topk is not None and self.task == "regression":
            raise ConfigError("--topk is of classes, and this network has none", "no --topk")

    @property
    def plain(self) -> bool:
        """Whether the graphs stay as they were exported."""
        return self.io == "fp32" and not self.probabilities and self.topk is None

    @property
    def probabilities(self) -> bool:
        """Whether the graphs give probabilities."""
        return self.activation != "none"

    def io_of(self, precision: str) -> Io:
        """What the graph of a precision takes."""
        return "fp32" if self.io == "fp16" and precision != "fp16" else self.io

    def output_names(self, exported: tuple[str, ...]) -> tuple[str, ...]:
        """What the graphs give, in order.

        Args:
            exported: What the network itself gives.
        """
        if self.topk is not None:
            return (SCORES, CLASSES)
        return (PROBABILITIES,) if self.probabilities else exported


AS_EXPORTED = Interface()


def describe_outputs(task: Task | None, outputs: int) -> str:
    """What the outputs of a head mean, for people.

    Args:
        task: None where nothing says it.
        outputs: How many; 0 of a backbone.
    """
    if not outputs:
        return "feature maps"
    if task == "multi-label":
        return f"{outputs} independent labels, each with a probability of its own"
    if task == "regression":
        return f"{outputs} numbers, as they are"
    if outputs == 1:
        return "one number, and nothing says of what; --task says it"
    return f"{outputs} classes, of which one is right"


FEW = 8  # sizes of a range that are all checked
DRAWN = 3  # sizes between the ends of a larger one that are checked at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """The batch sizes that a gate has run; ``seed`` drew them, where there were more."""

    sizes: tuple[int, ...]
    seed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRange:
    """The batch sizes that a graph accepts.

    Attributes:
        low: Smallest batch.
        high: Largest batch, and the one that engines are tuned for. Equal to ``low`` for a static
            batch axis, which gives the fastest engines.
    """

    low: int = 1
    high: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high <= MOST_IMAGES:
            raise ConfigError(
                f"batch {self.low}:{self.high} is not a range from 1 up to {MOST_IMAGES}",
                "--batch 8 for a static batch, --batch 1:16 for a dynamic one",
            )

    @property
    def static(self) -> bool:
        """Whether the graph takes one batch size only."""
        return self.low == self.high

    def __str__(self) -> str:
        return str(self.high) if self.static else f"{self.low}:{self.high}"

    @property
    def drawn(self) -> bool:
        """Whether it has more sizes than are checked at once, so that some are drawn."""
        return self.high - self.low >= FEW

    def checked_sizes(self, seed: int = 0) -> tuple[int, ...]:
        """The numbers of images to verify with, ascending.

        Every size of a small range: a graph may be wrong at any one of them. Of a large range both
        ends and ``DRAWN`` between them. A static graph sees its batch once, and then again as
        several calls of which the last is not full.

        Args:
            seed: Of the draw; without meaning where nothing is drawn.
        """
        if self.static:
            return (self.high, self.high + 2)
        every = range(self.low, self.high + 1)
        if not self.drawn:
            return tuple(every)
        chance = random.Random(seed)  # noqa: S311 - a draw that can be repeated, no secret
        between = chance.sample(every[1:-1], DRAWN)
        return (self.low, *sorted(between), self.high)


def new_seed() -> int:
    """A seed for ``checked_sizes`` that differs from one run to the next."""
    return secrets.randbelow(2**31)


ONE_IMAGE = BatchRange()

HalfPrecision = Literal["fp16", "bf16"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")  # the finest first
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
HALF_PRECISIONS: tuple[HalfPrecision, ...] = ("fp16", "bf16")

Size = tuple[int, int]  # (height, width), in pixels
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "lanczos")
CropMode = Literal["center", "squash"]
CROP_MODES: tuple[CropMode, ...] = ("center", "squash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a photo becomes the input tensor.

    Attributes:
        crop: Fraction of the resized image that the centre crop keeps, along the shorter side.
        crop_mode: Whether the resize keeps the aspect ratio and covers the crop ("center"), or
            gives every photo the same height and width ("squash").
        interpolation: Filter of the resize, as Pillow has it.
        mean: Per channel, on the 0 to 1 scale. The default is ImageNet's, as in every Swin release.
        std: Per channel, on the 0 to 1 scale.
    """

    crop: float = 0.9
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ConfigError(f"preprocessing.crop = {self.crop} must be above 0 and at most 1")
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigError(
                f"preprocessing.mean has {len(self.mean)} values and std has {len(self.std)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ConfigError(
                f"preprocessing.mean = {list(self.mean)} and std = {list(self.std)} have to be "
                "finite, and std above 0"
            )

    def describe(self) -> str:
        """All of it on one line."""
        mean, std = (", ".join(map(str, values)) for values in (self.mean, self.std))
        steps = f"crop {self.crop:.4g} ({self.crop_mode}), {self.interpolation}"
        return f"{steps}, mean {mean}, std {std}"
