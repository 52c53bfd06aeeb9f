"""The gate: the same inputs, extremes too, through the eager network and all made from it.

Black and flat frames, saturated channels, and values far outside of what normalised photos have:
where a graph divides by a spread that is zero, or selects by a threshold, noise and photos show
nothing. Every gate has them: ``export``, ``verify`` and the build on a device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import present
from swin_deploy.data.bands import normalise
from swin_deploy.data.images import ImageInput, InputSet, make_noise
from swin_deploy.engine.runners.base import Runner, run_all
from swin_deploy.measure.verify.comparison import EXTREMES, NO_PHOTOS, Comparison, names_extreme
from swin_deploy.network.interface import (
    AS_EXPORTED,
    CLASSES,
    LOGITS,
    PROBABILITIES,
    SCORES,
    Interface,
    Precision,
    Preprocessing,
    Size,
)
from swin_deploy.network.judge import (
    FLOORS,
    FLOORS_DB,
    FloatArray,
    activated,
    best,
    difference,
    powers_of,
    sqnr_db,
    top1_agreement,
)


def problem_of_classes(outputs: Mapping[str, FloatArray], every: FloatArray, topk: int) -> str:
    """Why these cannot be scores and classes, whatever the network; "" if they can.

    Args:
        outputs: "scores" (b, topk) and "classes" (b, topk), integers; nothing else.
        every: The eager network's values of all classes, (b, classes).
        topk: How many were asked for.
    """
    if missing := {SCORES, CLASSES} - outputs.keys():
        return f"it has no output {', '.join(sorted(missing))}"
    if other := outputs.keys() - {SCORES, CLASSES}:
        return f"it has another output, {', '.join(sorted(other))}"
    scores, classes = outputs[SCORES], outputs[CLASSES]
    wanted = len(every), topk
    if not scores.shape == classes.shape == wanted:
        return f"scores {scores.shape} and classes {classes.shape}, expected {wanted}"
    if not np.issubdtype(classes.dtype, np.integer):
        return f"classes are {classes.dtype}"
    if classes.min() < 0 or classes.max() >= every.shape[1]:
        return f"classes from {classes.min()} to {classes.max()}, there are {every.shape[1]}"
    if any(len(set(row)) < len(row) for row in classes.tolist()):
        return "a class is named twice for one image"
    if not (np.diff(scores, axis=1) <= 0).all():
        return "the scores do not descend"
    if not np.isfinite(every).all():  # of classes that are not among the best, too
        return "the reference itself gives NaN or infinity"
    return ""


def worst_of_classes(
    scores: FloatArray, classes: FloatArray, every: FloatArray, power: float | None = None
) -> tuple[FloatArray, float]:
    """What the scores have to be compared with: of two references, the one that is further off.

    The eager network's own values of the classes that were named show that each score belongs to
    its class; its own best values show that none better was left out. The order of classes with
    equal values may differ.

    Args:
        scores: (b, k).
        classes: (b, k), all in range.
        every: The eager network's values of all classes, (b, classes).
        power: ``mean_power`` of its best values over more images than these; None for these.

    Returns:
        The reference (b, k), and the share of images, 0 to 1, whose first class is the eager one.
    """
    named = np.take_along_axis(every, classes.astype(np.int64), axis=1)
    agreement = float((classes[:, 0] == every.argmax(axis=1)).mean())
    references = (named, best(every, scores.shape[1]))
    return min(references, key=lambda reference: sqnr_db(reference, scores, power)), agreement


SPIKE = 10.0  # standard deviations; pixels of photos are within 3


def is_extreme(images: InputSet) -> bool:
    """Whether a set is one of ``make_extremes``, by its name: also one that was saved."""
    return names_extreme(images.name)


def make_extremes(taken: ImageInput, preprocessing: Preprocessing, size: Size) -> list[InputSet]:
    """Sets of images, the same for the same arguments, (b, channels, H, W) float32 each.

    Black; white; grey; every channel alone at 255 and alone at 0; pixels at 0 and 255 in turn;
    uniform noise of pixels. Graphs that do not take pixels get normal noise with some values of
    ``SPIKE`` as well, which no pixel becomes.

    Args:
        taken: What the graphs take; the images are exact in it.
        preprocessing: Whose mean and std pixels are normalised with, one each per channel.
        size: Of the images.
    """
    (h, w), c = size, len(preprocessing.mean)
    flat = np.zeros((1, h, w, c), np.uint8)
    saturated = np.zeros((2 * c, h, w, c), np.uint8)
    for channel in range(c):
        saturated[channel, ..., channel] = 255
        saturated[c + channel] = 255
        saturated[c + channel, ..., channel] = 0
    rows, columns = np.indices((h, w))
    board = ((rows + columns) % 2 * 255).astype(np.uint8)
    pixels: tuple[NDArray[np.uint8], ...] = (
        flat,
        flat + np.uint8(255),
        flat + np.uint8(128),
        saturated,
        np.repeat(board[None, ..., None], c, axis=3),
        np.random.default_rng((c, h, w)).integers(0, 256, (2, h, w, c), dtype=np.uint8),
    )
    images = [normalise(some, preprocessing.mean, preprocessing.std) for some in pixels]
    if taken.io != "uint8":
        images.append(_with_spikes(make_noise(2, c, size).images))
    return [
        InputSet(f"{name} x{len(some)}", taken.round(some))
        for name, some in zip(EXTREMES, images, strict=False)
    ]


def _with_spikes(noise: FloatArray) -> FloatArray:
    """One value in a hundred, far up in the first image and far down in the others."""
    flat = noise.reshape(len(noise), -1).copy()
    flat[0, ::100], flat[1:, ::100] = SPIKE, -SPIKE
    return flat.reshape(noise.shape)


def takes_part(precision: Precision, images: InputSet) -> bool:
    """Whether a precision is compared on a set: INT8 not on noise, which its ranges are not of."""
    if images.only and precision not in images.only:
        return False
    return precision != "int8" or images.natural or is_extreme(images)


def hold(rows: Iterable[Comparison], precision: Precision) -> list[Comparison]:
    """Comparisons on extremes by the floors of those; INT8 has to be finite there, no more."""
    if precision == "int8":
        return [row.not_judged(NO_PHOTOS) for row in rows]
    return [replace(row, floor_db=FLOORS["extreme"][precision]) for row in rows]


Outputs = Mapping[str, FloatArray]  # of one set of images, by name


def compare(
    candidate: str,
    inputs: str,
    reference: FloatArray | None,
    outputs: FloatArray | None,
    precision: Precision,
    output: str = LOGITS,
    signal_power: float | None = None,
) -> Comparison:
    """Compare one output of two networks for the same inputs.

    Args:
        candidate: Name for the tables.
        inputs: Name for the tables.
        reference: (b, ...), of the eager network; None if it has no such output.
        outputs: Of the candidate; None likewise.
        precision: Selects the floor; FP32 has to name the same classes as well.
        output: Which one; logits (b, classes) name a class per image, other outputs do not.
        signal_power: ``mean_power`` of the eager outputs over all images of the verification, of
            which these may be few; None for these.
    """
    numbers = difference(reference, outputs, signal_power)
    agreement = None
    if output in (LOGITS, PROBABILITIES) and not numbers.problem:
        agreement = top1_agreement(present(reference), present(outputs))  # or a problem
    return Comparison(
        candidate=candidate,
        inputs=inputs,
        output=output,
        precision=precision,
        floor_db=FLOORS_DB[precision],
        top1_agreement=agreement,
        **asdict(numbers),
    )


def compare_outputs(
    candidate: str,
    inputs: str,
    reference: Outputs,
    outputs: Outputs,
    precision: Precision,
    signal_powers: Mapping[str, float] | None = None,
    interface: Interface = AS_EXPORTED,
) -> list[Comparison]:
    """``compare`` for every output by name; one that only one of the two has is a failure.

    Where the reference gives logits and the candidate does not, it has to give what ``interface``
    makes of them. Where both name the best classes alone, their scores are compared, and how often
    the first class is the same.
    """
    powers, agreement = signal_powers or {}, None
    if CLASSES in reference and CLASSES in outputs:
        named, found = reference[CLASSES], outputs[CLASSES]
        if named.shape != found.shape:
            problem = f"classes of shape {found.shape}, expected {named.shape}"
            return [_without_numbers(candidate, inputs, precision, problem)]
        agreement = float((named[:, 0] == found[:, 0]).mean())
        reference, outputs = (
            {name: array for name, array in side.items() if name != CLASSES}
            for side in (reference, outputs)
        )
    elif LOGITS in reference and LOGITS not in outputs:
        every = activated(reference[LOGITS], interface.activation)
        reference = {PROBABILITIES if interface.probabilities else LOGITS: every}
        if interface.topk is not None:
            if problem := problem_of_classes(outputs, every, interface.topk):
                return [_without_numbers(candidate, inputs, precision, problem)]
            best, agreement = worst_of_classes(
                outputs[SCORES], outputs[CLASSES], every, powers.get(SCORES)
            )
            reference, outputs = {SCORES: best}, {SCORES: outputs[SCORES]}
    rows = [
        compare(
            candidate, inputs, reference.get(name), outputs.get(name), precision, name,
            powers.get(name),
        )
        for name in dict.fromkeys((*reference, *outputs))
    ]  # fmt: skip
    return rows if agreement is None else [replace(r, top1_agreement=agreement) for r in rows]


def _without_numbers(candidate: str, inputs: str, precision: Precision, problem: str) -> Comparison:
    """The row of scores that cannot be compared."""
    row = compare(candidate, inputs, None, None, precision, SCORES)
    return replace(row, problem=problem)


def compare_runners(
    reference: Runner,
    candidates: Iterable[tuple[Runner, Precision]],
    inputs: Sequence[InputSet],
    interface: Interface = AS_EXPORTED,
) -> tuple[Comparison, ...]:
    """Compare every candidate with the reference on every set of inputs, output by output.

    One candidate is open at a time, so that large networks do not pile up in memory.

    Args:
        reference: The eager network.
        candidates: With the precision that selects the floor.
        inputs: Images.
        interface: What candidates give that do not give the outputs of the reference.
    """
    with reference:
        expected = [run_all(reference, images.images) for images in inputs]
    powers = powers_of(expected, interface)
    comparisons: list[Comparison] = []
    for runner, precision in candidates:
        with runner:
            for images, arrays in zip(inputs, expected, strict=True):
                if not takes_part(precision, images):
                    continue
                outputs = run_all(runner, images.images)
                rows = compare_outputs(
                    runner.name,
                    images.name,
                    arrays,
                    outputs,
                    precision,
                    powers,
                    interface=interface,
                )
                comparisons += hold(rows, precision) if is_extreme(images) else rows
    return tuple(comparisons)
