"""Damaged checkpoints of ``torch.save``: archives, bare pickles, and their insides."""

from __future__ import annotations

import io
import random
import zipfile
from collections import OrderedDict

import torch

from fuzzing.mutation import mutated
from swin_deploy.network.model.build import build_model
from swin_deploy.network.swin import SwinConfig

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


def whole_files() -> dict[str, bytes]:
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
        return mutated(content, choose, _STEPS)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            record = old.read(entry)
            change = entry.filename.endswith(("data.pkl", "byteorder"))
            new.writestr(entry.filename, mutated(record, choose, _STEPS) if change else record)
    return made.getvalue()
