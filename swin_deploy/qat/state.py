"""Where a fine-tuning has come to, on the disk, so that a killed one goes on with its epoch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from swin_deploy.errors import FileAccessError, InputError
from swin_deploy.files import atomic_path
from swin_deploy.foreign import reading
from swin_deploy.qat.train import Trainer

_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


def save_state(path: Path, identity: str, trainer: Trainer, losses: list[float]) -> None:
    """Write parameters and optimiser after some epochs, atomically.

    Args:
        path: Replaced if it exists.
        identity: Digest of all that the training depends on.
        trainer: After them.
        losses: Of the finished epochs.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainer.network.model.named_parameters():
        tensors[f"parameter.{name}"] = parameter.detach()
        moments = trainer.optimizer.state[parameter]
        tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
    with atomic_path(path) as scratch:
        save_file(tensors, scratch, {"identity": identity, "losses": json.dumps(losses)})


def restore_state(
    path: Path, identity: str, trainer: Trainer, note: Callable[[str], None]
) -> list[float]:
    """Bring ``trainer`` to where ``path`` says; returns the losses of the finished epochs.

    Args:
        path: As ``save_state`` writes it, or anything else.
        identity: What it has to be of.
        trainer: Changed only if all of it can be.
        note: Is told why a file does not count.
    """
    if not path.exists():
        return []
    parameters = dict(trainer.network.model.named_parameters())
    wanted = {f"{kind}.{name}" for kind in ("parameter", *_MOMENTS) for name in parameters}
    try:
        with reading(path, "a state of a training"), safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("identity") != identity:
                note(f"{path} is of another training: starting again")
                return []
            if set(file.keys()) != wanted:
                raise ValueError("its tensors are not those of the network")
            losses = [float(loss) for loss in json.loads(facts["losses"])]
            tensors = {name: file.get_tensor(name) for name in wanted}
    except (InputError, FileAccessError) as error:
        note(f"{path} cannot be used ({error.problem}): starting again")
        return []
    steps = torch.tensor(float(len(losses) * trainer.steps))
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter.{name}"])
        moments = {moment: tensors[f"{moment}.{name}"] for moment in _MOMENTS}
        trainer.optimizer.state[parameter] = {"step": steps.clone(), **moments}
    return losses
