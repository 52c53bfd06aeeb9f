"""A small run to do damage to before the gate looks, and what the gate said of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Silent, trained_request
from swin_deploy.core.errors import VerificationError
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import run_export


def request(out: Path, **changes: Any) -> ExportRequest:
    """The trained network for a CPU in FP32, batch 1 to 4."""
    asked: dict[str, Any] = {
        "batch": BatchRange(low=1, high=4),
        "precisions": ("fp32",),
        "targets": ("cpu",),
    }
    return trained_request(out, **asked | changes)


@pytest.fixture(scope="session")
def gate_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``request``. Tests must not change it."""
    return run_export(request(tmp_path_factory.mktemp("made") / "run"), Silent()).path


@pytest.fixture
def gate_copy(gate_run: Path, tmp_path: Path) -> Path:
    """The same to change; of what depends on nothing else, nothing is made again."""
    return shutil.copytree(gate_run, tmp_path / "run")


def published(run: Path) -> bytes:
    return (run / "manifest.json").read_bytes()


def failed(error: VerificationError) -> set[tuple[str, str]]:
    rows = error.details["verification"]["comparisons"]
    return {(row["candidate"], row["inputs"]) for row in rows if not row["passed"]}
