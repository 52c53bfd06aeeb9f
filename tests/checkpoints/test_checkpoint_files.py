"""Files of ``torch.save``: their tensors come out whatever lies beside them, and nothing is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import gzip
import io
import lzma
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from conftest import POCKET
from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.files import read_tensors
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.model.build import build_model
from torch_files import BOTH, rewrite, save

base = torch.arange(48.0).reshape(6, 8) / 7
LAYOUTS = {
    "turned": base.t(),
    "a part": base[1:4, 2::3],
    "shared": base[2],
    "wide": base[:1, :1].expand(3, 4),
    "empty": base[:0],
    "one": torch.tensor(2.5),
    "a parameter": nn.Parameter(base.clone()),
}
TYPES = {
    str(dtype): (torch.arange(12) % 2 if dtype is torch.bool else torch.arange(12)).to(dtype)
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.bool),
    )
}


@pytest.mark.fault(12)
@BOTH
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_are_those_that_were_saved(tmp_path: Path, zipped: bool, protocol: int) -> None:
    path, tensors = tmp_path / "x.pth", LAYOUTS | TYPES
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    found = read_tensors(path).tensors
    assert list(found) == list(tensors)
    for name, tensor in found.items():
        assert tensor.dtype == tensors[name].dtype
        assert tensor.shape == tensors[name].shape
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=0)


def test_numbers_of_the_other_byte_order(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pth", {"w": base.double(), "b": base.bfloat16()})

    def swap(name: str, content: bytes) -> bytes:
        if name.endswith("byteorder"):
            return {"little": b"big", "big": b"little"}[sys.byteorder]
        if "/data/" not in name:
            return content
        width = len(content) // base.numel()
        return b"".join(content[i : i + width][::-1] for i in range(0, len(content), width))

    found = read_tensors(rewrite(path, swap)).tensors
    assert torch.equal(found["w"], base.double())
    assert torch.equal(found["b"], base.bfloat16())


class Restored:
    """Restores itself with code of its own, as classes of recipes do."""

    ran = False

    def __init__(self, **content: object) -> None:
        self.content = content

    def __setstate__(self, state: dict[str, Any]) -> None:
        Restored.ran = True


class Config(dict[str, Any]):
    """As yacs has it, a dict with a state."""

    __setstate__ = Restored.__setstate__

    def __reduce__(self) -> tuple[Any, ...]:
        return Config, (), {"frozen": True}, None, iter(self.items())


@contextmanager
def called(kind: type, name: str) -> Iterator[None]:
    """Give a class the name of one of a package that is not here, while it is pickled."""
    module, _, kind_name = name.rpartition(".")
    parents = module.split(".")
    modules = {".".join(parents[:n]): types.ModuleType(parents[0]) for n in (1, len(parents))}
    before = kind.__module__, kind.__qualname__
    kind.__module__, kind.__qualname__ = module, kind_name
    setattr(modules[module], kind_name, kind)
    sys.modules |= modules
    try:
        yield
    finally:
        kind.__module__, kind.__qualname__ = before
        for added in modules:
            del sys.modules[added]


def _others() -> Iterator[tuple[str, Tensor]]:
    yield "complex", torch.ones(3).cfloat()
    yield "sparse", torch.eye(3).to_sparse()
    yield "quantised", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)
    yield "float8", torch.ones(3).to(torch.float8_e4m3fn)


BESIDE: dict[str, tuple[str, type | None, Callable[[], object]]] = {
    "yacs": ("yacs.config.CfgNode", Config, lambda: Config(A=Config(B=[1]))),
    "mmengine": (
        "mmengine.logging.history_buffer.HistoryBuffer",
        Restored,
        lambda: {"loss": Restored(history=np.arange(5.0))},
    ),
    "omegaconf": ("omegaconf.dictconfig.DictConfig", Restored, lambda: Restored(_content={"a": 1})),
    "a NumPy scalar": ("numpy._core.multiarray.scalar", None, lambda: np.float64(81.2)),
    "a NumPy array": ("numpy._core.multiarray._reconstruct", None, lambda: np.arange(3)),
    "a part of a call": ("functools.partial", None, lambda: functools.partial(max, 1)),
    "counts": ("collections.defaultdict", None, lambda: collections.defaultdict(list, a=[1])),
    "a count": ("collections.Counter", None, lambda: collections.Counter("ab")),
    "a queue": ("collections.deque", None, lambda: collections.deque([1], 3)),
    "a generator": ("numpy.random._pickle.__generator_ctor", None, np.random.default_rng),
    "an optimizer": ("torch.optim.sgd.SGD", None, lambda: torch.optim.SGD([torch.ones(1)])),
    "other tensors": ("torch.per_tensor_affine", None, lambda: dict(_others())),
    "a date": ("datetime.datetime", None, lambda: datetime.datetime(2020, 1, 1)),
    "a path": ("pathlib.PosixPath", None, lambda: argparse.Namespace(data=Path("/data"))),
}


@pytest.mark.fault(6)
@BOTH
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize(("name", "kind", "make"), BESIDE.values(), ids=BESIDE.keys())
def test_what_recipes_leave_beside_the_weights_is_left_alone(
    tmp_path: Path, name: str, kind: type | None, make: Callable[[], object], zipped: bool
) -> None:
    network, path = build_model(POCKET.config), tmp_path / "x.pth"
    tensors = dict(network.named_parameters())
    with called(kind, name) if kind else called(Restored, "unused.Name"):
        save(path, {"model": tensors, "config": make(), "epoch": 3}, zipped)
    Restored.ran = False
    found = load_checkpoint(path, LoadOptions(image_size=POCKET.config.image_size))
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[n], tensors[n]) for n in tensors)
    assert any("left alone" in note and name in note for note in found.notes)
    assert not Restored.ran


@BOTH
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("wrap", [lambda n: n, nn.DataParallel, lambda n: {"model": n}])
def test_a_network_that_was_saved_whole(
    tmp_path: Path, wrap: Callable[[nn.Module], object], zipped: bool
) -> None:
    network = build_model(POCKET.config)
    hidden = torch.ones(3)
    network.norm.register_buffer("hidden", hidden, persistent=False)
    with called(type(network), "their.own.Network"):
        save(tmp_path / "x.pth", wrap(network), zipped)
    found = load_checkpoint(
        tmp_path / "x.pth", LoadOptions(image_size=POCKET.config.image_size)
    ).tensors
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[n], value) for n, value in network.state_dict().items())


KINDS: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "qtensor": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "conjugate": lambda: torch.ones(3).cfloat().conj(),
    "negated": lambda: torch.ones(3).cfloat().conj().imag,
}


@pytest.mark.fault(12)
@BOTH
@pytest.mark.parametrize(("kind", "make"), KINDS.items(), ids=KINDS.keys())
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_refused_by_name(
    tmp_path: Path, kind: str, make: Callable[[], Tensor], zipped: bool
) -> None:
    path = save(tmp_path / "x.pth", {"head.weight": make()}, zipped)
    with pytest.raises(InputError, match=f"'head.weight': .*{kind}"):
        read_tensors(path)


@pytest.mark.fault(12)
@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64", "float8_e8m0fnu"])
def test_types_that_no_weight_has_are_refused(tmp_path: Path, dtype: str) -> None:
    tensors: dict[str, Tensor] = dict(build_model(POCKET.config).named_parameters())
    tensors["head.weight"] = tensors["head.weight"].to(getattr(torch, dtype))
    with pytest.raises(InputError, match=f"head.weight is torch.{dtype}"):
        load_checkpoint(save(tmp_path / "x.pth", tensors))


@BOTH
@pytest.mark.parametrize(("key", "kind"), [(0, "int"), ((1, 2), "tuple"), (2**70, "int")])
def test_names_that_are_no_text(tmp_path: Path, key: object, kind: str, zipped: bool) -> None:
    with pytest.raises(InputError, match=f"is a {kind}"):
        read_tensors(save(tmp_path / "x.pth", {key: torch.ones(2)}, zipped))


@BOTH
@pytest.mark.parametrize("prefix", ["model.", "net."])
def test_the_shape_of_lightning(tmp_path: Path, prefix: str, zipped: bool) -> None:
    tensors = dict(build_model(POCKET.config).named_parameters())
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"{prefix}{name}": value for name, value in tensors.items()},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.ones(())}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
        "hyper_parameters": {"lr": 1e-4},
    }
    found = load_checkpoint(
        save(tmp_path / "x.ckpt", content, zipped), LoadOptions(image_size=POCKET.config.image_size)
    )
    assert found.tensors.keys() == tensors.keys()
    assert found.opened == ("state_dict", prefix)


@BOTH
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("make", [dict, lambda x: nn.DataParallel(nn.Linear(2, 2))])
def test_the_one_container_of_whatever_name(
    tmp_path: Path, make: Callable[[object], Any], zipped: bool
) -> None:
    inside = make({"weight": torch.ones(2, 2)})
    content = {"net": inside, "acc": 81.2, "optimizer": {"state": {0: {"avg": torch.ones(2)}}}}
    found = read_tensors(save(tmp_path / "x.pth", content, zipped))
    assert found.opened == ("net",)
    assert "weight" in {name.rpartition(".")[2] for name in found.tensors}


@BOTH
def test_no_container(tmp_path: Path, zipped: bool) -> None:
    content = {"optimizer": {"state": {0: {"avg": torch.ones(2)}}}}
    with pytest.raises(InputError, match="holds no tensors"):
        read_tensors(save(tmp_path / "x.pth", content, zipped))


@BOTH
def test_of_several_containers_one_is_to_be_named(tmp_path: Path, zipped: bool) -> None:
    content = {"params": {"w": torch.zeros(2)}, "params_ema": {"w": torch.ones(2)}}
    path = save(tmp_path / "x.pth", content, zipped)
    with pytest.raises(InputError, match="params, params_ema") as caught:
        read_tensors(path)
    assert caught.value.hint == "--container params or --container params_ema"
    assert read_tensors(path, container="params_ema").tensors["w"].all()
    with pytest.raises(InputError, match="'teacher'") as caught:
        read_tensors(path, container="teacher")
    assert "--container params" in caught.value.hint


@BOTH
@pytest.mark.parametrize("inside", [{"w": torch.ones(2)}, torch.ones(2)], ids=["dicts", "tensors"])
def test_tensors_in_a_list_are_said_to_be_in_one(
    tmp_path: Path, inside: object, zipped: bool
) -> None:
    content = {"models": [inside, inside], "losses": [0.5, 0.25]}
    with pytest.raises(InputError, match="holds its tensors in lists: 'models'"):
        read_tensors(save(tmp_path / "x.pth", content, zipped))


def _tar(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("x.pth")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _zip(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.pth", content)
    return stream.getvalue()


OTHERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "tar archive": ("x.tar", _tar),
    "file of gzip": ("x.pth", gzip.compress),
    "file of xz": ("x.pth", lzma.compress),
    "zip archive without a data.pkl": ("x.pth", _zip),
    "safetensors file": ("x.pth", lambda _: safetensors.torch.save({"w": torch.ones(2)})),
    "archive of PyTorch": ("x.safetensors", bytes),
}


@pytest.mark.parametrize(("kind", "name", "make"), [(k, *v) for k, v in OTHERS.items()])
def test_what_is_something_else_is_called_so(
    tmp_path: Path, kind: str, name: str, make: Callable[[bytes], bytes]
) -> None:
    whole = save(tmp_path / "whole.pth", {"w": torch.ones(2)}).read_bytes()
    (tmp_path / name).write_bytes(make(whole))
    with pytest.raises(InputError, match=f"is an? {kind}"):
        read_tensors(tmp_path / name)
