"""INT8 as pairs of QuantizeLinear and DequantizeLinear; and the ways to find ranges, by name."""

from __future__ import annotations

from typing import Literal, get_args

from swin_deploy.core.errors import ConfigError

CalibrationMethod = Literal["minmax", "percentile", "entropy", "mse"]
CALIBRATION_METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)


def require_method(method: str) -> None:
    """Check a name, of whoever gives it.

    Raises:
        ConfigError: It is none of them.
    """
    if method not in CALIBRATION_METHODS:
        raise ConfigError(
            f"no calibration method {method!r}", f"one of {', '.join(CALIBRATION_METHODS)}"
        )
