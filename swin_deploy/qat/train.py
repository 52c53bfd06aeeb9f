"""The training loop."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.errors import VerificationError
from swin_deploy.model.build import Network
from swin_deploy.qat.data import LabelledPhotos
from swin_deploy.qat.network import RoundedNetwork
from swin_deploy.qat.request import Training

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

        Raises:
            VerificationError: The loss is not finite: it ran, and the numbers are wrong.
            InputError: A photo cannot be read.
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
