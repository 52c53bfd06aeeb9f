"""Whether the slots of a batch are strangers to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from swin_deploy.interface import CLASSES
from swin_deploy.judge import FLOORS, difference
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner
from swin_deploy.verify.comparison import Comparison

ALL_SLOTS_TO = 8  # of a larger batch, the first, the middle and the last slot stand for all


def check_slots(
    runner: Runner, name: str, precision: Precision, images: FloatArray, sizes: tuple[int, ...]
) -> list[Comparison]:
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
    checks: list[Comparison] = []
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
) -> list[Comparison]:
    checks = []
    for output, array in found.items():
        if output == CLASSES:
            continue
        expected = np.repeat(alone[output], len(array), axis=0)
        numbers, where = difference(expected, array), ""
        if not numbers.problem:
            noise = np.square(array.astype(np.float64) - expected).reshape(len(array), -1)
            where = f"slot {slots[int(noise.sum(axis=1).argmax())]}"
        checks.append(
            Comparison(
                candidate=name,
                reference=f"{name}, alone",
                inputs=inputs,
                output=output,
                kind="slots",
                precision=precision,
                floor_db=FLOORS["slot"][precision],
                where=where,
                **asdict(numbers),
            )
        )
    return checks
