"""The training loop, the labelled photos that it learns from, and the accuracy of graphs."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.core.errors import VerificationError
from swin_deploy.data.images import load_photo
from swin_deploy.data.labelled import Classes, LabelledSet, find_labelled
from swin_deploy.data.samples import folder_of
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.interface import LOGITS
from swin_deploy.network.judge import FloatArray, wilson_interval
from swin_deploy.network.model.build import Network
from swin_deploy.pipeline.qat.network import RoundedNetwork
from swin_deploy.pipeline.qat.request import Training


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """Photos and their classes, as a network takes them.

    Attributes:
        found: What lies there.
        variant: The network, which has size and preprocessing.
    """

    found: LabelledSet
    variant: Variant

    def __len__(self) -> int:
        return len(self.found.labels)

    @property
    def hashes(self) -> set[str]:
        """SHA-256 of the photos."""
        return {image.sha256 for image in self.found.sample.images}

    def identity(self) -> dict[str, Any]:
        """All that the tensors of ``read`` depend on, JSON-able."""
        return self.found.identity(*self.variant.view)

    def read(self, order: Sequence[int], batch: int) -> Iterator[tuple[FloatArray, Classes]]:
        """The photos at ``order``: (b, channels, H, W) float32 and (b,), the last maybe fewer.

        Several are decoded at a time, at most two batches before they are asked for.

        Raises:
            InputError: One cannot be read. Training does not leave photos out: what it gives would
                depend on which.
        """
        sample, labels, rest = self.found.sample, self.found.labels, iter(order)
        folder, view = folder_of(sample.source), self.variant.view
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            waiting: list[tuple[list[int], list[Future[FloatArray]]]] = []
            try:
                while True:
                    while len(waiting) < 2 and (rows := list(islice(rest, batch))):
                        paths = [folder / sample.images[row].name for row in rows]
                        jobs = [pool.submit(load_photo, path, *view) for path in paths]
                        waiting.append((rows, jobs))
                    if not waiting:
                        return
                    rows, images = waiting.pop(0)
                    pixels = np.stack([image.result() for image in images])
                    yield pixels, np.array([labels[row] for row in rows], dtype=np.int64)
            finally:
                pool.shutdown(cancel_futures=True)


def find_labelled_photos(
    source: Path, variant: Variant, names: Sequence[str] = ()
) -> LabelledPhotos:
    """The labelled photos of a source; arguments and errors as of ``find_labelled``."""
    return LabelledPhotos(find_labelled(source, variant.config.num_classes, names), variant)


_LONGEST_GRADIENT = 1.0
_NOT_DECAYED = ("bias_table", "pos_embed", "cls_token", "logit_scale")


class Trainer:
    """Trains the parameters of a network, seen through the rounding of its INT8 graph.

    Args:
        network: Whose model is trained.
        teacher: The network as it was, whose logits are learnt from; None to learn from labels.
        data: What is learnt.
        settings: How.
    """

    def __init__(
        self,
        network: RoundedNetwork,
        teacher: Network | None,
        data: LabelledPhotos,
        settings: Training,
    ) -> None:
        self.network, self.teacher = network, teacher
        self.data, self.settings = data, settings
        self.optimizer = make_optimizer(network.model, settings)
        self.steps = math.ceil(len(data) / settings.batch)

    def train_epoch(self, epoch: int, progress: Callable[[int], None]) -> float:
        """Once through all images; the mean loss.

        Args:
            epoch: From 0 on. Order and learning rate depend on it, and on nothing before.
            progress: Is told how many images are done.
        """
        total, done = 0.0, 0
        order = shuffled(len(self.data), self.settings.seed, epoch)
        with _deterministic():
            batches = self.data.read(order, self.settings.batch)
            for step, (images, labels) in enumerate(batches, start=epoch * self.steps):
                share = step / (self.settings.epochs * self.steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.settings.rate * (0.5 + 0.5 * math.cos(math.pi * share))
                loss = self._step(torch.from_numpy(images), torch.from_numpy(labels))
                if not math.isfinite(loss):
                    raise VerificationError(
                        f"the loss is {loss} in step {step + 1 - epoch * self.steps} of "
                        f"{self.steps} of epoch {epoch + 1}",
                        f"a learning rate below {self.settings.rate:g}: --lr",
                    )
                total, done = total + loss * len(labels), done + len(labels)
                progress(done)
        return total / done

    def _step(self, images: Tensor, labels: Tensor) -> float:
        logits = self.network(images)
        loss = F.cross_entropy(logits, labels)
        if self.teacher is not None:
            with torch.no_grad():
                target = self.teacher(images).log_softmax(dim=1)
            given = logits.log_softmax(dim=1)
            loss = (loss + F.kl_div(given, target, log_target=True, reduction="batchmean")) / 2
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.model.parameters(), _LONGEST_GRADIENT)
        self.optimizer.step()
        return loss.item()


def make_optimizer(model: Network, settings: Training) -> torch.optim.AdamW:
    """AdamW over all parameters; only matrices decay, not norms, biases and positions."""
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith(_NOT_DECAYED)
        (matrices if decays else rest).append(parameter)
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.decay)


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The order of ``count`` images in an epoch, the same for the same arguments."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{epoch}".encode()))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


@contextmanager
def _deterministic() -> Iterator[None]:
    """Sums in an order that does not depend on the threads, so that a seed decides everything."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


_AT_A_TIME = 64


def measure_accuracy(graph: Path, photos: LabelledPhotos, simulated: bool) -> dict[str, Any]:
    """Top-1 of an ONNX file on ONNX Runtime, with its 95 % interval; shares are 0 to 1.

    Args:
        graph: The file.
        photos: To classify.
        simulated: As ``simulated_int8`` of ``OnnxRuntimeRunner``.
    """
    right = 0
    with OnnxRuntimeRunner(graph, simulated_int8=simulated) as runner:
        for images, labels in photos.read(range(len(photos)), _AT_A_TIME):
            guesses = run_all(runner, images)[LOGITS].argmax(axis=1)
            right += int((guesses == labels).sum())
    return {
        "right": right,
        "images": len(photos),
        "top1": right / len(photos),
        "interval": list(wilson_interval(right, len(photos))),
    }
