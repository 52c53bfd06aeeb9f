"""PyTorch modules: the reference that everything else is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.core.records import reason_of
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray
from swin_deploy.network.model.build import output_names


class TorchRunner:
    """Runs a module as it is.

    Args:
        model: In eval mode; gives logits, or is a ``StageMaps``. Moved to ``device`` when the
            runner is entered.
        name: What tables call it.
        device: "cpu" or "cuda".
        dtype: Of its weights and images; None leaves both as they are.
        compiled: Through ``torch.compile``; each batch size is compiled at its first call.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str = "eager fp32",
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        self.model = model
        self.name = name
        self.device = device
        self.dtype = dtype
        self.compiled = compiled
        self._call: Callable[[Tensor], Any] = model
        self._compiled: Callable[[Tensor], Any] | None = None

    @property
    def batch(self) -> BatchRange:
        return BatchRange(low=1, high=4096)

    def __enter__(self) -> Self:
        self.model.to(self.device, self.dtype) if self.dtype else self.model.to(self.device)
        if self.compiled:
            self._compiled = self._compiled or torch.compile(self.model, dynamic=False)
            self._call = self._compiled
        return self

    def __exit__(self, *error: object) -> None:
        self._call = self.model

    def prepare(self, images: FloatArray) -> FloatArray:
        """The images, as they are."""
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        """(b, channels, H, W) float32 -> outputs by name, (b, ...) float32 each.

        Raises:
            EnvironmentMissingError: PyTorch cannot compile it here.
        """
        with torch.inference_mode():
            try:
                outputs = self._call(torch.from_numpy(images).to(self.device, self.dtype))
            except TorchDynamoException as error:
                raise EnvironmentMissingError(
                    f"torch.compile does not compile {self.name} here: {reason_of(error)}",
                    "a C++ compiler, and an environment whose path has no space",
                ) from error
            tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
            names = output_names(self.model)
            return {n: x.float().cpu().numpy() for n, x in zip(names, tensors, strict=True)}
