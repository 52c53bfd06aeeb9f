"""``swin-deploy sensitivity`` by several workers: the report of one, to the last byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Silent
from killing import kill_a_process, run_script
from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.data.labelled import find_labelled
from swin_deploy.data.samples import find_sample
from swin_deploy.graph.int8.places import RECIPES
from swin_deploy.graph.int8.probe import Probe
from swin_deploy.measure.sensitivity.measure import PlaceWorker
from swin_deploy.measure.sensitivity.report import SensitivityRequest
from swin_deploy.measure.sensitivity.run import measure_sensitivity
from swin_deploy.measure.sensitivity.subject import Measured, Subject, open_run_graph
from swin_deploy.run.finished import Run

# Two Ray clusters at once are more than a small machine bears.
pytestmark = pytest.mark.xdist_group("test_evaluate")


@pytest.fixture(scope="module")
def digits(held_out: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four digits of each class, one of them no photo, which is left out."""
    folder = tmp_path_factory.mktemp("digits") / "labelled"
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for path in sorted((held_out / str(label)).iterdir())[:4]:
            shutil.copy(path, folder / str(label))
    next((folder / "3").iterdir()).write_bytes(b"no photo")
    return folder


@pytest.fixture
def request_of(
    trained_run: Path, digits: Path, tmp_path: Path
) -> Callable[..., SensitivityRequest]:
    def make(**changes: Any) -> SensitivityRequest:
        request = SensitivityRequest(
            run=trained_run, calibration=digits, labelled=digits, out=tmp_path / "report.json"
        )
        return replace(request, **changes)

    return make


@pytest.fixture(scope="module")
def expected(trained_run: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The report of one process."""
    out = tmp_path_factory.mktemp("expected") / "report.json"
    measure(SensitivityRequest(run=trained_run, calibration=digits, labelled=digits, out=out))
    return out.read_bytes()


def measure(request: SensitivityRequest) -> tuple[bytes, list[str]]:
    """The report, and what was said."""
    said = Silent()
    measure_sensitivity(request, said.started, said.note)
    return request.report.read_bytes(), said.notes


def test_two_processes_of_which_one_is_killed_measure_the_same(
    request_of: Callable[..., SensitivityRequest], expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_process(monkeypatch)
    report, said = measure(request_of(workers=2))
    assert report == expected
    assert sum(text.startswith("a worker died of SIGKILL") for text in said) == 1


@pytest.mark.nightly
def test_ray_with_a_killed_worker_measures_the_same(
    request_of: Callable[..., SensitivityRequest], expected: bytes, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    request = request_of()
    command = ["sensitivity", request.run, "--calibration", request.calibration]
    command += ["--labelled", request.labelled, "--out", request.report]
    spread = ["--ray", "local", "--workers", "2"]
    done = run_script(tmp_path, "run_on_ray", "kill_actor", *map(str, command), *spread)
    assert done.returncode == 0, done.stderr
    assert request.report.read_bytes() == expected
    assert "note: a worker was lost with place " in done.stderr


def test_other_threads_are_another_measurement(
    request_of: Callable[..., SensitivityRequest], expected: bytes
) -> None:
    """Sums may differ in their last bits, so that what one thread measured does not count."""
    request = request_of(threads=2)
    request.report.write_bytes(expected)
    _, said = measure(request)
    assert any(text.endswith("is of another threads: measuring again") for text in said)


def open_subject(trained_run: Path, folder: Path) -> Subject:
    """With a copy of the graph that tests may change."""
    subject = open_run_graph(trained_run, folder)
    path = Path(shutil.copy(subject.recorded.path, folder))
    return replace(subject, recorded=replace(subject.recorded, path=path))


def worker_of(measured: Measured) -> PlaceWorker:
    subject = measured.subject
    probe = Probe(
        source=subject.graph,
        thresholds={},
        recipe=RECIPES["tensorrt"],
        batch=subject.batch.high,
        images=measured.batches,
        labels=None,
        reference=np.zeros((0, 10), np.float32),
    )
    return PlaceWorker(probe, subject.recorded, measured.files())


@pytest.mark.parametrize("kind", ["photo", "array"])
def test_a_worker_with_other_images_is_refused(
    kind: str, trained_run: Path, digits: Path, tmp_path: Path
) -> None:
    subject = open_subject(trained_run, tmp_path)
    if kind == "photo":
        data = Path(shutil.copytree(digits, tmp_path / "digits"))
        measured = Measured(subject, find_labelled(data, 10))
        victim = sorted(data.glob("7/*.png"))[1]
    else:
        victim = tmp_path / "images.npy"
        np.save(victim, np.zeros((2, 1, 28, 28), np.float32))
        measured = Measured(subject, find_sample(victim, "measurement"))
    worker = worker_of(measured)
    with worker:
        pass
    victim.write_bytes(b"another")
    with pytest.raises(UnsafeError, match=f"{victim} on .* has sha256"), worker:
        pass
    victim.unlink()
    with pytest.raises(InputError, match=f"{victim} is not there on"), worker:
        pass


def test_a_worker_with_another_graph_is_refused(
    trained_run: Path, digits: Path, tmp_path: Path
) -> None:
    subject = open_subject(trained_run, tmp_path)
    measured = Measured(subject, find_labelled(digits, 10))
    worker = worker_of(measured)
    with worker:
        pass
    graph = subject.recorded.path
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(UnsafeError, match=r"model.*onnx on .* has sha256"), worker:
        pass


def test_what_is_measured_are_the_bytes_that_were_recorded(
    trained_run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though another graph lies there as soon as the check is done; and a worker has its own."""
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    swap_after_check(monkeypatch)
    subject = open_run_graph(run, tmp_path)
    (run / "model.onnx").write_bytes(b"another network")
    expected = (trained_run / "model.onnx").read_bytes()
    assert subject.graph.read_bytes() == expected
    kept = subject.recorded.also[-1]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(expected)
    worker = worker_of(Measured(subject, find_labelled(digits, 10)))
    with worker as opened:
        assert opened._opened.source.read_bytes() == expected
        assert opened._opened.source != subject.graph
    assert not opened._opened.source.exists()


def swap_after_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody else wrote a file as soon as its path was checked."""
    checked = Run.checked

    def swap(run: Run, name: str) -> Path:
        path = checked(run, name)
        path.write_bytes(b"another network")
        return path

    monkeypatch.setattr(Run, "checked", swap)
