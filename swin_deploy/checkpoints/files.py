"""A file -> named tensors, without running anything that the file says."""

from __future__ import annotations

import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from swin_deploy.errors import InputError, UnsafeError
from swin_deploy.files import refuse_impostors

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder

# Containers in which checkpoints wrap their tensors, outermost first, and those of the exponential
# moving average of the same weights, which many recipes evaluate.
CONTAINERS = ("model", "state_dict", "model_state_dict", "module")
AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")


@dataclass(frozen=True, slots=True)
class RawCheckpoint:
    """The tensors of a file.

    Attributes:
        tensors: By the names that the file gives them.
        opened: The containers around them, outermost first.
        left: Another container with weights of the same network, that was not asked for.
    """

    tensors: dict[str, Tensor]
    opened: tuple[str, ...]
    left: str = ""


def read_tensors(path: Path, ema: bool = False) -> RawCheckpoint:
    """All tensors of a checkpoint.

    Args:
        path: ``.safetensors``, a PyTorch archive, or a folder with one of ``FOLDER_FILES``.
        ema: Take the exponential moving average of the weights.

    Raises:
        InputError: The file is missing, damaged, or no checkpoint, or holds no average.
        UnsafeError: Reading it would run code; names what it asks for.
    """
    path = checkpoint_file(path)
    refuse_impostors(path, "a checkpoint")
    if path.suffix not in (".safetensors", *PICKLED):
        raise InputError(
            f"{path} has the suffix {path.suffix!r}", f"one of .safetensors, {', '.join(PICKLED)}"
        )
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    opened, left = [], ""
    containers = (*AVERAGES, *CONTAINERS) if ema else (*CONTAINERS, *AVERAGES)
    while (name := _container_of(content, containers)) is not None:
        others = AVERAGES if name in CONTAINERS else CONTAINERS
        left = left or (_container_of(content, others) or "")
        content = content[name]
        opened.append(name)
    if ema and not {*opened} & {*AVERAGES}:
        raise InputError(
            f"{path} holds no average of its weights: none of {', '.join(AVERAGES)}",
            "leave --ema out",
        )
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(content)[:5]))
        raise InputError(f"{path} holds no tensors, only: {keys or 'nothing'}")
    return RawCheckpoint(tensors, tuple(opened), left)


def checkpoint_file(path: Path) -> Path:
    """The file itself, of a file or a folder.

    Raises:
        InputError: A folder without a checkpoint.
    """
    if not path.is_dir():
        return path
    for name in FOLDER_FILES:
        if (path / name).is_file():
            return path / name
    raise InputError(f"{path} holds none of {', '.join(FOLDER_FILES)}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is damaged: {error}", "download it again") from error


def _read_torch(path: Path) -> Any:
    """Read a PyTorch archive, tensors and plain containers only."""
    zipped = zipfile.is_zipfile(path)
    if zipped:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                broken = archive.testzip()  # PyTorch itself does not compare checksums
        except zipfile.BadZipFile as error:
            raise InputError(f"{path} is damaged: {error}", "download it again") from error
        if broken is not None:
            raise InputError(f"{path} is damaged in {broken}", "download it again")
        if any(name.endswith("/constants.pkl") for name in names):
            raise InputError(
                f"{path} is a TorchScript program, not a checkpoint", "its state_dict, saved"
            )
    try:
        with torch.serialization.safe_globals(_inert_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refusal(path, zipped, error) from error
    except (RuntimeError, EOFError, ValueError, KeyError, UnicodeDecodeError) as error:
        reason = str(error).partition(". ")[0]  # the rest is PyTorch's advice to itself
        raise InputError(
            f"{path} is not a complete PyTorch archive: {reason}", "download it again"
        ) from error


def _refusal(path: Path, zipped: bool, error: pickle.UnpicklingError) -> Exception:
    """Told apart by what the archive asks for: code, or nothing that makes sense."""
    try:
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, pickle.UnpicklingError):
        asked = []
    asked = asked or re.findall(r"GLOBAL (\S+)", str(error))  # a bare pickle cannot be listed
    if asked:
        return UnsafeError(
            f"{path} would run code to be read: {', '.join(asked)}",
            "save its tensors alone, as safetensors",
        )
    return InputError(f"{path} is not a PyTorch checkpoint: {str(error).splitlines()[0]}")


class InertConfig(dict[str, Any]):
    """Stands in for the training configuration that the authors' checkpoints carry."""


def _inert_globals() -> list[Any]:
    return [(InertConfig, "yacs.config.CfgNode"), Namespace]


def _container_of(content: Any, names: Iterable[str]) -> str | None:
    """The one of ``names`` under which tensors lie; None if they lie here.

    Raises:
        InputError: The file holds something else than a mapping.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"the checkpoint holds a {type(content).__name__}, not named tensors")
    for name in names:
        if isinstance(content.get(name), Mapping):
            return name
    return None
