"""A run that was measured, and a measurement of another machine, as reports take them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import report_files
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.pipeline.run import RunResult
from swin_deploy.report.gather import ReportData
from swin_deploy.report.page import make_report
from swin_deploy.report.sections_run import Section

SCRIPT = "<script>alert(1)</script>"


def silent(_: str) -> None:
    """Hears progress."""


@pytest.fixture(scope="session")
def measured_run(pocket_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a real bench.json; its path is markup. Tests must not change it."""
    folder = tmp_path_factory.mktemp("report") / SCRIPT
    shutil.copytree(pocket_run.path, folder)
    bench_engine(BenchRequest(engine=folder, batches=(1, 4), rounds=2), silent)
    return folder


@pytest.fixture
def measured_copy(measured_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured_run, tmp_path / "run"))


@pytest.fixture
def jetson_bench(tmp_path: Path) -> Path:
    return write(tmp_path / "jetson" / "bench.json", report_files.bench())


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def section_of(data: ReportData, name: str) -> Section:
    return next(section for section in make_report(data).sections if section.name == name)
