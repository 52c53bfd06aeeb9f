"""Whether the slots of a batch are strangers to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from swin_deploy.interface import CLASSES
from swin_deploy.metrics import FloatArray, cosine_similarity, max_abs_error, sqnr_db
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.verify.checks import Check, as_check
from swin_deploy.verify.comparison import Comparison

# Lowest SQNR of an image in any slot against the same image alone, on the same runner, in dB.
# Measured with swin_t, swin_pocket, examples/small_v2.toml and networks of the tests, in batches of
# 2 to 8: ONNX Runtime gives the same bits in every slot, in every precision; PyTorch, which
# multiplies larger matrices in another order, is at 129.2 dB at worst, in Swin-T. Runtimes of GPUs
# were not measured; they may round coarsely in another order too, and so have the floors of
# the gate.
SLOT_FLOORS_DB: dict[Precision, float] = {"fp32": 110.0, "fp16": 40.0, "bf16": 9.0, "int8": 20.0}
ALL_SLOTS_TO = 8  # of a larger batch, the first, the middle and the last slot stand for all


def check_slots(
    runner: Runner, name: str, precision: Precision, images: FloatArray, sizes: tuple[int, ...]
) -> list[Check]:
    """Compare an image alone with itself in every slot, among copies of itself and among others.

    Copies alone would not show a graph that averages over the batch, nor would strangers show which
    slot is wrong.

    Args:
        runner: Entered.
        name: Of the side.
        precision: Of the side.
        images: (b, channels, H, W), at least as many as the largest of ``sizes``.
        sizes: Batches to fill; those that one call cannot take are left out, and so is 1.

    Returns:
        A row per size, kind of neighbours and output. A graph that takes no single image is
        compared with its own first slot among copies.
    """
    checks: list[Check] = []
    for size in sizes:
        if size == 1 or not runner.batch.low <= size <= runner.batch.high:
            continue
        image, others = images[:1], images[1:size]
        copies = _run(runner, np.repeat(image, size, axis=0))
        alone = _run(runner, image) if runner.batch.low == 1 else _slot(copies, 0)
        # The image in one slot after the other, each time among all others.
        slots = range(size) if size <= ALL_SLOTS_TO else (0, size // 2, size - 1)
        strangers = [
            _slot(_run(runner, np.concatenate([others[:slot], image, others[slot:]])), slot)
            for slot in slots
        ]
        moved = {output: np.concatenate([s[output] for s in strangers]) for output in alone}
        every = range(size)
        for neighbours, found, where in (("itself", copies, every), ("others", moved, slots)):
            checks += _judge(name, precision, f"one image in {size} slots, {neighbours} beside it",
                             alone, found, where)  # fmt: skip
    return checks


def _run(runner: Runner, images: FloatArray) -> Mapping[str, FloatArray]:
    return runner.run(runner.prepare(images))


def _slot(outputs: Mapping[str, FloatArray], slot: int) -> Mapping[str, FloatArray]:
    return {name: array[slot : slot + 1] for name, array in outputs.items()}


def _judge(
    name: str,
    precision: Precision,
    inputs: str,
    alone: Mapping[str, FloatArray],
    found: Mapping[str, FloatArray],
    slots: Sequence[int],
) -> list[Check]:
    floor, checks = SLOT_FLOORS_DB[precision], []
    for output, array in found.items():
        if output == CLASSES:
            continue
        expected = np.repeat(alone[output], len(array), axis=0)
        each = [sqnr_db(expected[:1], array[slot : slot + 1]) for slot in range(len(array))]
        worst = int(np.argmin(each))
        finite = bool(np.isfinite(array).all() and np.isfinite(expected).all())
        reason = ""
        if not finite:
            reason = "NaN or infinite outputs"
        elif not each[worst] >= floor:
            reason = f"SQNR {each[worst]:.1f} dB in slot {slots[worst]}, needs {floor:.0f} dB"
        row = Comparison(
            candidate=name,
            inputs=inputs,
            output=output,
            sqnr_db=each[worst],
            cosine=cosine_similarity(expected, array),
            max_abs_error=max_abs_error(expected, array),
            top1_agreement=None,
            floor_db=floor,
            reason=reason,
        )
        checks.append(as_check(row, f"{name}, alone", "slots"))
    return checks
