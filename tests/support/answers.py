"""A runner that knows its answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from swin_deploy.measure.verify.outputs import Outputs
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray


class Answers:
    """A runner with ready answers: one for a single image, another for a batch of two."""

    name = "answers"

    def __init__(self, alone: Outputs, together: Outputs | None = None) -> None:
        self.alone, self.together = alone, alone if together is None else together
        self.batch = BatchRange(low=1, high=2)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def prepare(self, images: FloatArray) -> FloatArray:
        return images

    def run(self, images: Any) -> Outputs:
        return self.alone if len(images) == 1 else self.together


REFERENCE = np.random.default_rng(0).standard_normal((1, 10)).astype(np.float64)
