"""A run whose candidates are compared, here or with outputs of another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.core.errors import InputError
from swin_deploy.core.files import digest
from swin_deploy.data.images import InputSet
from swin_deploy.engine.here import describe_machine
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.ends import BEFORE
from swin_deploy.measure.verify.bisect import Bisection, bisect
from swin_deploy.measure.verify.candidates import (
    Candidate,
    find_candidate,
    open_candidate,
    tensor_floor,
)
from swin_deploy.measure.verify.checks import check_pair, check_slots
from swin_deploy.measure.verify.comparison import NO_PHOTOS, Comparison
from swin_deploy.measure.verify.outputs import Outputs
from swin_deploy.measure.verify.report import EAGER
from swin_deploy.measure.verify.saved import SavedOutputs, save_outputs
from swin_deploy.network.interface import PRECISIONS
from swin_deploy.network.judge import FloatArray, powers_of
from swin_deploy.network.model.build import Network
from swin_deploy.run.finished import Run

BISECTED = 2  # images of a kind: each is one run per side
Pair = tuple[Candidate, Candidate]


@dataclass(slots=True)
class Session:
    """A run, with all that was compared of it.

    Attributes:
        opened: The run.
        model: Its eager network.
        sides: All that it has, by name.
        scratch: A folder for graphs.
        progress: Is told what is being done.
        not_run: Candidate -> why this machine cannot run it.
        results: Candidate -> its outputs for each set of images.
        checks: Lines of the report.
    """

    opened: Run
    model: Network
    sides: dict[str, Candidate]
    scratch: Path
    progress: Callable[[str], None]
    not_run: dict[str, str] = field(default_factory=dict)
    results: dict[str, list[Outputs]] = field(default_factory=dict)
    checks: list[Comparison] = field(default_factory=list)

    def run(self, side: Candidate, inputs: Sequence[InputSet], slots: FloatArray | None) -> None:
        """Put all inputs through a side.

        Args:
            side: To run; it is closed again, so that large networks do not pile up in memory.
            inputs: Sets of images.
            slots: Images to fill batches with; None to leave that out.

        Raises:
            EnvironmentMissingError: This machine cannot run it.
        """
        self.progress(f"running {side.name}")
        with open_candidate(self.opened, side, self.model, self.scratch) as runner:
            self.results[side.name] = [run_all(runner, images.images) for images in inputs]
            if slots is not None:
                sizes = slot_sizes(self.opened)
                self.checks += check_slots(runner, side.name, side.precision, slots, sizes)

    def pairs(self, between: Sequence[tuple[str, str]]) -> list[Pair]:
        """The pairs that are named; without names, eager with everything that runs here."""
        if between:
            find = partial(find_candidate, self.opened, self.sides)
            named = [(find(a), find(b)) for a, b in between]
            logits = [(self._before(a), self._before(b)) for a, b in named]
            return list(dict.fromkeys([*named, *logits]))
        pairs = []
        for name, side in self.sides.items():
            if (why := self.why_not(side)) is not None:
                self.not_run[name] = why
            elif name != EAGER:
                pairs.append((self.sides[EAGER], side))
        return pairs

    def _before(self, side: Candidate) -> Candidate:
        """The same before its ends, where it has any that can be looked before."""
        return self.sides.get(f"{side.name}{BEFORE}", side)

    def why_not(self, side: Candidate) -> str | None:
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
        needed = max(slot_sizes(self.opened))
        natural = [images.images for images in inputs if images.natural]
        return np.concatenate([*natural[:1], self.opened.noise(needed).images])[:needed]


def slot_sizes(opened: Run) -> tuple[int, ...]:
    """The batches that are filled with one image: the largest, and the largest odd one below."""
    low, high = opened.batch.low, opened.batch.high
    odd = [size for size in range(max(low, 3), high) if size % 2]
    return tuple(sorted({*odd[-1:], high}))


def network_digest(opened: Run) -> str:
    """Hex digest of the network and its weights: the same wherever it was exported."""
    weights = opened.seed if opened.weights is None else opened.weights.sha256
    return digest({"network": asdict(opened.config), "weights": weights})


def save_session(session: Session, path: Path, inputs: list[InputSet]) -> None:
    """Write what the sides of a run gave; ONNX files from elsewhere are not kept."""
    kept = {name: session.sides[name] for name in session.results if name in session.sides}
    header = {
        "network": session.opened.config.name,
        "run": network_digest(session.opened),
        "machine": asdict(describe_machine()),
        "sides": {
            name: {"precision": side.precision, "sha256": side.sha256}
            for name, side in kept.items()
        },
    }
    save_outputs(path, header, inputs, {name: session.results[name] for name in kept})


def compare_saved(session: Session, saved: SavedOutputs, path: Path) -> list[str]:
    """Compare outputs from elsewhere with eager here, and with the same side here if it runs.

    Args:
        session: Gets the checks, and why a side does not run here.
        saved: From elsewhere.
        path: Its file, for errors.

    Returns:
        What is to be said of it.
    """
    opened, header = session.opened, saved.header
    if header.get("run") != network_digest(opened):
        raise InputError(
            f"{path} was saved from {header.get('network')} with other weights or settings than "
            f"{opened.path} has",
            "the run that it was saved from, or the same weights exported again",
        )
    shape = (opened.config.in_channels, *opened.config.image_size)
    if wrong := next((i for i in saved.inputs if i.images.shape[1:] != shape), None):
        raise InputError(f"{path} has images of {wrong.images.shape[1:]}, expected {shape}")
    elsewhere = {
        name: _side(name, info, path, session.sides.get(name))
        for name, info in header["sides"].items()
    }
    machine = header.get("machine")
    facts = machine if isinstance(machine, dict) else {}
    notes = [f"saved on {facts.get('processor')}, {facts.get('system')}"]
    here = {EAGER: session.sides[EAGER]}
    for name in elsewhere:
        if name not in session.sides:
            session.not_run[name] = "this run has none of that name; it was compared with eager"
        elif (why := session.why_not(session.sides[name])) is not None:
            session.not_run[name] = f"{why}; what was saved was compared with eager"
        else:
            here[name] = session.sides[name]
            if header["sides"][name].get("sha256") != here[name].sha256:
                notes.append(f"{name} was another file there: exported again, or by other versions")
    for side in here.values():
        session.run(side, saved.inputs, None)
    for name, other in elsewhere.items():
        for own in (here[side] for side in dict.fromkeys((EAGER, name)) if side in here):
            results, theirs = session.results[own.name], saved.outputs[name]
            powers = powers_of(results, opened.interface)
            labelled = replace(own, name=f"{own.name}, here")
            for images, *pair in zip(saved.inputs, results, theirs, strict=True):
                session.checks += check_pair(
                    opened, labelled, other, images, (pair[0], pair[1]), powers, "saved"
                )
    return notes


def _side(name: str, info: Mapping[str, Any], path: Path, here: Candidate | None) -> Candidate:
    precision = info.get("precision")
    if precision not in PRECISIONS:
        raise InputError(f"{path}: {name} has the precision {precision!r}")
    return Candidate(
        f"{name}, saved", precision, photos_db=None if here is None else here.photos_db
    )
