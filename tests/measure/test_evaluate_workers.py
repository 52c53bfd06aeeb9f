"""``evaluate`` by several processes and on a cluster: the same counts, whoever is killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from conftest import Silent
from evaluations import evaluate, facts, options
from killing import kill_a_process, run_script
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import EnvironmentMissingError, ResourceError
from swin_deploy.data.labelled import find_labelled
from swin_deploy.measure.evaluate.candidates import find_candidates
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.evaluate.shards import Shard, cut_shards
from swin_deploy.measure.evaluate.worker import ShardWorker, Work
from swin_deploy.measure.journal import journal_path
from swin_deploy.measure.workers.base import ATTEMPTS, software
from swin_deploy.measure.workers.cluster import WorkerActor, room_for, run_on_ray
from swin_deploy.measure.workers.processes import run_in_processes

# One process makes the fixtures for all of these files.
pytestmark = pytest.mark.xdist_group("test_evaluate")


def named(shards: list[Shard]) -> dict[str, Shard]:
    return {f"shard {shard.index}": shard for shard in shards}


def test_two_processes_find_the_same(
    evaluation_of: Callable[..., EvaluateRequest], expected_evaluation: dict[str, Any]
) -> None:
    report = evaluate(evaluation_of(workers=2))
    assert facts(report) == facts(expected_evaluation)
    assert report["work"]["by"] == "processes"
    assert json.loads(Path(report["report"]).read_text()) == report
    assert not journal_path(Path(report["report"])).exists()


def test_a_process_that_is_killed_is_replaced(
    evaluation_of: Callable[..., EvaluateRequest],
    expected_evaluation: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill_a_process(monkeypatch)
    report = evaluate(evaluation_of(workers=2))
    assert facts(report) == facts(expected_evaluation)
    assert len(report["work"]["lost"]) == 1


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


def test_workers_that_keep_dying_are_given_up(
    evaluation_of: Callable[..., EvaluateRequest], held_out: Path
) -> None:
    field = find_candidates(evaluation_of())
    deadly = replace(field.artifacts[0], runner=Deadly())  # type: ignore[arg-type]
    work = Work(artifacts=(deadly,), folder=held_out, batch=16, classes=10, decoders=1)
    shards = named(cut_shards(find_labelled(held_out, 10).sample, 16))
    said: list[str] = []
    with pytest.raises(ResourceError, match=f"{ATTEMPTS} workers were lost"):
        list(run_in_processes(ShardWorker(work), shards, 1, said.append))
    assert len(said) == ATTEMPTS - 1


@pytest.mark.fault(39)
def test_a_call_that_is_killed_goes_on(
    evaluation_of: Callable[..., EvaluateRequest],
    expected_evaluation: dict[str, Any],
    tmp_path: Path,
) -> None:
    request = evaluation_of()
    killed = run_script(tmp_path, "run_in_processes", "die", *options(request), "--workers", "2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for pid in map(int, killed.stdout.split()):  # workers do not outlive who started them
        if psutil.pid_exists(pid):
            psutil.wait_procs([psutil.Process(pid)], timeout=30)
            assert not psutil.pid_exists(pid)
    assert request.out is not None
    journal = journal_path(request.out)
    header, holder, *shards = journal.read_text().splitlines()
    assert json.loads(header)["digest"]
    assert json.loads(holder).keys() == {"holder"}
    assert len(shards) >= 1
    with journal.open("a") as stream:
        stream.write('{"index": 4, "positions": [25')  # cut off
    listener = Silent()
    report = evaluate(evaluation_of(), listener)
    assert f"shards of an earlier run that are used again: {len(shards)}" in listener.notes
    assert report["work"]["images"] == 300 - 64 * len(shards)
    assert facts(report) == facts(expected_evaluation)


def test_ray_with_a_killed_worker_finds_the_same(
    evaluation_of: Callable[..., EvaluateRequest],
    expected_evaluation: dict[str, Any],
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray")
    arguments = [*options(evaluation_of()), "--ray", "local", "--workers", "2", "--json"]
    done = run_script(tmp_path, "run_on_ray", "kill_actor", *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert facts(report) == facts(expected_evaluation)
    assert report["work"]["by"] == "ray"
    assert report["work"]["workers"] == 2
    assert len(report["work"]["lost"]) == 1
    assert "note: a worker was lost with shard " in done.stderr


def test_ray_that_is_not_installed_is_said(
    evaluation_of: Callable[..., EvaluateRequest],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.run([*options(evaluation_of()), "--ray", "local"]) == 4
    assert "ray is not installed; try: pip install ray" in capsys.readouterr().err


class LostError(Exception):
    """An actor that died."""


class FakeRay:
    """A cluster in this process, whose actors die whenever they get shard 1."""

    exceptions = SimpleNamespace(
        RayActorError=LostError,
        WorkerCrashedError=LostError,
        NodeDiedError=LostError,
        OutOfMemoryError=LostError,
    )

    def __init__(self) -> None:
        self.killed = 0

    def remote(self, **resources: int) -> Callable[[type], Any]:
        def call(method: Callable[[Any], Any]) -> Any:
            return SimpleNamespace(remote=lambda argument: partial(self._answer, method, argument))

        def start(actor: WorkerActor) -> Any:
            return SimpleNamespace(open=call(actor.open), do=call(actor.do))

        return lambda kind: SimpleNamespace(remote=lambda worker: start(kind(pickle.loads(worker))))

    @staticmethod
    def _answer(method: Callable[[Any], Any], argument: Any) -> Any:
        if isinstance(argument, Shard) and argument.index == 1:
            raise LostError
        return method(argument)

    def put(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def wait(self, running: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        return running[:1], running[1:]

    def get(self, call: Callable[[], Any]) -> Any:
        return call()

    def kill(self, actor: Any) -> None:
        self.killed += 1


def test_a_shard_that_takes_every_actor_with_it_is_given_up(
    evaluation_of: Callable[..., EvaluateRequest], held_out: Path
) -> None:
    field, fake = find_candidates(evaluation_of()), FakeRay()
    work = Work(artifacts=field.artifacts[:1], folder=held_out, batch=16, classes=10, decoders=1)
    worker, shards = ShardWorker(work), named(cut_shards(find_labelled(held_out, 10).sample, 16))
    said: list[str] = []
    with pytest.raises(ResourceError, match=f"{ATTEMPTS} workers .* shard 1"):
        list(run_on_ray(fake, worker, shards, 2, {"num_cpus": 1}, said.append))
    assert said == ["a worker was lost with shard 1; another takes its place"] * (ATTEMPTS - 1)
    assert fake.killed == ATTEMPTS - 1
    del shards["shard 1"]
    found = dict(run_on_ray(fake, worker, shards, 2, {"num_cpus": 1}, said.append))
    assert sorted(found) == ["shard 0", "shard 2", "shard 3", "shard 4"]
    assert all(found[name].index == shard.index for name, shard in shards.items())


class HangingRay(FakeRay):
    """Shard 1 is never done by the first actor that has it, until that one is killed."""

    hangs = True

    @staticmethod
    def _answer(method: Callable[[Any], Any], argument: Any) -> Any:
        return method(argument)

    def wait(self, running: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        hung = [call for call in running if self.hangs and _is_of_shard_1(call)]
        return [call for call in running if call not in hung][:1], hung

    def get(self, call: Any) -> Any:
        if self.killed and self.hangs is False and _is_of_shard_1(call):
            self.hangs = None  # type: ignore[assignment]
            raise LostError
        return call()

    def kill(self, actor: Any) -> None:
        super().kill(actor)
        if self.hangs:
            self.hangs = False


def _is_of_shard_1(call: Any) -> bool:
    return isinstance(call.args[1], Shard) and call.args[1].index == 1


def test_a_shard_that_an_actor_never_does_goes_to_another(
    evaluation_of: Callable[..., EvaluateRequest], held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swin_deploy.measure.workers.base.ITEM_S", 0.05)
    monkeypatch.setattr("swin_deploy.measure.workers.base.SLOWER", 1)
    field, said = find_candidates(evaluation_of()), list[str]()
    work = Work(artifacts=field.artifacts[:1], folder=held_out, batch=16, classes=10, decoders=1)
    shards = named(cut_shards(find_labelled(held_out, 10).sample, 16))
    found = dict(
        run_on_ray(HangingRay(), ShardWorker(work), shards, 2, {"num_cpus": 1}, said.append)
    )
    assert found.keys() == shards.keys()
    assert said[0].startswith("a worker was not done with shard 1 after ")
    assert said[1:] == ["a worker was lost with shard 1; another takes its place"]


def test_a_machine_with_other_software_is_refused(held_out: Path) -> None:
    work = Work(artifacts=(), folder=held_out, batch=16, classes=10, decoders=1)
    worker = ShardWorker(work)
    error = WorkerActor(worker).open("another digest")
    assert isinstance(error, EnvironmentMissingError)
    assert "other versions of the runtimes" in str(error)
    assert WorkerActor(worker).open(software()) is None


def test_no_machine_has_room() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    ray = SimpleNamespace(nodes=lambda: nodes)
    assert [room_for(ray, threads, False) for threads in (1, 2, 3)] == [7, 3, 1]
    assert room_for(ray, 1, True) == 1
    with pytest.raises(EnvironmentMissingError, match="6 cores"):
        room_for(ray, 6, False)


def test_nobody_listens(
    evaluation_of: Callable[..., EvaluateRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert cli.run([*options(evaluation_of()), "--ray", f"127.0.0.1:{port}"]) == 4
    assert f"no Ray cluster at 127.0.0.1:{port}" in capsys.readouterr().err
