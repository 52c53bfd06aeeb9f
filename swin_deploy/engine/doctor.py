"""What is installed, what is missing, and the command that gets it."""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.core.files import package_version
from swin_deploy.engine.here import describe_device
from swin_deploy.engine.open import why_not_here
from swin_deploy.engine.runners.cuda import device_name, device_problem
from swin_deploy.engine.target import is_device
from swin_deploy.engine.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: A package, a device or a target.
        state: Its version, or what it is.
        ok: Whether it can be used.
        advice: What to do if it cannot, or what it is good for.
    """

    name: str
    state: str
    ok: bool
    advice: str = ""


# Distribution -> the command that installs it, and whether export and bench work without it.
PACKAGES: dict[str, tuple[str, bool]] = {
    "torch": ("pip install torch==2.13.0 -c constraints.txt", False),
    "onnx": ("pip install onnx", False),
    "onnxscript": ("pip install onnxscript", False),
    "onnxsim": ("pip install onnxsim", False),
    "onnxruntime": ("pip install onnxruntime", False),
    "openvino": ("pip install openvino", True),
    "ray": ("pip install ray; needed for --ray", True),
    "cryptography": ("pip install cryptography; needed for signatures", True),
    "tensorrt-rtx-cu13": ("pip install tensorrt-rtx-cu13", True),
    "tensorrt": ("pip install tensorrt; on a Jetson it comes with JetPack", True),
}


def examine() -> list[Finding]:
    """Look at packages, the GPU, and what each target can do here."""
    findings = []
    for name, (install, optional) in PACKAGES.items():
        version = package_version(name)
        missing = "not installed (optional)" if optional else "not installed"
        findings.append(
            Finding(name, version or missing, version is not None, "" if version else install)
        )
    problem = device_problem()
    findings.append(
        Finding(
            "GPU",
            problem or device_name(),
            problem is None,
            "needed to run plans, not to build rtx ones" if problem else "",
        )
    )
    device = describe_device()
    for target in TARGETS.values():
        if target.one_device and not is_device(device, target):
            continue  # ten rows that say that this is another machine
        reason = why_not_here(target)
        builds = target.installed and (target.builds_without_gpu or reason is None)
        building = "builds" if builds else "cannot build"
        running = "runs" if reason is None else "cannot run"
        state = f"{building}, {running} here"
        findings.append(Finding(f"target {target.name}", state, builds, reason or target.about))
    return findings


def usable(findings: list[Finding]) -> bool:
    """Whether ``export`` can do its work."""
    required = {name for name, (_, optional) in PACKAGES.items() if not optional}
    return all(finding.ok for finding in findings if finding.name in required)
