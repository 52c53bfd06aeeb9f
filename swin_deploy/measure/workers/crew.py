"""Who does the work: this process, several, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from swin_deploy.measure.workers.base import Worker
from swin_deploy.measure.workers.cluster import connect, room_for, run_on_ray
from swin_deploy.measure.workers.processes import run_here, run_in_processes

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, kw_only=True)
class Crew:
    """This process, several, or the actors of a Ray cluster.

    Attributes:
        wanted: How many workers; None for one, or for as many as the cluster has room for.
        ray: Address of a Ray cluster, or "local" to start one here; None for none.
        threads: Of each worker.
        on_gpu: Whether each needs a GPU.
        note: Hears of workers that were lost.
        size: How many there are; before they are needed, how many are wanted.
        lost: What was said of those that were lost.
    """

    wanted: int | None
    ray: str | None
    threads: int
    on_gpu: bool
    note: Callable[[str], None]
    size: int = field(init=False)
    lost: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.size = self.wanted or 1

    @property
    def kind(self) -> str:
        """What a report calls it."""
        if self.ray is not None:
            return "ray"
        return "processes" if self.size > 1 else "one process"

    def hand_out(
        self, worker: Worker[Item, Result], items: Mapping[str, Item]
    ) -> Iterator[tuple[str, Result]]:
        """Names of items and their results, as each is done and in any order."""
        if not items:
            return
        if self.ray is not None:
            with connect(self.ray, self.wanted, self.threads) as ray:
                room = room_for(ray, self.threads, self.on_gpu)
                self.size = min(self.wanted or room, room)
                resources = {"num_cpus": self.threads, "num_gpus": int(self.on_gpu)}
                yield from run_on_ray(ray, worker, items, self.size, resources, self._lose)
        elif self.size > 1:
            yield from run_in_processes(worker, items, self.size, self._lose)
        else:
            yield from run_here(worker, items)

    def _lose(self, text: str) -> None:
        self.lost.append(text)
        self.note(text)
