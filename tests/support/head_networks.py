"""Networks of real libraries with the heads that tutorials give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from libraries import randomise, transformers
from small_timm import SMALL, small_timm
from swin_deploy.network.checkpoints.options import LoadOptions
from timm_models import import_timm

C = SMALL["embed_dim"] << (len(SMALL["depths"]) - 1)  # channels of the last stage
CLASSES = 5


class Beside(nn.Module):
    """A backbone that pools, and modules that stand beside it, one after the other."""

    def __init__(self, backbone: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        for name, module in others.items():
            self.add_module(name, module)
        self.order = tuple(others)

    def forward(self, image: Tensor) -> Tensor:
        x = self.backbone(image)
        for name in self.order:
            x = getattr(self, name)(x)
        return x


class Pooled(nn.Module):
    """What transformers' SwinModel calls its pooler_output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image).pooler_output  # type: ignore[no-any-return]


def timm_head(head: nn.Module) -> nn.Module:
    network = small_timm()
    network.head.fc = head  # type: ignore[union-attr]
    return network


def torchvision_head(head: nn.Module) -> nn.Module:
    import_timm()
    from torchvision.models import SwinTransformer

    network = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=16,
        depths=[2, 2, 2],
        num_heads=[1, 2, 4],
        window_size=[4, 4],
        num_classes=CLASSES,
    )
    network.head = head
    return network


def hugging_face(kind: str) -> Any:
    with transformers() as library:
        config = library.SwinConfig(
            image_size=64,
            embed_dim=16,
            depths=[2, 2, 2],
            num_heads=[1, 2, 4],
            window_size=4,
            num_labels=CLASSES,
        )
        return getattr(library, kind)(config)


class HuggingFace(nn.Module):
    """A classifier of transformers that gives a tensor, and saves its own names."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.model = hugging_face("SwinForImageClassification")
        self.model.classifier = head

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image).logits  # type: ignore[no-any-return]


def backbone(**arguments: Any) -> nn.Module:
    return small_timm(**{"num_classes": 0} | arguments)


def one() -> nn.Module:
    return nn.Linear(C, CLASSES)


def dropped() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.3), nn.Linear(C, CLASSES))


def two(function: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Linear(C, 32), function(), nn.Dropout(0.2), nn.Linear(32, CLASSES))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(C, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, CLASSES))


def normed_twice() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm1d(C),
        nn.Linear(C, C, bias=False),
        nn.ReLU(),
        nn.BatchNorm1d(C),
        nn.Linear(C, CLASSES),
    )


def fill(network: nn.Module) -> nn.Module:
    """Random numbers in everything, running means and variances too."""
    randomise(network)
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.data.add_(1)
            module.running_mean = torch.randn(module.num_features, generator=generator)
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
    return network


RELU = LoadOptions(head_activation="relu")
# Name -> network, what is said of it, and what the notes call its head; None where it is its own.
KNOWN: dict[str, tuple[Callable[[], nn.Module], LoadOptions, str | None]] = {
    "timm, dropout": (lambda: timm_head(dropped()), LoadOptions(), "head.fc.1"),
    "timm, two layers": (lambda: timm_head(two()), RELU, "head.fc"),
    "timm, batch norm": (lambda: timm_head(normed()), RELU, "head.fc"),
    "timm, two norms": (lambda: timm_head(normed_twice()), RELU, "head.fc"),
    "timm, no bias": (
        lambda: timm_head(nn.Sequential(nn.Linear(C, CLASSES, bias=False))),
        LoadOptions(),
        "head.fc.0",
    ),
    "timm, nothing between": (
        lambda: timm_head(nn.Sequential(nn.Linear(C, 32), nn.Linear(32, CLASSES))),
        LoadOptions(head_activation="none"),
        "head.fc",
    ),
    "timm, three layers": (
        lambda: timm_head(
            nn.Sequential(
                *(nn.Linear(C, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh()), nn.Linear(16, CLASSES)
            )
        ),
        LoadOptions(head_activation="tanh"),
        "head.fc",
    ),
    "timm, beside": (lambda: Beside(backbone(), fc=one()), LoadOptions(), "fc"),
    "timm, dropout beside": (
        lambda: Beside(backbone(), cls_head=dropped()),
        LoadOptions(),
        "cls_head.1",
    ),
    "timm, two layers beside": (
        lambda: Beside(backbone(), classifier=two(nn.GELU)),
        LoadOptions(head_activation="gelu"),
        "classifier",
    ),
    "timm, in a Sequential": (
        lambda: nn.Sequential(backbone(), nn.Dropout(), one()),
        LoadOptions(),
        "2",
    ),
    "timm, two in a Sequential": (
        lambda: nn.Sequential(backbone(), nn.Linear(C, 32), nn.SiLU(), nn.Linear(32, CLASSES)),
        LoadOptions(head_activation="silu"),
        "1,3",
    ),
    "timm, fc1 and fc2": (
        lambda: Beside(backbone(), fc1=nn.Linear(C, 32), act=nn.ReLU(), fc2=nn.Linear(32, CLASSES)),
        LoadOptions(head="fc1,fc2", head_activation="relu"),
        "fc1,fc2",
    ),
    "timm, a layer behind its head": (
        lambda: Beside(backbone(num_classes=40), fc=nn.Linear(40, CLASSES)),
        LoadOptions(head="backbone.head.fc,fc", head_activation="none"),
        "backbone.head.fc,fc",
    ),
    "torchvision, dropout": (lambda: torchvision_head(dropped()), LoadOptions(), "head.1"),
    "torchvision, two layers": (lambda: torchvision_head(two()), RELU, "head"),
    "torchvision, batch norm": (lambda: torchvision_head(normed()), RELU, "head"),
    "torchvision, beside": (
        lambda: Beside(torchvision_head(nn.Identity()), fc=one()),
        LoadOptions(),
        "fc",
    ),
    "transformers, dropout": (lambda: HuggingFace(dropped()), LoadOptions(), "model.classifier.1"),
    "transformers, two layers": (lambda: HuggingFace(two()), RELU, "model.classifier"),
    "transformers, beside": (
        lambda: Beside(Pooled(hugging_face("SwinModel")), head=one()),
        LoadOptions(),
        "head",
    ),
}
