"""A file -> named tensors, without running anything that the file says."""

from __future__ import annotations

import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from swin_deploy.artifacts.files import refuse_impostors
from swin_deploy.errors import InputError, UnsafeError

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder

# Containers in which checkpoints wrap their tensors, outermost first. EMA weights are another set
# of weights of the same network; which one to take is the user's choice, so they are not here.
CONTAINERS = ("model", "state_dict", "model_state_dict", "module")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """All tensors of a checkpoint, by the names that it gives them.

    Args:
        path: ``.safetensors``, a PyTorch archive, or a folder with one of ``FOLDER_FILES``.

    Returns:
        Name -> tensor, and the containers that were opened to get there.

    Raises:
        InputError: The file is missing, damaged, or no checkpoint.
        UnsafeError: Reading it would run code; names what it asks for.
    """
    path = checkpoint_file(path)
    refuse_impostors(path, "a checkpoint")
    if path.suffix not in (".safetensors", *PICKLED):
        raise InputError(
            f"{path} has the suffix {path.suffix!r}", f"one of .safetensors, {', '.join(PICKLED)}"
        )
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    opened = []
    while (name := _container_of(content)) is not None:
        content = content[name]
        opened.append(name)
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        keys = ", ".join(map(str, list(content)[:5]))
        raise InputError(f"{path} holds no tensors, only: {keys or 'nothing'}")
    return tensors, opened


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
                broken = archive.testzip()  # PyTorch itself does not compare checksums
        except zipfile.BadZipFile as error:
            raise InputError(f"{path} is damaged: {error}", "download it again") from error
        if broken is not None:
            raise InputError(f"{path} is damaged in {broken}", "download it again")
    try:
        with torch.serialization.safe_globals(_inert_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refusal(path, zipped, error) from error
    except (RuntimeError, EOFError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a complete PyTorch archive: {error}") from error


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


def _container_of(content: Any) -> str | None:
    """The key under which the tensors lie; None if they lie here.

    Raises:
        InputError: The file holds something else than a mapping.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"the checkpoint holds a {type(content).__name__}, not named tensors")
    for name in CONTAINERS:
        if isinstance(content.get(name), Mapping):
            return name
    return None
