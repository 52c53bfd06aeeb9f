"""Files of ``torch.save`` that are damaged or hostile: typed errors, and nothing is run."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swin_deploy.core.errors import InputError, ResourceError, SwinDeployError, UnsafeError
from swin_deploy.network.checkpoints.files import read_tensors
from torch_files import BOTH, WEIGHT, rewrite, save, with_pickle


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


@pytest.mark.fault(5)
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


@pytest.mark.fault(5, 6)
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


OUTSIDE: dict[str, tuple[int, tuple[Any, ...], tuple[int, ...]]] = {
    "too large": (0, (5,), (1,)),
    "behind its end": (3, (2,), (1,)),
    "a long stride": (0, (2, 2), (4, 1)),
    "a negative offset": (-1, (2,), (1,)),
    "a negative stride": (3, (2,), (-1,)),
    "beyond 64 bits": (0, (2**70,), (1,)),
    "an endless empty one": (0, (0, 2**70), (1, 1)),
    "an endless repetition": (0, (2**40,), (0,)),
    "a rank too few": (0, (2, 2), (1,)),
    "a size that is no number": (0, ("2",), (1,)),
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
    one = torch.ones(2**18)
    path = save(tmp_path / "x.pth", {f"w{n}": one for n in range(5000)})
    with pytest.raises(InputError, match="bytes of tensors"):
        read_tensors(path)


@pytest.mark.fault(1)
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


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 8 bytes")])
def test_a_machine_that_is_short_of_memory_is_no_fault_of_the_file(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(path: Path) -> None:
        raise error

    monkeypatch.setattr("swin_deploy.network.checkpoints.files.read_archive", short)
    with pytest.raises(ResourceError, match="out of memory") as caught:
        read_tensors(save(tmp_path / "x.pth", WEIGHT))
    assert caught.value.__cause__ is error
