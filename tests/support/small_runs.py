"""Runs of a few bytes: every kind of record, and no network behind them.

    python small_runs.py ROOT TEMPLATE TEXT

publishes some in processes of their own, each killed before another of its calls that change the
file system: see ``publish_and_die``.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from swin_deploy.core.files import digest
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.interface import AS_EXPORTED, BatchRange
from swin_deploy.run.folder import RunFolder, open_run
from swin_deploy.run.manifest import Header, Weights

EXPORT: dict[str, Any] = {
    "parameters": 1,
    "form": None,
    "nodes": 1,
    "opset": 20,
    "outputs": {"logits": [1, 10]},
}
ENGINE: dict[str, Any] = {
    "target": "cpu",
    "precision": "fp32",
    "module": "onnxruntime",
    "version": "1.31.1",
    "written": {"graph": "", "files": {}},
    "built_for": {"module": "onnxruntime", "version": "1.31.1", "platform": "linux-x86_64"},
    "kernels": None,
    "fused_attentions": None,
    "activation_bytes": None,
}
VERIFY: dict[str, Any] = {
    "comparisons": 1,
    "batches": {"sizes": [1], "seed": None},
    "converted_exactly": [],
    "not_run": {},
    "fp32_floors_db": {"logits": 110.0},
    "fp32_extreme_floors_db": {"logits": 110.0},
}
FILES = ("model.raw.onnx", "model.onnx", "engines/cpu-fp32.onnx", "verify.json")
STAGES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "export": (("model.raw.onnx",), EXPORT),
    "simplify": (("model.onnx",), {"nodes_before": 2, "nodes_after": 1, "failure": ""}),
    "engine:cpu-fp32": (("engines/cpu-fp32.onnx",), ENGINE),
    "verify": (("verify.json",), VERIFY),
}


def make_header(notes: tuple[str, ...] = ()) -> Header:
    """Of the small network, with random weights."""
    variant = VARIANTS["swin_pocket"]
    return Header(
        family="swin",
        variant=variant.config,
        preprocessing=variant.preprocessing,
        parameters=1,
        weights=Weights(source="random", seed=0),
        batch=BatchRange(),
        outputs="logits",
        interface=AS_EXPORTED,
        photos=None,
        never_run={},
        notes=notes,
    )


def fill(run: RunFolder, text: str) -> list[str]:
    """Make what is not there of a run whose files say ``text``; the stages that had to run."""
    ran = []
    for stage, (files, details) in STAGES.items():
        # The raw graph is the same in all of them: a publication need not replace every file.
        content = "raw" if stage == "export" else text
        if run.find(stage, digest(content)) is not None:
            continue
        for name in files:
            run.scratch(name).write_text(f"{content} {name}")
        run.record(stage, digest(content), files, details, 0.5)
        ran.append(stage)
    return ran


def make_run(folder: Path, text: str = "one") -> list[str]:
    """Publish a run whose files say ``text``; the stages that had to run."""
    with open_run(folder) as run:
        ran = fill(run, text)
        run.publish(make_header((text,)))
    return ran


def read_text(folder: Path) -> str:
    """What all files of the run that is there say, read as a command reads them; they agree.

    Raises:
        SwinDeployError: The run cannot be read.
    """
    from swin_deploy.run.finished import require_run

    run = require_run(folder)
    (text,) = run.header.notes
    for name in FILES:
        content = "raw" if name == "model.raw.onnx" else text
        assert run.file(name).read() == f"{content} {name}".encode()
    return text


CHANGES = {"os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.chmod"}


def count_changes(kill_at: int | None) -> list[int]:
    """Kill this process before the so-manieth change of the file system; returns how many were."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if event in CHANGES or writes:
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def publish_and_die(root: Path, template: Path, text: str) -> None:
    """Publish in copies of ``template``, killed one call later each time, until one gets through.

    Args:
        root: Gets the copies, killed-1 and so on, and whole.
        template: A run that is finished, or an empty folder.
        text: Of the run that is published.
    """
    for kill_at in itertools.count(1):
        folder = root / f"killed-{kill_at}"
        shutil.copytree(template, folder)
        child = os.fork()
        if not child:
            count_changes(kill_at)
            make_run(folder, text)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            folder.rename(root / "whole")
            return


if __name__ == "__main__":
    publish_and_die(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
