"""Lines of a ``verify`` report: both sides on the same images, and batch slots as strangers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from swin_deploy.data.images import InputSet, PhotoFolder, load_photos
from swin_deploy.engine.runners.base import Runner
from swin_deploy.measure.verify.candidates import Candidate, coarser, floor_between
from swin_deploy.measure.verify.comparison import NO_PHOTOS, Comparison, Kind
from swin_deploy.measure.verify.outputs import Outputs, compare_outputs, is_extreme, make_extremes
from swin_deploy.network.interface import CLASSES, LOGITS, Precision
from swin_deploy.network.judge import FLOORS, FloatArray, difference
from swin_deploy.run.finished import Run


def check_pair(
    opened: Run,
    reference: Candidate,
    candidate: Candidate,
    images: InputSet,
    results: tuple[Outputs, Outputs],
    powers: Mapping[str, float],
    kind: Kind = "outputs",
) -> list[Comparison]:
    """Compare what two sides gave for the same images.

    Args:
        opened: The run.
        reference: One side.
        candidate: The other.
        images: What both were given.
        results: What they gave.
        powers: ``mean_power`` of the outputs of the reference over all images, by name.
        kind: For the rows.
    """
    expected, found = results
    if LOGITS in found and LOGITS not in expected:  # the one that has all of them says what is best
        expected, found = found, expected
    sides = reference, candidate
    extreme = is_extreme(images)
    own_db = opened.extreme_floors_db if extreme else opened.floors_db
    int8 = any(side.precision == "int8" for side in sides)
    checks = []
    for row in compare_outputs(
        candidate.name,
        images.name,
        expected,
        found,
        coarser(sides),
        powers,
        interface=opened.interface,
    ):
        floor = floor_between(sides, own_db.get(row.output), extreme)
        held = replace(row, reference=reference.name, kind=kind, floor_db=floor)
        checks.append(held.not_judged(NO_PHOTOS) if int8 and not images.natural else held)
    return checks


AT_ONCE = 32  # photos in a set, so that a row of a report says where among many the worst is


def make_inputs(
    opened: Run, sizes: tuple[int, ...], photos: PhotoFolder | None
) -> tuple[list[InputSet], list[str]]:
    """All sets of images, noise first, and why photos were left out.

    All are exact in the input of every graph of the run, so that all get the same images.
    """
    inputs = [opened.noise(size) for size in sizes]
    inputs += make_extremes(opened.images, opened.preprocessing, opened.config.image_size)
    if photos is None:
        return inputs, []
    loaded, problems = load_photos(photos, *opened.variant.view)
    images = opened.images.round(loaded.images)
    for start in range(0, len(images), AT_ONCE):
        part = images[start : start + AT_ONCE]
        name = f"photos {start + 1}-{start + len(part)}"
        inputs.append(InputSet(name, part, natural=True))
    return inputs, problems


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
