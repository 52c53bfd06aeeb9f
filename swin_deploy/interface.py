"""What the deployed graphs of a run take and give: dtypes, pixels, probabilities, best classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from swin_deploy.errors import ConfigError

Outputs = Literal["logits", "stages"]
OUTPUTS: tuple[Outputs, ...] = ("logits", "stages")
LOGITS: Outputs = "logits"  # also what that output is called in every file
Io = Literal["fp32", "fp16", "uint8"]
IOS: tuple[Io, ...] = ("fp32", "fp16", "uint8")
# What logits mean: one choice among classes, labels that each hold or not, or plain numbers.
Head = Literal["choice", "independent", "values"]
PROBABILITIES, SCORES, CLASSES = "probabilities", "scores", "classes"  # names of outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """The ends of the graphs that engines are made from.

    Attributes:
        io: "fp32": ``image`` (b, channels, H, W) float32, normalised. "fp16": the same in float16,
            and float16 logits or maps, in the FP16 graph; the FP32 graph keeps float32, since no
            float16 output could show that it is right to FP32. "uint8": ``image``
            (b, H, W, channels), pixels from 0 to 255, normalised inside the graph.
        softmax: Give ``probabilities`` (b, classes) float32 in place of logits.
        topk: Give the best so many, in place of all: ``scores`` (b, topk) float32, descending, and
            ``classes`` (b, topk) int64; None for all.
        head: What the logits mean. It changes no graph, but what may be asked of one and what
            ``predict`` makes of its logits.
    """

    io: Io = "fp32"
    softmax: bool = False
    topk: int | None = None
    head: Head = "choice"

    def __post_init__(self) -> None:
        if self.io not in IOS:
            raise ConfigError(f"io = {self.io!r} is none of {', '.join(IOS)}")
        if self.topk is not None and self.topk < 1:
            raise ConfigError(f"topk = {self.topk} must be at least 1")
        if self.softmax and self.head != "choice":
            raise ConfigError(
                "--softmax makes one choice of all outputs, and those of this network are "
                + ("independent labels" if self.head == "independent" else "no classes"),
                "no --softmax",
            )
        if self.topk is not None and self.head == "values":
            raise ConfigError("--topk is of classes, and this network has none", "no --topk")

    @property
    def plain(self) -> bool:
        """Whether the graphs stay as they were exported."""
        return replace(self, head="choice") == Interface()

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
        return (PROBABILITIES,) if self.softmax else exported


AS_EXPORTED = Interface()
