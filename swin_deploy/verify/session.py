"""A run whose sides are compared: what was run so far, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from swin_deploy.data.inputs import InputSet, make_noise_for
from swin_deploy.judge import powers_of
from swin_deploy.metrics import FloatArray
from swin_deploy.model.build import Network
from swin_deploy.run.finished import Run
from swin_deploy.runners.base import run_all
from swin_deploy.runners.ends import BEFORE
from swin_deploy.verify.bisect import bisect
from swin_deploy.verify.checks import check_pair
from swin_deploy.verify.comparison import NO_PHOTOS, Comparison
from swin_deploy.verify.depth import Bisection
from swin_deploy.verify.names import EAGER
from swin_deploy.verify.outputs import Outputs
from swin_deploy.verify.sides import Side, find_side, open_side, tensor_floor
from swin_deploy.verify.slots import check_slots

BISECTED = 2  # images of a kind: each is one run per side
Pair = tuple[Side, Side]


@dataclass(slots=True)
class Session:
    """A run, with all that was compared of it.

    Attributes:
        opened: The run.
        model: Its eager network.
        sides: All that it has, by name.
        scratch: A folder for graphs.
        progress: Is told what is being done.
        not_run: Side -> why this machine cannot run it.
        results: Side -> its outputs for each set of images.
        checks: Lines of the report.
    """

    opened: Run
    model: Network
    sides: dict[str, Side]
    scratch: Path
    progress: Callable[[str], None]
    not_run: dict[str, str] = field(default_factory=dict)
    results: dict[str, list[Outputs]] = field(default_factory=dict)
    checks: list[Comparison] = field(default_factory=list)

    def run(self, side: Side, inputs: Sequence[InputSet], slots: FloatArray | None) -> None:
        """Put all inputs through a side.

        Args:
            side: To run; it is closed again, so that large networks do not pile up in memory.
            inputs: Sets of images.
            slots: Images to fill batches with; None to leave that out.

        Raises:
            EnvironmentMissingError: This machine cannot run it.
        """
        self.progress(f"running {side.name}")
        with open_side(self.opened, side, self.model, self.scratch) as runner:
            self.results[side.name] = [run_all(runner, images.images) for images in inputs]
            if slots is not None:
                sizes = slot_sizes(self.opened)
                self.checks += check_slots(runner, side.name, side.precision, slots, sizes)

    def pairs(self, between: Sequence[tuple[str, str]]) -> list[Pair]:
        """The pairs that are named; without names, eager with everything that runs here.

        Raises:
            ConfigError: There is no side of a name.
        """
        if between:
            named = [
                (find_side(self.opened, self.sides, a), find_side(self.opened, self.sides, b))
                for a, b in between
            ]
            logits = [(self._before(a), self._before(b)) for a, b in named]
            return list(dict.fromkeys([*named, *logits]))
        pairs = []
        for name, side in self.sides.items():
            if (why := self.why_not(side)) is not None:
                self.not_run[name] = why
            elif name != EAGER:
                pairs.append((self.sides[EAGER], side))
        return pairs

    def _before(self, side: Side) -> Side:
        """The same before its ends, where it has any that can be looked before."""
        return self.sides.get(f"{side.name}{BEFORE}", side)

    def why_not(self, side: Side) -> str | None:
        """Why this machine cannot run a side; None if it can."""
        if side.engine is None:
            return None
        runner = self.opened.open_engine(side.engine)
        return runner if isinstance(runner, str) else None

    def compare(self, pairs: Sequence[Pair], inputs: Sequence[InputSet]) -> None:
        """Run all sides of ``pairs``, look at their slots, and compare what they gave."""
        filling = self._filling(inputs)
        for side in {side.name: side for pair in pairs for side in pair}.values():
            self.run(side, inputs, filling)
        for a, b in pairs:
            powers = powers_of(self.results[a.name], self.opened.interface)
            for index, images in enumerate(inputs):
                results = self.results[a.name][index], self.results[b.name][index]
                self.checks += check_pair(self.opened, a, b, images, results, powers)

    def bisect(self, pairs: Sequence[Pair], inputs: Sequence[InputSet]) -> list[Bisection]:
        """Look into every pair that has two different graphs, or eager and a graph."""
        found: dict[tuple[Path | None, Path | None], Bisection] = {}
        for a, b in pairs:
            if a.graph == b.graph or (a.graph, b.graph) in found:
                continue
            self.progress(f"looking into {a.name} and {b.name}")
            natural = [images for images in inputs if images.natural]
            int8 = "int8" in (a.precision, b.precision)
            sets = natural if int8 and natural else [inputs[0], *natural]
            images = [
                (f"{one.name}, image {index + 1}", one.images[index : index + 1])
                for one in sets[:2]
                for index in range(min(BISECTED, len(one.images)))
            ]
            judged = not int8 or bool(natural)
            own_db = min(self.opened.floors_db.values(), default=None)
            floor = tensor_floor((a, b), own_db) if judged else None
            found[a.graph, b.graph] = one_pair = bisect(
                self.opened, self.model, (a, b), images, self.scratch, floor
            )
            if not judged:
                one_pair.notes.append(f"not judged: {NO_PHOTOS}")
        return list(found.values())

    def _filling(self, inputs: Sequence[InputSet]) -> FloatArray:
        """Images to fill a batch with: photos if there are any, and then noise."""
        needed, config = max(slot_sizes(self.opened)), self.opened.config
        natural = [images.images for images in inputs if images.natural]
        noise = make_noise_for(self.opened.images, needed, config.in_channels, config.image_size)
        return np.concatenate([*natural[:1], noise.images])[:needed]


def slot_sizes(opened: Run) -> tuple[int, ...]:
    """The batches that are filled with one image: the largest, and the largest odd one below."""
    low, high = opened.batch.low, opened.batch.high
    odd = [size for size in range(max(low, 3), high) if size % 2]
    return tuple(sorted({*odd[-1:], high}))
