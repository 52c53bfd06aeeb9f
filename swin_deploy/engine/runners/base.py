"""The protocol of a runner, and how any number of images goes through a fixed batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray

if TYPE_CHECKING:
    from typing import Self


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

    def __exit__(self, *error: object) -> None: ...

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


def batch_of(input_shape: tuple[int | str, ...]) -> BatchRange:
    """The batch of a file whose input is (b, ...): its own if it is static, else up to any size."""
    size = input_shape[0]
    if isinstance(size, int):
        return BatchRange(low=size, high=size)
    return BatchRange(low=1, high=4096)


def require_fit(
    path: Path, images: NDArray[Any], batch: BatchRange, shape: tuple[int | str, ...]
) -> None:
    """Refuse images before a runtime does, or worse, takes them for what they are not.

    Args:
        path: The file that is to run them, for the message.
        images: (b, ...).
        batch: What b may be.
        shape: Of one image, as the file has it.
    """
    if not batch.low <= len(images) <= batch.high:
        raise ConfigError(
            f"{path} takes a batch of {batch}, got {len(images)}",
            f"--batch {len(images)} at export",
        )
    if images.shape[1:] != shape:
        raise ConfigError(
            f"{path} takes images of {shape}, got {images.shape[1:]}",
            "the --variant or --config of that network",
        )


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
