"""Every batch size that a runner takes, and the same image in every slot of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from swin_deploy.errors import VerificationError
from swin_deploy.metrics import FloatArray, sqnr_db
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.verify import FLOORS_DB


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
    floor, failures = FLOORS_DB[precision], []
    rows: list[dict[str, Any]] = []
    high = min(runner.batch.high, len(images))
    for batch in range(runner.batch.low, high + 1):
        mixed = _logits(runner, images[:batch])
        same = _logits(runner, np.repeat(images[:1], batch, axis=0))
        row = {
            "different_db": sqnr_db(expected[:batch], mixed),
            "same_db": min(sqnr_db(expected[:1], same[i : i + 1]) for i in range(batch)),
            "slots_db": min(sqnr_db(same[:1], same[i : i + 1]) for i in range(batch)),
        }
        wrong = [key for key, value in row.items() if not value >= floor]
        failures += [f"batch {batch}, {key}: {row[key]:.1f}" for key in wrong]
        finite = {key: float(np.clip(value, -999, 999)) for key, value in row.items()}  # JSON
        rows.append({"batch": batch, "wrong": wrong, **finite})
    if not rows:
        raise VerificationError(f"{runner.name} takes a batch of {runner.batch}: nothing compared")
    if failures:
        raise VerificationError(
            f"{runner.name} is below {floor:.0f} dB: {'; '.join(failures)}", details={"rows": rows}
        )
    worst = min(value for row in rows for key, value in row.items() if key.endswith("_db"))
    sizes = f"batch {rows[0]['batch']} to {rows[-1]['batch']}"
    return f"{sizes}, at least {worst:.1f} dB (floor {floor:.0f})", {"rows": rows}, None


def _logits(runner: Runner, images: FloatArray) -> FloatArray:
    (logits,) = runner.run(runner.prepare(images)).values()
    return logits
