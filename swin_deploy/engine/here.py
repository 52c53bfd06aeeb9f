"""Which row of the table of targets this machine is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.engine.fingerprint import platform_here
from swin_deploy.engine.target import Target

HERE = "here"  # what --target takes for it
_BOARD = Path("/proc/device-tree/model")
_BOARDS = {"orin": "jetson-orin", "thor": "jetson-thor"}  # word in the board's name -> row


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a machine computes on.

    Attributes:
        platform: As in ``Fingerprint``.
        compute_capability: Of its first NVIDIA GPU, as "8.6"; None where it has none.
        name: Of that GPU, as the driver says.
        board: Of an embedded machine, as its firmware says.
    """

    platform: str
    compute_capability: str | None = None
    name: str = ""
    board: str = ""


def describe_device() -> Device:
    """This machine."""
    # Here, so that the table can be read without numpy, which it takes.
    from swin_deploy.runners.cuda import device_compute_capability, device_name, device_problem

    board = _BOARD.read_text(encoding="utf-8").strip("\0\n") if _BOARD.is_file() else ""
    if device_problem() is not None:
        return Device(platform=platform_here(), board=board)
    return Device(
        platform=platform_here(),
        compute_capability=device_compute_capability(),
        name=device_name().rpartition(", sm_")[0],
        board=board,
    )


def row_of(device: Device, rows: Iterable[Target]) -> str:
    """Name of the row that a machine is: its Jetson, its GPU, a GPU of no row, or its CPU."""
    words = set(re.split(r"[\s-]+", device.board.lower()))
    if "jetson" in words:
        for word, row in _BOARDS.items():
            if word in words:
                return row
    if device.compute_capability is None:
        return "cpu"
    return next((row.name for row in rows if is_device(device, row)), "tensorrt")


def is_device(device: Device, row: Target) -> bool:
    """Whether engines of this row, which are for one GPU, are for the GPU of a machine."""
    return (
        row.compute_capability is not None
        and row.compute_capability == device.compute_capability
        and row.platform in (None, device.platform)
        and (not row.devices or bool(set(re.split(r"[\s-]+", device.name)) & set(row.devices)))
    )
