"""The ways to find a tensor's range from what images gave, by name; none is imported here."""

from __future__ import annotations

from typing import Literal

CalibrationMethod = Literal["minmax", "percentile", "entropy", "mse"]
CALIBRATION_METHODS: tuple[CalibrationMethod, ...] = ("minmax", "percentile", "entropy", "mse")
