"""What a network says of some images, in the words of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swin_deploy.interface import CLASSES, LOGITS, PROBABILITIES, SCORES, Head, Interface
from swin_deploy.metrics import FloatArray, softmax
from swin_deploy.narrow import present


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The best k classes of each of b images.

    Attributes:
        classes: (b, k) int64, best first.
        scores: (b, k) float32: probabilities, 0 to 1, where ``probabilities``; else logits, of a
            graph that gives only its best logits, or whose outputs are no classes.
        labels: Names of the classes, likewise; their numbers where names are not known.
        names: Of the images: paths; None of images that came without.
        logits: (b, classes) float32, where the graph gives them.
        probabilities: What ``scores`` are.
    """

    classes: NDArray[np.int64]
    scores: FloatArray
    labels: tuple[tuple[str, ...], ...]
    names: tuple[str | None, ...]
    logits: FloatArray | None
    probabilities: bool

    def __len__(self) -> int:
        return len(self.classes)


def to_prediction(
    outputs: Mapping[str, FloatArray],
    interface: Interface,
    labels: Sequence[str],
    names: Sequence[str | None],
    k: int,
) -> Prediction:
    """Read the outputs of a graph.

    Args:
        outputs: By name, (b, ...) each: "logits", "probabilities", or "scores" and "classes".
        interface: Of the graph.
        labels: Names of the classes by index; empty where they are not known.
        names: Of the images.
        k: At most so many classes.
    """
    logits = outputs.get(LOGITS)
    if SCORES in outputs:
        classes, scores = outputs[CLASSES][:, :k].astype(np.int64), outputs[SCORES][:, :k]
        probabilities = interface.softmax
    else:
        every, probabilities = outputs.get(PROBABILITIES), True
        if logits is not None:
            every, probabilities = _read(logits, interface.head)
        every = present(every)  # one of the two is what a graph without scores gives
        classes = np.argsort(-every, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(every, classes, axis=1).astype(np.float32)
    return Prediction(
        classes=classes,
        scores=scores,
        labels=tuple(tuple(labels[c] if labels else str(c) for c in row) for row in classes),
        names=tuple(names),
        logits=logits,
        probabilities=probabilities,
    )


def _read(logits: FloatArray, head: Head) -> tuple[FloatArray, bool]:
    """What logits say, and whether that is probabilities."""
    if head == "independent":
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80))), True
    if head == "values" or logits.shape[1] == 1:  # a softmax of one output is 1, whatever it is
        return logits, False
    return softmax(logits), True
