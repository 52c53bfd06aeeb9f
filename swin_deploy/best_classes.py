"""Whether the best classes that a network gives are those of the eager one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from swin_deploy.interface import CLASSES, SCORES
from swin_deploy.metrics import FloatArray, best, sqnr_db


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
