"""How fast an engine is beside the eager network it came from, and other baselines."""

from __future__ import annotations

from typing import Literal

Baseline = Literal["eager", "eager-half", "compile", "naive"]
BASELINES: tuple[Baseline, ...] = ("eager", "eager-half", "compile", "naive")
DEFAULT_BASELINES: tuple[Baseline, ...] = ("eager",)
