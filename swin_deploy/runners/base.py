"""The protocol of a runner, and how any number of images goes through a fixed batch."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from swin_deploy.batches import BatchRange
from swin_deploy.metrics import FloatArray

if TYPE_CHECKING:
    from typing import Self  # Python 3.11: devices have 3.10


class Runner(Protocol):
    """Runs one network. Touches its runtime between ``__enter__`` and ``__exit__`` only.

    Attributes:
        name: Runtime and precision, as tables show it.
        batch: The batch sizes that one call takes.
    """

    name: str

    @property
    def batch(self) -> BatchRange: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """(b, channels, H, W) float32, normalised -> the same images as ``run`` takes them.

        Raises:
            InputError: The network cannot take just these; see ``ImageInput``.
        """
        ...

    def run(self, images: NDArray[Any]) -> dict[str, FloatArray]:
        """What ``prepare`` gives, (b, ...) -> outputs by name, (b, ...) float32 each.

        A network gives "logits" (b, classes), or "stage1" (b, c, h, w) and so on, or what its
        ``Interface`` has in their place; of these "classes" are int64.

        Raises:
            ConfigError: The batch is outside ``batch``.
        """
        ...


def run_all(runner: Runner, images: FloatArray) -> dict[str, FloatArray]:
    """Run any number of images, in calls of at most the runner's largest batch.

    A last call that is short of the smallest batch is filled up with its own last image, whose
    extra outputs are dropped.

    Args:
        runner: To run.
        images: (b, channels, H, W) float32, normalised.
    """
    low, high = runner.batch.low, runner.batch.high
    parts = []
    for start in range(0, len(images), high):
        part = images[start : start + high]
        missing = max(0, low - len(part))
        if missing:
            part = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        wanted = len(part) - missing
        parts.append(
            {name: array[:wanted] for name, array in runner.run(runner.prepare(part)).items()}
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
