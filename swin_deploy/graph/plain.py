"""PyTorch's exporter and nothing else: what ours is measured against."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swin_deploy.batches import BatchRange
from swin_deploy.graph.export import OPSET, quiet_exporter
from swin_deploy.networks import NetworkConfig


class Halved(nn.Module):
    """A network after ``.half()`` with FP32 images and outputs, as our FP16 graphs have them.

    Attributes:
        image_dtype: What it takes, where its weights would say otherwise.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.image_dtype = network.half(), torch.float32

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(b, channels, H, W) float32 -> what the network gives, float32."""
        outputs = self.network(image.half())
        if isinstance(outputs, Tensor):
            return outputs.float()
        return tuple(output.float() for output in outputs)


def export_plainly(
    model: nn.Module,
    config: NetworkConfig,
    batch: BatchRange,
    path: Path,
    opset: int = OPSET,
    outputs: Sequence[str] | None = None,
) -> None:
    """Write ``model`` to ``path`` as a user would without this package.

    Args:
        model: On the CPU. Takes images of its attribute ``image_dtype``, or else of the dtype of
            its weights.
        config: The size of its images.
        batch: Static or dynamic.
        path: Gets the graph, weights embedded.
        opset: Of the graph.
        outputs: Names of its outputs, beside ``image``; None for what the exporter calls them all.
    """
    dtype = getattr(model, "image_dtype", next(model.parameters()).dtype)
    example = torch.zeros(batch.high, config.in_channels, *config.image_size, dtype=dtype)
    options: dict[str, Any] = {}
    if not batch.static:
        sizes = torch.export.Dim("batch", min=batch.low, max=batch.high)
        options["dynamic_shapes"] = ({0: sizes},)
    if outputs is not None:
        options |= {"input_names": ["image"], "output_names": list(outputs)}
    with quiet_exporter():
        warnings.simplefilter("ignore")  # of the exporter, about networks that are not ours
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=True,
            opset_version=opset,
            external_data=False,
            verbose=False,
            **options,
        )
