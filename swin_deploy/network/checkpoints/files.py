"""A file -> named tensors, without running anything that it says; and checks of the tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from swin_deploy.core.errors import InputError, UnsafeError, some
from swin_deploy.core.own_files import open_plain
from swin_deploy.core.records import reading
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.checkpoints.archives import ZIP, read_archive
from swin_deploy.network.checkpoints.dialect import Tensors
from swin_deploy.network.checkpoints.labels import names_beside
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.pickles import Inert, pairs_of
from swin_deploy.network.checkpoints.shards import read_index, require_promised
from swin_deploy.network.checkpoints.source import INDEX, checkpoint_file
from swin_deploy.network.model.build import find_misfits, make_network
from swin_deploy.network.swin import SwinConfig

_FLOATS = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
}


def checked_values(path: Path, tensors: Tensors) -> tuple[Tensors, list[str]]:
    """The tensors in float32, and what was changed for that."""
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())
    checked: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise InputError(f"{path}: {name} is {tensor.dtype}, not a float type")
        value = tensor.to(torch.float32).contiguous()
        if bad := int((~torch.isfinite(value)).sum()):
            raise InputError(f"{path}: {name} holds {bad} NaN or infinite values")
        if value.ndim > 1 and not value.any():
            raise InputError(
                f"{path}: {name} is all zeros, as a save that was cut short leaves it, "
                "or a network that was never trained",
                "the checkpoint again, from where it came",
            )
        checked[name] = value
    dtypes.pop("float32", None)
    return checked, [f"{count} tensors of {kind} became float32" for kind, count in dtypes.items()]


def require_complete(path: Path, config: NetworkConfig, tensors: Mapping[str, Tensor]) -> None:
    """Check that the tensors are exactly the parameters of the network."""
    with torch.device("meta"):
        problems, misfits = find_misfits(make_network(config), tensors)
    if (
        isinstance(config, SwinConfig)
        and not problems
        and misfits
        and all("position_bias_table" in misfit for misfit in misfits)
    ):
        raise InputError(
            f"{path}: at image {config.image_size[0]}x{config.image_size[1]} some windows are of "
            f"another size than in training: {some(misfits)}",
            f"--window {config.window_size}, to resize the position biases, or the trained --image",
        )
    if problems or misfits:
        raise InputError(f"{path} does not fit {config.name}: {some([*problems, *misfits])}")


def require_stated(path: Path, config: NetworkConfig, options: LoadOptions) -> None:
    """Check that the network is what the user wrote; ``--image`` and ``--window`` go before."""
    instead = {"image_size": options.image_size, "window_size": options.window}
    for key in options.stated:
        if "." in key or key == "name" or instead.get(key) is not None:
            continue  # what is done to photos is no part of the tensors
        said, found = getattr(options.wanted, key), getattr(config, key)
        if said != found:
            raise InputError(
                f"{path} has {key} = {_plain(found)}, and the config says {_plain(said)}",
                f"{key} = {_plain(found)} in the config, or a checkpoint of {_plain(said)}",
            )


def _plain(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


# Containers in which checkpoints wrap their tensors, outermost first, and those of the exponential
# moving average of the same weights, which many recipes evaluate.
CONTAINERS = ("model", "state_dict", "model_state_dict", "module")
AVERAGES = ("model_ema", "state_dict_ema", "ema_state_dict", "ema", "ema_model", "swa_model")

# What the pickle of plain tensors names, and what nobody names but to run something.
_OURS = re.compile(
    r"torch\.(_utils\._rebuild\w+|_tensor\._rebuild\w+|tensor\._rebuild\w+|(\w+\.)?\w+Storage"
    r"|Size|device|dtype|nn\.parameter\.Parameter|u?int\d+|b?float\w+|bool)"
    r"|collections\.OrderedDict|argparse\.Namespace|(builtins|__builtin__)\.(set|frozenset)"
)
_RUNS = re.compile(
    r"(os|posix|nt|subprocess|commands|runpy|pty|socket|shutil|sys|ctypes|webbrowser|importlib|code)\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__|input|breakpoint)"
)
_ARCHIVE = "a complete PyTorch archive"
_MOST_BYTES = 4 << 30  # of tensors, whatever the file: the largest Swin in FP64 has 1.6 GB
_MOST_SHARED = 8  # bytes of tensors for each byte of their file, which several may share
_LONGEST_NAME = 1000


@dataclass(frozen=True, slots=True)
class RawCheckpoint:
    """The tensors of a file.

    Attributes:
        tensors: By the names that the file gives them.
        opened: The containers around them, outermost first.
        left: Another container with weights of the same network, that was not asked for.
        strangers: Names of classes and functions whose objects lie beside the tensors.
        labels: Names of classes that lie beside the tensors, by the entry they stand in.
    """

    tensors: dict[str, Tensor]
    opened: tuple[str, ...]
    left: str = ""
    strangers: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_tensors(path: Path, ema: bool = False, container: str | None = None) -> RawCheckpoint:
    """All tensors of a checkpoint.

    Args:
        path: ``.safetensors``, a PyTorch archive, or a folder with one of ``FOLDER_FILES``.
        ema: Take the exponential moving average of the weights.
        container: The entry to take, dots between nested ones; None where that is plain.
    """
    path = checkpoint_file(path)
    if path.name.endswith(INDEX):
        return _joined(path)
    kind = "a complete safetensors file" if path.suffix == ".safetensors" else _ARCHIVE
    with reading(path, kind, "download it again"):
        if path.suffix == ".safetensors":
            with open_plain(path) as stream:
                if stream.read(4) == ZIP:
                    raise InputError(f"{path} is an archive of PyTorch", "the suffix .pth")
            return _without_containers(path, load_file(path), ema, container, lambda value: value)
        archive = read_archive(path)
        strangers = tuple(name for name in archive.names if not _OURS.fullmatch(name))
        if any(_RUNS.fullmatch(name) for name in strangers):
            raise _unsafe(path, strangers)
        try:
            found = _without_containers(path, archive.content, ema, container, archive.tensor)
        except _NoTensorsError as error:
            if strangers:
                raise _unsafe(path, strangers) from error
            raise
        held = sum(tensor.numel() * tensor.itemsize for tensor in found.tensors.values())
        if held > max(_MOST_SHARED * len(archive.file), _MOST_BYTES):
            raise InputError(f"{path} makes {held} bytes of tensors of {len(archive.file)}")
        return replace(found, strangers=strangers)


def _joined(index: Path) -> RawCheckpoint:
    """The tensors of all shards, which have no containers."""
    tensors: dict[str, Tensor] = {}
    strangers: dict[str, None] = {}
    for shard, promised in read_index(index).items():
        part = read_tensors(shard)
        require_promised(index, promised, shard, part.tensors)
        tensors |= part.tensors
        strangers |= dict.fromkeys(part.strangers)
    return RawCheckpoint(tensors, (), "", tuple(strangers))


class _NoTensorsError(InputError):
    """There are no tensors where they belong."""


def _unsafe(path: Path, names: Sequence[str]) -> UnsafeError:
    return UnsafeError(
        f"{path} would run code to be read: {some(names)}", "save its tensors alone, as safetensors"
    )


def _without_containers(
    path: Path,
    content: object,
    ema: bool,
    container: str | None,
    tensor_of: Callable[[Any], Tensor | None],
) -> RawCheckpoint:
    """The tensors in the innermost container."""
    opened: list[str] = []
    left = ""
    entries = _entries(content)
    labels = names_beside(entries or {})
    containers = (*AVERAGES, *CONTAINERS) if ema else (*CONTAINERS, *AVERAGES)

    def inner(entries: Mapping[Any, Any]) -> str | None:
        found = _container_in(entries, containers)
        return found or (None if ema else _only_tensors_in(path, entries, tensor_of))

    if container is not None:
        opened = [container] if container in (entries or {}) else container.split(".")
        entries = _entered(path, entries, opened)
    while entries is not None and (name := inner(entries)) is not None:
        others = AVERAGES if name in CONTAINERS else CONTAINERS
        left = left or (_container_in(entries, others) or "")
        entries = _entries(entries[name])
        labels |= names_beside(entries or {})
        opened.append(name)
    if entries is None:
        kind = content.name if isinstance(content, Inert) else type(content).__name__
        raise _NoTensorsError(f"the checkpoint holds a {kind:.60}, not named tensors")
    if ema and not {*opened} & {*AVERAGES}:
        raise InputError(
            f"{path} holds no average of its weights: none of {', '.join(AVERAGES)}",
            "leave --ema out",
        )
    tensors = {}
    for name, value in entries.items():
        try:
            tensor = tensor_of(value)
        except InputError as error:
            raise InputError(f"{path}: {name!r:.80}: {error.problem}", error.hint) from error
        if tensor is None:
            continue
        if not isinstance(name, str):
            key = name.arguments[0] if isinstance(name, Inert) and name.arguments else name
            raise InputError(f"{path} has a tensor whose name is a {type(key).__name__}, no text")
        tensors[name] = tensor
    if not tensors:
        lists = [f"{key!r:.40}" for key, value in entries.items() if _lists(value, tensor_of)]
        if lists:
            raise _NoTensorsError(
                f"{path} holds its tensors in lists: {some(lists)}",
                "one of the networks, its state_dict saved by itself",
            )
        keys = ", ".join(f"{key:.40}" for key in list(entries)[:5] if isinstance(key, str))
        raise _NoTensorsError(f"{path} holds no tensors, only: {keys or 'nothing'}")
    return RawCheckpoint(tensors, tuple(opened), left, labels=labels)


def _entries(value: object) -> Mapping[Any, Any] | None:
    """What a mapping holds: a dict, what was one, or a network that was saved whole."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Inert):
        return None
    if isinstance(value.state, dict) and "_parameters" in value.state:
        return _entries_of_module(value)
    if value.name == "collections.OrderedDict":
        pairs = value.arguments[0] if value.arguments else []
        return pairs_of([item for pair in pairs for item in pair]) | value.entries
    return value.entries or None


def _entries_of_module(module: Inert) -> dict[str, Any]:
    """Parameters and buffers of a network, by their dotted names, as its state_dict has them."""
    found: dict[str, Any] = {}
    left: list[tuple[str, Inert]] = [("", module)]
    while left:
        prefix, part = left.pop()
        if len(prefix) > _LONGEST_NAME:
            raise ValueError("its network is nested without an end")
        state = part.state
        hidden = state.get("_non_persistent_buffers_set") or Inert("")
        names = [*hidden.elements, *(name for made_of in hidden.arguments for name in made_of)]
        for group in ("_parameters", "_buffers"):
            for name, value in (_entries(state[group]) or {}).items():
                if value is not None and (group == "_parameters" or name not in names):
                    found[f"{prefix}{name}"] = value
        for name, child in (_entries(state["_modules"]) or {}).items():
            if child is not None:
                left.append((f"{prefix}{name}.", child))
    return found


def _entered(
    path: Path, entries: Mapping[Any, Any] | None, names: Sequence[str]
) -> Mapping[Any, Any] | None:
    """What lies in the entry that the user named."""
    for name in names:
        holders = [key for key in entries or {} if isinstance(key, str)]
        if entries is None or name not in entries:
            raise InputError(
                f"{path} has no entry {name!r:.60}, only {some(holders) or 'no names'}",
                " or ".join(
                    f"--container {key}" for key in holders if _entries((entries or {})[key])
                )
                or "no --container",
            )
        entries = _entries(entries[name])
    return entries


def _only_tensors_in(
    path: Path, entries: Mapping[Any, Any], tensor_of: Callable[[Any], Tensor | None]
) -> str | None:
    """Where none lie here: the one entry, of whatever name, with tensors named by text in it."""
    if any(_is_tensor(value, tensor_of) for value in entries.values()):
        return None
    found = [
        name
        for name, value in entries.items()
        if isinstance(name, str) and _has_tensors(value, tensor_of)
    ]
    if len(found) > 1:
        raise InputError(
            f"{path} has tensors in {len(found)} entries: {some(found)}",
            " or ".join(f"--container {name}" for name in found),
        )
    return found[0] if found else None


def _is_tensor(value: object, tensor_of: Callable[[Any], Tensor | None]) -> bool:
    try:
        return tensor_of(value) is not None
    except InputError:  # one that is refused once it is read
        return True


def _has_tensors(value: object, tensor_of: Callable[[Any], Tensor | None]) -> bool:
    """Whether tensors lie in it, named by text."""
    entries = _entries(value) or {}
    return any(isinstance(key, str) and _is_tensor(one, tensor_of) for key, one in entries.items())


def _lists(value: object, tensor_of: Callable[[Any], Tensor | None]) -> bool:
    """Whether it is a list of tensors, or of what has some."""
    return isinstance(value, list | tuple) and any(
        _is_tensor(one, tensor_of) or _has_tensors(one, tensor_of) for one in value
    )


def _container_in(entries: Mapping[Any, Any], names: Iterable[str]) -> str | None:
    """The one of ``names`` under which tensors lie; None if they lie here."""
    return next((name for name in names if _entries(entries.get(name)) is not None), None)
