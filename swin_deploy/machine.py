"""What this machine is, for every report: a number without its hardware means nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.installed import package_version
from swin_deploy.records import Count, Number, Reasons, Text

PACKAGES = (
    *("torch", "onnx", "onnxruntime", "onnxsim", "openvino"),
    *("tensorrt-rtx-cu13", "tensorrt", "numpy"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware and versions.

    Attributes:
        processor: Name of the CPU.
        cores: Cores that this process may use.
        memory_gib: Of the whole machine.
        system: Operating system and Python.
        packages: Distribution -> version, of those that are installed.
    """

    processor: Text
    cores: Count
    memory_gib: Number
    system: Text
    packages: Reasons


def describe_machine() -> Machine:
    """Read the facts off this machine."""
    versions = {name: package_version(name) for name in PACKAGES}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        packages={name: version for name, version in versions.items() if version is not None},
    )


def integer_sums_saturate() -> bool:
    """Whether products of uint8 and int8 are summed in 16 bits here, which are too few for two.

    So it is on x86-64 before VNNI and AMX; a runtime has to be told to go another way.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return not flags & {"avx512_vnni", "avx_vnni", "amx_int8"}


def _processor() -> str:
    """The kernel's name for the CPU; on Jetson there is none, and the board's name says more."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    board = Path("/proc/device-tree/model")
    return board.read_text(encoding="utf-8").strip("\0\n") if board.is_file() else "unknown CPU"
