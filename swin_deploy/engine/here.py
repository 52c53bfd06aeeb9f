"""What this machine is, what an engine was built for, and whether the two fit, by a look.

Rules, with where they stand. A plan is native code:

- TensorRT and TensorRT-RTX load plans of their own version alone (TensorRT documentation, "Engine
  Compatibility"; that of TensorRT-RTX: "not compatible between different releases"). A plan of
  TensorRT that was built version-compatible loads in newer versions of the same major, and one of
  TensorRT 10 in TensorRT 11 (support matrix 11.4.1, "Engine Portability").
- Plans are not portable across platforms (same place), nor across compute capabilities unless they
  were built for that: hardware-compatible ones of TensorRT, and all of TensorRT-RTX, which name
  the capabilities that they are for.

Engines of ONNX Runtime and OpenVINO are graphs, which any platform reads. Both promise that newer
versions read older files (ONNX Runtime, "Compatibility"; OpenVINO, "Release Policy"), and neither
that older ones read newer files: the runtime must not be older than the one that wrote them.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.core.files import package_version
from swin_deploy.core.records import Count, Number, Reasons, Text


def library_version(module: str) -> str:
    """Version of "tensorrt" or "tensorrt_rtx"; JetPack's has no metadata of a distribution."""
    try:
        trt = importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
        raise EnvironmentMissingError(
            f"cannot import {module}: {error}", "swin-deploy doctor"
        ) from error
    return str(trt.__version__)


NATIVE = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}  # module -> what people call it
_AMPERE = (8, 0)
_ACROSS_MAJORS = {(10, 11)}  # of version-compatible plans: built with, loaded by


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A machine as engines see it, or what one engine wants of it.

    Attributes:
        module: The runtime's Python module.
        version: Its version.
        platform: As "linux-x86_64".
        compute_capability: Of the GPU, as "8.7"; None where the runtime uses none, or the engine
            was built without one.
        device: Name of the GPU; None likewise.
        runs_on: Compute capabilities that the engine is for; empty for that of the GPU alone.
        version_compatible: Whether newer versions load it.
        hardware_compatible: "none", or as ``BuildOptions`` has it.
    """

    module: str
    version: str | None
    platform: str
    compute_capability: str | None = None
    device: str | None = None
    runs_on: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: str = "none"

    def __str__(self) -> str:
        wanted = self.runs_on or ((self.compute_capability,) if self.compute_capability else ())
        chips = " or ".join(f"sm_{capability.replace('.', '')}" for capability in wanted)
        runtime = f"{NATIVE.get(self.module, self.module)} {self.version or 'of unknown version'}"
        return f"{chips} {runtime} on {self.platform}".lstrip()


def platform_here() -> str:
    """Operating system and processor, as "linux-aarch64"."""
    return f"{sys.platform}-{platform.machine().lower()}"


def fingerprint_here(module: str, distribution: str) -> Fingerprint:
    """This machine, for one runtime; of a native one it has to have the GPU."""
    if module not in NATIVE:
        return Fingerprint(
            module=module, version=package_version(distribution), platform=platform_here()
        )
    from swin_deploy.engine.runners.cuda import device_compute_capability, plain_name  # takes numpy

    return Fingerprint(
        module=module,
        version=library_version(module),
        platform=platform_here(),
        compute_capability=device_compute_capability(),
        device=plain_name(),
    )


def require_match(recorded: Fingerprint, here: Fingerprint, path: Path) -> None:
    """Check that an engine can be loaded here, before a byte of it is."""
    if (reason := mismatch(recorded, here)) is not None:
        raise EnvironmentMissingError(
            f"{path} was built for {recorded}, here is {here}: {reason}",
            "rebuild: export again on a machine like this one",
        )


def mismatch(recorded: Fingerprint, here: Fingerprint) -> str | None:
    """Why an engine cannot be loaded here; None if it can."""
    if recorded.module != here.module:
        return f"it needs {recorded.module}, this is {here.module}"
    if recorded.module not in NATIVE:
        old = _numbers(here.version) < _numbers(recorded.version)
        return "the runtime is older than the one that wrote it" if old else None
    if recorded.platform != here.platform:
        return "plans are not portable across platforms"
    if not _loads(recorded, here):
        return "another version"
    return None if _fits(recorded, here) else "another compute capability"


def _loads(recorded: Fingerprint, here: Fingerprint) -> bool:
    if recorded.version is None or recorded.version == here.version:
        return recorded.version is not None
    built, loads = _numbers(recorded.version), _numbers(here.version)
    major = built[0] == loads[0] or (built[0], loads[0]) in _ACROSS_MAJORS
    return recorded.module == "tensorrt" and recorded.version_compatible and major and built < loads


def _fits(recorded: Fingerprint, here: Fingerprint) -> bool:
    if here.compute_capability is None:
        return False
    if recorded.runs_on:
        return here.compute_capability in recorded.runs_on
    if recorded.hardware_compatible == "ampere_plus":
        return _numbers(here.compute_capability) >= _AMPERE
    return here.compute_capability == recorded.compute_capability


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version or "")) or (0,)


_BOARD = Path("/proc/device-tree/model")


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
    from swin_deploy.engine.runners.cuda import (
        device_compute_capability,
        device_problem,
        plain_name,
    )

    if device_problem() is not None:
        return Device(platform=platform_here(), board=_board())
    return Device(
        platform=platform_here(),
        compute_capability=device_compute_capability(),
        name=plain_name(),
        board=_board(),
    )


def _board() -> str:
    return _BOARD.read_text(encoding="utf-8").strip("\0\n") if _BOARD.is_file() else ""


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
    return _board() or "unknown CPU"
