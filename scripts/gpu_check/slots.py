"""Every batch size that a runner takes, and the same image in every slot of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from swin_deploy.errors import VerificationError
from swin_deploy.judge import FLOORS, Compared, difference, judge
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.records import finite
from swin_deploy.runners.base import Runner


def verify_slots(
    runner: Runner, images: FloatArray, expected: FloatArray, precision: Precision
) -> tuple[str, dict[str, Any], None]:
    """Compare a runner with the reference at every batch size that both have.

    Args:
        runner: Entered.
        images: (b, channels, H, W) float32, all different.
        expected: (b, classes) float32, what the reference makes of each.
        precision: Whose floor holds.

    Returns:
        The worst figures in words, all of them by batch size, and None.

    Raises:
        VerificationError: Some batch size is below the floor, or none was compared.
    """
    failures: list[str] = []
    rows: list[dict[str, Any]] = []
    worst = np.inf
    high = min(runner.batch.high, len(images))
    for batch in range(runner.batch.low, high + 1):
        mixed = _logits(runner, images[:batch])
        same = _logits(runner, np.repeat(images[:1], batch, axis=0))
        pairs: dict[str, tuple[Compared, FloatArray, FloatArray]] = {
            "different": ("output", expected[:batch], mixed),
            "same": ("output", np.repeat(expected[:1], batch, axis=0), same),
            "slots": ("slot", np.repeat(same[:1], len(same), axis=0), same),
        }
        row: dict[str, Any] = {"batch": batch, "wrong": []}
        for key, (kind, reference, found) in pairs.items():
            numbers = difference(reference, found)
            row[f"{key}_db"] = numbers.sqnr_db
            worst = min(worst, numbers.sqnr_db)
            if reason := judge(numbers, FLOORS[kind][precision]):
                row["wrong"].append(key)
                failures.append(f"batch {batch}, {key}: {reason}")
        rows.append(finite(row))
    if not rows:
        raise VerificationError(f"{runner.name} takes a batch of {runner.batch}: nothing compared")
    if failures:
        raise VerificationError(
            f"{runner.name} is not what it should be: {'; '.join(failures)}",
            details={"rows": rows},
        )
    sizes = f"batch {rows[0]['batch']} to {rows[-1]['batch']}"
    return f"{sizes}, at least {worst:.1f} dB", {"rows": rows}, None


def _logits(runner: Runner, images: FloatArray) -> FloatArray:
    (logits,) = runner.run(runner.prepare(images)).values()
    return logits
