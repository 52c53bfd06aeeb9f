"""Items to results on a Ray cluster, whose lost actors are replaced."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any, TypeVar

from swin_deploy.core.errors import EnvironmentMissingError, SwinDeployError
from swin_deploy.measure.workers.base import ItemClock, Worker, count_loss, software

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = "local"
_STORE_BYTES = 2**27  # of a cluster that is started here; what goes through it is small
_WAIT_S = 60.0  # before it is said that nothing happens


class WorkerActor:
    """A worker on some machine of the cluster. Errors are values: raised, they would be Ray's."""

    def __init__(self, worker: Worker[Any, Any]) -> None:
        self._worker, self._stack = worker, ExitStack()

    def open(self, wanted: str) -> SwinDeployError | None:
        """Open the worker, if this machine has the ``software`` that was meant."""
        if software() != wanted:
            return EnvironmentMissingError(
                f"{os.uname().nodename} of the cluster has another swin-deploy, or other versions "
                "of the runtimes, than this machine",
                "the same versions on all of them: swin-deploy doctor",
            )
        try:
            self._opened = self._stack.enter_context(self._worker)
        except SwinDeployError as error:
            return error
        return None

    def do(self, item: Any) -> Any:
        """As of the worker, or the ``SwinDeployError`` that it raises."""
        try:
            return self._opened.do(item)
        except SwinDeployError as error:
            return error


@contextmanager
def connect(address: str, workers: int | None, threads: int) -> Iterator[Any]:
    """Ray, connected to a cluster for the block, or to one that is started here for it.

    Args:
        address: Of the cluster, as ``ray.init`` takes it, or "local".
        workers: That a local one has room for; None for one per usable core.
        threads: Of each.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of the default
    try:
        import ray
    except ImportError as error:
        raise EnvironmentMissingError("ray is not installed", "pip install ray") from error
    on_termination = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        _require_listener(address)
        if address == LOCAL:
            cores = (workers or len(os.sched_getaffinity(0))) * threads
            local: dict[str, Any] = {
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
            }
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
    """How many workers the cluster has room for, all of them idle."""
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
    worker: Worker[Item, Result],
    items: Mapping[str, Item],
    workers: int,
    resources: dict[str, int],
    note: Callable[[str], None],
) -> Iterator[tuple[str, Result]]:
    """By so many actors. The item of one that is lost goes to the next that has nothing to do.

    Args:
        ray: What ``connect`` gave.
        worker: What each of them opens.
        items: By name, what to do.
        workers: Actors.
        resources: Of each, as Ray takes them: "num_cpus", "num_gpus".
        note: Is told when one was lost, and when none gets its resources.

    Raises:
        ResourceError: An item, or the opening of a worker, was lost ``ATTEMPTS`` times.
        SwinDeployError: As of the worker.
    """
    lost = tuple(
        getattr(ray.exceptions, name)
        for name in ("RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")
    )
    kind = ray.remote(**resources, max_restarts=0)(WorkerActor)
    shared, wanted = ray.put(worker), software()
    left, unfinished = list(reversed(list(items))), len(items)
    losses = Counter[str | None]()  # by item; None is the opening
    running: dict[Any, tuple[Any, str | None, float]] = {}  # of each when it was given
    clock = ItemClock()

    def start() -> None:
        actor = kind.remote(shared)
        running[actor.open.remote(wanted)] = actor, None, time.monotonic()

    for _ in range(min(workers, len(items))):
        start()
    idle: list[Any] = []
    while unfinished:
        while idle and left:
            free, todo = idle.pop(), left.pop()
            running[free.do.remote(items[todo])] = free, todo, time.monotonic()
        done, _ = ray.wait(list(running), num_returns=1, timeout=_WAIT_S)
        _end_overdue(ray, running, clock, note)
        if not done:
            if all(name is None for _, name, _ in running.values()):
                note("waiting for the cluster to open a worker")
            continue
        actor, name, given = running.pop(done[0])
        try:
            found = ray.get(done[0])
        except lost as error:
            count_loss(losses, name, "was lost", f": {error}", note)
            ray.kill(actor)  # it may only have been out of reach
            start()
            left.extend([] if name is None else [name])
            continue
        if isinstance(found, SwinDeployError):
            raise found
        idle.append(actor)
        if name is not None:
            clock.done(time.monotonic() - given)
            unfinished -= 1
            yield name, found


def _end_overdue(
    ray: Any,
    running: dict[Any, tuple[Any, str | None, float]],
    clock: ItemClock,
    note: Callable[[str], None],
) -> None:
    """Kill actors that have had an item for too long, so that their calls fail as of lost ones.

    Not those that have yet to open: they may wait for a place on the cluster.
    """
    for call, (actor, name, given) in running.items():
        late = name is not None and time.monotonic() - given > clock.limit_s
        if late and not ray.wait([call], num_returns=1, timeout=0)[0]:
            note(f"a worker was not done with {name} after {clock.limit_s:g} s")
            running[call] = actor, name, math.inf
            ray.kill(actor)
