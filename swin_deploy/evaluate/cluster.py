"""Shards to results on a Ray cluster: actors hold the engines, and a lost one is replaced."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

from swin_deploy.errors import EnvironmentMissingError, ResourceError, SwinDeployError
from swin_deploy.evaluate.executors import ATTEMPTS
from swin_deploy.evaluate.shards import Shard, ShardResult
from swin_deploy.evaluate.worker import Work, Worker, software

LOCAL = "local"
_STORE_BYTES = 2**27  # of a cluster that is started here; what goes through it is small
_WAIT_S = 60.0  # before it is said that nothing happens


class ShardActor:
    """A worker on some machine of the cluster. Errors are values: raised, they would be Ray's."""

    def __init__(self, work: Work) -> None:
        self._work, self._stack = work, ExitStack()

    def open(self, wanted: str) -> SwinDeployError | None:
        """Open the artifacts, if this machine has the ``software`` that was meant."""
        if software() != wanted:
            return EnvironmentMissingError(
                f"{os.uname().nodename} of the cluster has another swin-deploy, or other versions "
                "of the runtimes, than this machine",
                "the same versions on all of them: swin-deploy doctor",
            )
        try:
            self._worker = self._stack.enter_context(Worker(self._work))
        except SwinDeployError as error:
            return error
        return None

    def run(self, shard: Shard) -> ShardResult | SwinDeployError:
        """As ``Worker.run``."""
        try:
            return self._worker.run(shard)
        except SwinDeployError as error:
            return error


@contextmanager
def connect(address: str, workers: int | None, threads: int) -> Iterator[Any]:
    """Ray, connected to a cluster for the block, or to one that is started here for it.

    Args:
        address: Of the cluster, as ``ray.init`` takes it, or "local".
        workers: That a local one has room for; None for one per usable core.
        threads: Of each.

    Raises:
        EnvironmentMissingError: Ray is not installed, or nothing answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of the default
    try:
        ray: Any = importlib.import_module("ray")  # mypy need not have it
    except ImportError as error:
        raise EnvironmentMissingError(
            "ray is not installed", "pip install 'swin-deploy[ray]'"
        ) from error
    on_termination = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        _require_listener(address)
        if address == LOCAL:
            cores = (workers or len(os.sched_getaffinity(0))) * threads
            local = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
            ray.init(address=LOCAL, num_cpus=cores, **local, **quiet)
        else:
            ray.init(address=address, **quiet)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray put its own in its place
    except (OSError, RuntimeError, ValueError) as error:
        raise EnvironmentMissingError(
            f"no Ray cluster at {address}: {error}",
            "ray start --head, or --ray local; RAY_AUTH_MODE=token where the cluster has a token",
        ) from error
    try:
        with redirect_stdout(sys.stderr):  # Ray tells of lost workers where results go
            yield ray
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Ask before Ray does, which takes minutes to give up; OSError where nobody listens."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=_WAIT_S / 6).close()


def room_for(ray: Any, threads: int, on_gpu: bool) -> int:
    """How many workers the cluster has room for, all of them idle.

    Raises:
        EnvironmentMissingError: For none.
    """
    rooms = 0
    for node in ray.nodes():
        if node["Alive"]:
            cores = int(node["Resources"].get("CPU", 0) // threads)
            rooms += min(cores, int(node["Resources"].get("GPU", 0))) if on_gpu else cores
    if not rooms:
        needs = f"{threads} cores" + (" and a GPU" if on_gpu else "")
        raise EnvironmentMissingError(
            f"no machine of the cluster has {needs} for a worker", "fewer --threads"
        )
    return rooms


def run_on_ray(
    ray: Any,
    work: Work,
    shards: Sequence[Shard],
    workers: int,
    resources: dict[str, int],
    note: Callable[[str], None],
) -> Iterator[ShardResult]:
    """By so many actors. The shard of one that is lost goes to the next that has nothing to do.

    Args:
        ray: What ``connect`` gave.
        work: What each of them holds open.
        shards: What to do.
        workers: Actors.
        resources: Of each, as Ray takes them: "num_cpus", "num_gpus".
        note: Is told when one was lost, and when none gets its resources.

    Raises:
        ResourceError: A shard, or the opening of the artifacts, was lost ``ATTEMPTS`` times.
        SwinDeployError: As of a ``Worker``.
    """
    lost = tuple(
        getattr(ray.exceptions, name)
        for name in ("RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")
    )
    kind = ray.remote(**resources, max_restarts=0)(ShardActor)
    shared, wanted = ray.put(work), software()
    left, unfinished = list(reversed(shards)), len(shards)
    losses: dict[int | None, int] = {}  # by shard; None is the opening
    running: dict[Any, tuple[Any, Shard | None]] = {}

    def start() -> None:
        actor = kind.remote(shared)
        running[actor.open.remote(wanted)] = actor, None

    for _ in range(min(workers, len(shards))):
        start()
    idle: list[Any] = []
    while unfinished:
        while idle and left:
            free, todo = idle.pop(), left.pop()
            running[free.run.remote(todo)] = free, todo
        done, _ = ray.wait(list(running), num_returns=1, timeout=_WAIT_S)
        if not done:
            if all(shard is None for _, shard in running.values()):
                note("waiting for the cluster to open a worker")
            continue
        actor, shard = running.pop(done[0])
        try:
            found = ray.get(done[0])
        except lost as error:
            index = None if shard is None else shard.index
            losses[index] = losses.get(index, 0) + 1
            what = "while it opened the artifacts" if index is None else f"with shard {index}"
            if losses[index] == ATTEMPTS:
                raise ResourceError(
                    f"{ATTEMPTS} workers were lost {what}: {error}",
                    "fewer --workers, or a smaller --batch",
                ) from error
            note(f"a worker was lost {what}; another takes its place")
            ray.kill(actor)  # it may only have been out of reach
            start()
            left.extend([] if shard is None else [shard])
            continue
        if isinstance(found, SwinDeployError):
            raise found
        idle.append(actor)
        if found is not None:
            unfinished -= 1
            yield found
