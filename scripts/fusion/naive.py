"""The libraries' own models as a user would export them: ``.half()`` and ``torch.onnx.export``."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fusion.rows import CIFAR, Row, from_tests
from swin_deploy.network.model.build import build_model
from swin_deploy.network.swin import SwinConfig


class LogitsOf(nn.Module):
    """A model of transformers, which answers with an object, as one that answers with logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image).logits  # type: ignore[no-any-return]


def timm_model(row: Row) -> nn.Module:
    """timm's; of a network that timm has no name for, its class built from our config."""
    if row.network == CIFAR:
        return holding_ours(row.config, build_model(row.config))
    return from_tests("libraries").timm_model(row.config)  # type: ignore[no-any-return]


def torchvision_model(row: Row) -> nn.Module:
    """torchvision's, which pads to whatever the image needs."""
    return from_tests("libraries").torchvision_model(row.config)  # type: ignore[no-any-return]


def transformers_model(row: Row) -> nn.Module:
    """That of transformers."""
    return LogitsOf(from_tests("libraries").hugging_face_model(row.config))


MAKERS: dict[str, Callable[[Row], nn.Module]] = {
    "timm": timm_model,
    "torchvision": torchvision_model,
    "transformers": transformers_model,
}


def holding_ours(config: SwinConfig, model: nn.Module) -> nn.Module:
    """Timm's network of the same architecture with the weights of ours."""
    if config.version == 1:
        return from_tests("timm_models").build_timm(config, model)  # type: ignore[no-any-return]
    network = from_tests("libraries").timm_model(config)
    rename = from_tests("timm_models").parameter_name
    weights = {rename(name): value for name, value in model.named_parameters()}
    wanted = {name for name, _ in network.named_parameters()}
    if differing := wanted ^ set(weights):  # buffers are computed, not trained
        raise RuntimeError(f"timm's network has other weights: {sorted(differing)}")
    network.load_state_dict(weights, strict=False)
    return network  # type: ignore[no-any-return]
