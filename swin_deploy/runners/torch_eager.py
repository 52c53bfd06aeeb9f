"""PyTorch modules: the reference that everything else is compared with."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from swin_deploy.batches import BatchRange
from swin_deploy.metrics import FloatArray
from swin_deploy.model.outputs import output_names


class TorchRunner:
    """Runs a module as it is, in FP32.

    Args:
        model: In eval mode; gives logits, or is a ``StageMaps``. Moved to ``device`` when the
            runner is entered.
        name: What tables call it.
        device: "cpu" or "cuda".
    """

    def __init__(self, model: nn.Module, name: str = "eager fp32", device: str = "cpu") -> None:
        self.model = model
        self.name = name
        self.device = device

    @property
    def batch(self) -> BatchRange:
        return BatchRange(low=1, high=4096)

    def __enter__(self) -> Self:
        self.model.to(self.device)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def prepare(self, images: FloatArray) -> FloatArray:
        """The images, as they are."""
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        """(b, channels, H, W) float32 -> outputs by name, (b, ...) float32 each."""
        with torch.inference_mode():
            outputs = self.model(torch.from_numpy(images).to(self.device))
            tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
            names = output_names(self.model)
            return {name: x.cpu().numpy() for name, x in zip(names, tensors, strict=True)}
