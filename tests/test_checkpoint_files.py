"""Files of ``torch.save``: their tensors come out whatever lies beside them, and nothing is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import functools
import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import POCKET
from fuzzing.checkpoints import fuzz, read, seeds
from swin_deploy.checkpoints.files import read_tensors
from swin_deploy.checkpoints.load import load_checkpoint
from swin_deploy.config import LoadOptions
from swin_deploy.errors import InputError, SwinDeployError, UnsafeError
from swin_deploy.model.build import build_model

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["archive", "before 1.6"])
WEIGHT = {"w": torch.ones(2, 2)}


def save(path: Path, content: object, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def rewrite(path: Path, change: Callable[[str, bytes], bytes], **options: Any) -> Path:
    """An archive with other records, each with the right checksum."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))
    return path


def with_pickle(path: Path, content: bytes) -> Path:
    save(path, WEIGHT)
    return rewrite(path, lambda name, old: content if name.endswith("data.pkl") else old)


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
    "a date": ("datetime.datetime", None, lambda: datetime.datetime(2020, 1, 1)),
    "a path": ("pathlib.PosixPath", None, lambda: argparse.Namespace(data=Path("/data"))),
}


@BOTH
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


class Runs:
    """Unpickling this calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


HOSTILE = {
    "a shell": lambda mark: Runs(os.system, f"touch '{mark}'"),
    "a process": lambda mark: Runs(subprocess.check_call, ["touch", str(mark)]),
    "code": lambda mark: Runs(exec, f"open({str(mark)!r}, 'w')"),
    "an import": lambda mark: Runs(__import__, "antigravity"),
}


@BOTH
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_would_run_something_is_refused(
    tmp_path: Path, make: Callable[[Path], object], zipped: bool
) -> None:
    mark = tmp_path / "mark"
    path = save(tmp_path / "x.pth", {"model": WEIGHT, "config": make(mark)}, zipped)
    with pytest.raises(UnsafeError, match="would run code") as caught:
        read_tensors(path)
    assert caught.value.exit_code == 8
    assert not mark.exists()
    assert "antigravity" not in sys.modules


STEPS = {  # every step of a pickle that calls or imports
    "GLOBAL, REDUCE": b"cantigravity\nfly\n)R",
    "STACK_GLOBAL, REDUCE": b"\x8c\x0bantigravity\x8c\x03fly\x93)R",
    "INST": b"(iantigravity\nfly\n",
    "OBJ": b"(cantigravity\nfly\no",
    "NEWOBJ": b"cantigravity\nfly\n)\x81",
    "NEWOBJ_EX": b"cantigravity\nfly\n)}\x92",
    "BUILD": b"cantigravity\nfly\n)R}b",
    "SETITEM": b"cantigravity\nfly\n)RK\x01K\x02s",
    "APPEND": b"cantigravity\nfly\n)RK\x01a",
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
def test_no_step_imports(tmp_path: Path, steps: bytes) -> None:
    with pytest.raises(UnsafeError, match=r"antigravity\.fly"):
        read_tensors(with_pickle(tmp_path / "x.pth", b"\x80\x02" + steps + b"."))
    assert "antigravity" not in sys.modules


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"


def tensor_of(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of {"w": a tensor} in a storage of four floats."""
    numbers = [pickle.dumps(value, 2)[2:-1] for value in (offset, size, stride)]
    body = REBUILD + STORAGE + b"".join(numbers) + b"\x89)tR"
    return b"\x80\x02}X\x01\0\0\0w" + body + b"s."


OUTSIDE = {
    "too large": (0, (5,), (1,)),
    "behind its end": (3, (2,), (1,)),
    "a long stride": (0, (2, 2), (4, 1)),
    "a negative offset": (-1, (2,), (1,)),
    "a negative stride": (3, (2,), (-1,)),
    "beyond 64 bits": (0, (2**70,), (1,)),
    "an endless empty one": (0, (0, 2**70), (1, 1)),
    "an endless repetition": (0, (2**40,), (0,)),
    "a rank too few": (0, (2, 2), (1,)),
    "a size that is no number": (0, ("2",), (1,)),  # type: ignore[dict-item]
}


def test_hand_made_tensors_are_read(tmp_path: Path) -> None:
    found = read_tensors(with_pickle(tmp_path / "x.pth", tensor_of(1, (3,), (1,))))
    assert torch.equal(found.tensors["w"], torch.ones(3))


@pytest.mark.parametrize(("offset", "size", "stride"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_no_tensor_reaches_beyond_its_storage(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    with pytest.raises(InputError):
        read_tensors(with_pickle(tmp_path / "x.pth", tensor_of(offset, size, stride)))


BOMBS = {
    "a memo of gigabytes": b"}r\xff\xff\xff\x7f.",
    "an array of exabytes": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text of gigabytes": b"X\xff\xff\xff\x7f.",
    "a number of gigabytes": b"\x8b\xff\xff\xff\x7f.",
    "a number of many digits": b"L" + b"9" * 10_000 + b"L\n.",
    "deep nesting": b"]" + b"\x85" * 200_000 + b".",
    "deep calls": b")" + REBUILD + b"\x86" * 1000 + b".",
    "doubled a thousand times": b"]" + b"2\x86" * 1000 + b".",
    "doubled, as a key": b"}]" + b"2\x86" * 1000 + b"Ns.",
    "doubled, as a call": REBUILD + b"N" + b"2\x86" * 1000 + b"R.",
    "doubled, as a storage": b"N" + b"2\x86" * 1000 + b"Q.",
    "marks": b"(" * 100_000 + b".",
    "a text for an identity": b"Pkey\n.",
    "an extension": b"\x82\x01.",
    "a list in itself": b"]q\x00h\x00a.",
    "an object for a number": b"K\x01}b.",
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
@BOTH
def test_a_pickle_asks_for_no_time_and_no_memory(
    tmp_path: Path, content: bytes, zipped: bool
) -> None:
    path = tmp_path / "x.pth"
    if zipped:
        with_pickle(path, b"\x80\x02" + content)
    else:
        path.write_bytes(b"\x80\x02" + content)
    with pytest.raises((InputError, UnsafeError)) as caught:
        read_tensors(path)
    assert len(str(caught.value)) < 500


def test_a_network_that_contains_itself(tmp_path: Path) -> None:
    network = nn.Module()
    network.__dict__["_modules"] = {"again": network}
    with pytest.raises(InputError, match="without an end"):
        read_tensors(save(tmp_path / "x.pth", network))


def test_records_that_share_their_bytes_make_no_more_of_them(tmp_path: Path) -> None:
    one = torch.ones(2**16)
    path = save(tmp_path / "x.pth", {f"w{n}": one for n in range(200)})
    with pytest.raises(InputError, match="bytes of tensors"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda name, old: old, {"compression": zipfile.ZIP_DEFLATED}),
        (lambda name, old: b"middle" if name.endswith("byteorder") else old, {}),
        (lambda name, old: b"" if "/data/" in name else old, {}),
        (lambda name, old: b"" if name.endswith("data.pkl") else old, {}),
    ],
    ids=["compressed", "no byte order", "no numbers", "no pickle"],
)
def test_archives_that_pytorch_never_writes(
    tmp_path: Path, change: Callable[[str, bytes], bytes], options: dict[str, Any]
) -> None:
    path = rewrite(save(tmp_path / "x.pth", WEIGHT), change, **options)
    with pytest.raises(InputError, match="damaged"):
        read_tensors(path)


KINDS: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "qtensor": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "conjugate": lambda: torch.ones(3).cfloat().conj(),
    "negated": lambda: torch.ones(3).cfloat().conj().imag,
}


@BOTH
@pytest.mark.parametrize(("kind", "make"), KINDS.items(), ids=KINDS.keys())
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_refused_by_name(
    tmp_path: Path, kind: str, make: Callable[[], Tensor], zipped: bool
) -> None:
    path = save(tmp_path / "x.pth", {"head.weight": make()}, zipped)
    with pytest.raises(InputError, match=f"'head.weight': .*{kind}"):
        read_tensors(path)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64", "float8_e8m0fnu"])
def test_types_that_no_weight_has_are_refused(tmp_path: Path, dtype: str) -> None:
    tensors = dict(build_model(POCKET.config).named_parameters())
    tensors["head.weight"] = tensors["head.weight"].to(getattr(torch, dtype))  # type: ignore[assignment]
    with pytest.raises(InputError, match=f"head.weight is torch.{dtype}"):
        load_checkpoint(save(tmp_path / "x.pth", tensors))


@BOTH
@pytest.mark.parametrize(("key", "kind"), [(0, "int"), ((1, 2), "tuple"), (2**70, "int")])
def test_names_that_are_no_text(tmp_path: Path, key: object, kind: str, zipped: bool) -> None:
    with pytest.raises(InputError, match=f"is a {kind}"):
        read_tensors(save(tmp_path / "x.pth", {key: torch.ones(2)}, zipped))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"w": 1}, "E_INPUT"),
        ([1.0, "x"], "E_INPUT"),
        (WEIGHT, "E_UNSAFE"),
        (Runs(os.system, "false"), "E_UNSAFE"),
        (Path("x"), "E_UNSAFE"),
    ],
)
def test_a_plain_pickle(tmp_path: Path, content: object, code: str) -> None:
    (tmp_path / "x.pth").write_bytes(pickle.dumps(content))
    with pytest.raises(SwinDeployError) as caught:
        read_tensors(tmp_path / "x.pth")
    assert caught.value.code == code
    assert "weights_only" not in str(caught.value)


def test_damaged_files_are_typed_errors(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, 400)
    assert outcomes.keys() <= {"read", "E_INPUT", "E_UNSAFE"}
    assert outcomes["E_INPUT"] > 100


def test_every_whole_seed_is_read(tmp_path: Path) -> None:
    for content in seeds().values():
        (tmp_path / "x.pth").write_bytes(content)
        assert read(tmp_path / "x.pth") == "read"
