"""The precisions that graphs and engines come in."""

from __future__ import annotations

from typing import Literal

HalfPrecision = Literal["fp16", "bf16"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")  # the finest first
DEFAULT_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
HALF_PRECISIONS: tuple[HalfPrecision, ...] = ("fp16", "bf16")
