"""The eager network as a runner that pickles: it is built where it is entered."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from swin_deploy.batches import BatchRange
from swin_deploy.files import Recorded
from swin_deploy.metrics import FloatArray
from swin_deploy.networks import NetworkConfig
from swin_deploy.runners.base import Runner


class EagerRunner:
    """Runs a network as PyTorch has it, in FP32 on the CPU.

    Args:
        config: The network.
        path: Its weights; None for random ones.
        seed: Of those.
        threads: Of PyTorch, in the whole process.
    """

    name = "eager PyTorch fp32"

    def __init__(
        self, config: NetworkConfig, path: Path | Recorded | None, seed: int, threads: int
    ) -> None:
        self.config, self.path, self.seed, self.threads = config, path, seed, threads
        self._runner: Runner | None = None

    @property
    def batch(self) -> BatchRange:
        return BatchRange(low=1, high=4096)

    def __enter__(self) -> Self:
        import torch

        from swin_deploy.model.load import load_model
        from swin_deploy.runners.torch_eager import TorchRunner

        torch.set_num_threads(self.threads)
        self._runner = TorchRunner(load_model(self.config, self.path, self.seed)).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runner = None

    def prepare(self, images: FloatArray) -> FloatArray:
        """The images, as they are."""
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        """(b, channels, H, W) float32 -> "logits" (b, classes) float32."""
        if self._runner is None:
            raise RuntimeError("the runner was not entered")
        return self._runner.run(images)
