"""Damaged checkpoints: a network comes out, or a typed error."""

from __future__ import annotations

import io
import random
import signal
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import torch

from swin_deploy.architecture import SwinConfig
from swin_deploy.checkpoints.load import load_checkpoint
from swin_deploy.config import LoadOptions
from swin_deploy.errors import SwinDeployError
from swin_deploy.model.build import build_model

LIMIT_S = 20  # of one file: reading a whole one takes some milliseconds
SMALLEST = SwinConfig(
    name="smallest",
    image_size=(16, 16),
    embed_dim=4,
    depths=(1, 1),
    num_heads=(1, 1),
    window_size=2,
    num_classes=2,
)
# Beginnings of steps of a pickle that nest, remember, call and ask for room.
_STEPS = (
    *(b"(", b"0", b"1", b"2", b"e", b"u", b"s", b"a", b"b", b"R", b"\x81", b"\x92", b"o", b"Q"),
    *(b"}", b"]", b")", b"\x85", b"\x86", b"\x90", b"\x91", b"\x94", b"\x93", b"t", b"l", b"d"),
    *(b"cos\nsystem\n", b"ios\nsystem\n", b"\x82\x01", b"\x97", b"\x98", b"h\x00", b"q\x00", b"."),
    *(b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f"),
    *(b"\x8b\xff\xff\xff\x7f", b"\x8a\xff" + b"\xff" * 255, b"X\xff\xff\xff\x7f", b"N", b"\x88"),
)


def seeds() -> dict[str, bytes]:
    """Small whole files, by what they are."""
    network = build_model(SMALLEST)
    tensors = dict(network.named_parameters())
    contents = {
        "state": (tensors, True),
        "bf16": (OrderedDict((n, v.bfloat16()) for n, v in tensors.items()), True),
        "recipe": ({"model": tensors, "config": {"a": [1, (2.5, "b")]}, "epoch": 3}, True),
        "network": (network, True),
        "legacy": ({"model": tensors}, False),
        "legacy network": (network, False),
    }
    made = {}
    for name, (content, zipped) in contents.items():
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=zipped)
        made[name] = stream.getvalue()
    return made


def damaged(content: bytes, choose: random.Random) -> bytes:
    """The file with bytes changed, taken out or put in; of an archive, half the time its pickle."""
    if not zipfile.is_zipfile(io.BytesIO(content)) or choose.random() < 0.5:
        return _mutated(content, choose)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            record = old.read(entry)
            change = entry.filename.endswith(("data.pkl", "byteorder"))
            new.writestr(entry.filename, _mutated(record, choose) if change else record)
    return made.getvalue()


def _mutated(content: bytes, choose: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 5))):
        at = choose.randrange(len(changed) + 1)
        kind = choose.randrange(5)
        if kind == 0:
            changed[at : at + 1] = bytes([choose.randrange(256)])
        elif kind == 1:
            changed[at:at] = choose.choice(_STEPS)
        elif kind == 2:
            del changed[at : at + choose.choice((1, 2, 8, 100))]
        elif kind == 3:
            source = choose.randrange(len(changed) + 1)
            changed[at:at] = changed[source : source + choose.choice((1, 4, 30))]
        else:
            changed[at : at + 4] = choose.choice(
                (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\x7f\0\0")
            )
    return bytes(changed)


def read(path: Path) -> str:
    """What reading one file comes to: "read", or the code of a typed error."""
    try:
        load_checkpoint(path, LoadOptions(image_size=SMALLEST.image_size))
    except SwinDeployError as error:
        return error.code
    return "read"


def fuzz(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Read ``count`` damaged files; what is no typed error comes out, and so does a hang.

    The file that did it is left in ``folder``.
    """
    choose, outcomes, whole = random.Random(seed), Counter[str](), list(seeds().values())
    path = folder / "damaged.pth"
    for _ in range(count):
        path.write_bytes(damaged(choose.choice(whole), choose))
        signal.alarm(LIMIT_S)  # whose signal ends the process
        outcomes[read(path)] += 1
        signal.alarm(0)
    return outcomes
