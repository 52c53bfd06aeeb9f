"""The measurements of one run, each made once, by any worker; and the search for a placement.

The last bits of logits depend on the threads of the runtime, which are the same in every worker;
and on the kind of CPU, which nobody can choose.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError
from swin_deploy.core.files import Recorded
from swin_deploy.core.records import finite
from swin_deploy.graph.int8.places import Recipe
from swin_deploy.graph.int8.probe import Effect, PlaceKind, Probe, list_places, run_logits
from swin_deploy.measure.journal import Journal
from swin_deploy.measure.sensitivity.report import (
    Accuracy,
    Baseline,
    Cost,
    Costs,
    EffectRow,
    Figures,
    Mixed,
    SensitivityRequest,
)
from swin_deploy.measure.sensitivity.subject import Measured, cost_placement, why_not_compiled
from swin_deploy.measure.workers.base import require_same
from swin_deploy.measure.workers.crew import Crew
from swin_deploy.network.judge import FloatArray, wilson_interval


class PlaceWorker:
    """Quantises one place at a time, and no other: a ``workers.base.Worker``.

    Args:
        probe: Measures. Pickles, if what gives its images does.
        graph: That it measures on; on another machine its copy is another one.
        files: Absolute path of all else that it reads -> SHA-256.
    """

    def __init__(self, probe: Probe, graph: Recorded, files: Mapping[Path, str]) -> None:
        self._probe, self._graph, self._files = probe, graph, files
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Take a copy of the graph, and look whether the files are here, and the same ones."""
        require_same(self._graph.path, self._graph.sha256, self._graph.also)
        for path, expected in self._files.items():
            require_same(path, expected)
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="swin-deploy."))
        self._opened = replace(self._probe, source=self._graph.copy_to(Path(folder)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def do(self, item: str) -> Effect:
        """The effect of one place, by its name; errors as of ``Probe.measure``."""
        return self._opened.measure(only=(item,))


def effect_row(effect: Effect) -> EffectRow:
    """What a file has of it."""
    return EffectRow(**finite(asdict(effect)))


def effect_of(row: EffectRow) -> Effect:
    """What ``effect_row`` was made of."""
    worst, mean = (
        math.inf if found is None else found for found in (row.sqnr_db, row.mean_sqnr_db)
    )
    return Effect(worst, mean, row.agreeing, row.right)


def describe_accuracy(right: int | None, images: int) -> Accuracy:
    """Top-1 accuracy of so many images."""
    if right is None:
        return Accuracy(right=None, accuracy=None, interval=None)
    interval = wilson_interval(right, images)
    return Accuracy(right=right, accuracy=right / images, interval=interval)


def describe_effect(effect: Effect, images: int, right: int | None) -> Figures:
    """An effect on so many images, of which FP32 names so many rightly."""
    drop = None
    if effect.right is not None and right is not None:
        drop = 100 * (right - effect.right) / images
    accuracy = describe_accuracy(effect.right, images)
    return Figures(
        **asdict(effect_row(effect)),
        accuracy=accuracy.accuracy,
        interval=accuracy.interval,
        agreement=effect.agreeing / images,
        drop_points=drop,
    )


@dataclass(slots=True)
class KeptMeasurements:
    """Measures what has not been measured yet.

    Attributes:
        measured: The run and the images.
        recipe: Whose places.
        places: Those that it quantises, in the order in which they run.
        thresholds: Gives name of an activation -> threshold, when the first is needed.
        journal: Remembers.
        crew: Measures places that stand alone; its threads are those of everything.
        progress: Hears what takes long.
    """

    measured: Measured
    recipe: Recipe
    places: dict[str, PlaceKind]
    thresholds: Callable[[], dict[str, float]]
    journal: Journal
    crew: Crew
    progress: Callable[[str], None]
    _probe: Probe | None = field(default=None, init=False)
    _left_out: list[str] = field(default_factory=list, init=False)

    def baseline(self) -> Baseline:
        """Of FP32."""

        def measure() -> Baseline:
            probe = self._opened()
            labels, guesses = probe.labels, probe.reference.argmax(axis=1)
            right = None if labels is None else int((guesses == labels).sum())
            return Baseline(images=len(guesses), right=right, left_out=tuple(self._left_out))

        return self.journal.get("fp32", Baseline, measure)

    def alone(self) -> dict[str, Effect]:
        """Every place quantised and no other, by those who are there to measure."""
        names = {place: f"only {place}" for place in self.places}
        left = {f"place {p}": p for p, n in names.items() if n not in self.journal.measured}
        if left:
            worker = PlaceWorker(
                self._opened(), self.measured.subject.recorded, self.measured.files()
            )
            done = len(names) - len(left)
            self.progress(f"measuring {len(left)} places")
            for title, effect in self.crew.hand_out(worker, left):
                self.journal.get(names[left[title]], EffectRow, partial(effect_row, effect))
                done += 1
                self.progress(f"{title}: {done} of {len(names)} are measured")
        return {place: effect_of(self.journal.known(n, EffectRow)) for place, n in names.items()}

    def without(self, kept: Sequence[str]) -> Effect:
        """All places quantised but these, and those that the recipe leaves out with them."""
        quantised = self.quantised_without(kept)
        left = [name for name in self.places if name not in quantised]
        if not quantised:
            found = self.baseline()
            return Effect(np.inf, np.inf, found.images, found.right)
        self.progress(f"all but {len(left)} places" if left else "all places together")
        name = " ".join(["all but", *left]) if left else "all"
        row = self.journal.get(name, EffectRow, lambda: effect_row(self._opened().measure(left)))
        return effect_of(row)

    def quantised_without(self, kept: Sequence[str]) -> set[str]:
        """What is quantised with these places kept; nothing where no product would be."""
        subject = self.measured.subject
        try:
            return set(list_places(subject.graph, self.recipe, subject.batch.high, kept))
        except ConfigError:  # all of these are places, so this says that no product is left
            return set()

    def _opened(self) -> Probe:
        """The probe, with the outputs in FP32 computed when the first measurement is needed."""
        if self._probe is None:
            subject = self.measured.subject
            thresholds = self.thresholds()
            self.progress("computing the FP32 outputs")
            labels: list[NDArray[np.int64]] = []
            reference = run_logits(subject.graph, self._noting_labels(labels), self.crew.threads)
            self._probe = Probe(
                source=subject.graph,
                thresholds=thresholds,
                recipe=self.recipe,
                batch=subject.batch.high,
                images=self.measured.batches,
                labels=np.concatenate(labels) if labels else None,
                reference=reference,
                threads=self.crew.threads,
            )
        return self._probe

    def _noting_labels(self, labels: list[NDArray[np.int64]]) -> Iterator[FloatArray]:
        for images, classes in self.measured.read(self._left_out.append):
            if classes is not None:
                labels.append(classes)
            yield images


def find_fewest(ranking: Sequence[str], passes: Callable[[tuple[str, ...]], bool]) -> list[str]:
    """A small set of places that passes, by greed: not proven to be the smallest.

    1. If leaving out none passes, that is the answer.
    2. Binary search for the fewest of the most sensitive places that pass together, taken from
       the front of the ranking. All of them pass, because then nothing is quantised.
    3. Backwards through those, from the least sensitive: each is put back, and stays so where the
       rest passes still.

    Where step 2 ends with n of p places, that is 1 + ceil(log2 p) + n evaluations at most; those
    that repeat are for the caller to remember.

    Args:
        ranking: Different places, the most sensitive first.
        passes: Whether the network is good enough with these places left out, always the same for
            the same ones.

    Returns:
        Places to leave out, in the order of the ranking.
    """
    if passes(()):
        return []
    too_few, enough = 0, len(ranking)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if passes(tuple(ranking[:middle])):
            enough = middle
        else:
            too_few = middle
    left = list(ranking[:enough])
    for place in reversed(ranking[:enough]):
        fewer = [name for name in left if name != place]
        if passes(tuple(fewer)):
            left = fewer
    return left


def search_mixed(
    request: SensitivityRequest,
    lab: KeptMeasurements,
    ranking: list[str],
    images: int,
    right: int | None,
    note: Callable[[str], None],
) -> Mixed | None:
    """Find the fewest places to leave in FP16 for what the request asks; None if it asks nothing.

    Args:
        request: Its goal: a drop of top-1, or a floor in dB.
        lab: Measures placements.
        ranking: All places, the most sensitive first.
        images: How many are measured on.
        right: Of how many FP32 names the class rightly; None without labels.
        note: Hears what the user has to know.
    """
    if request.max_drop is None and request.min_sqnr_db is None:
        return None
    if request.max_drop is not None and 0 < request.max_drop < 100 / images:
        note(
            f"one of {images} images is {100 / images:.2g} points: --max-drop "
            f"{request.max_drop:g} is finer than that, as good as 0"
        )
    tried: set[frozenset[str]] = set()

    def passes(kept: tuple[str, ...]) -> bool:
        tried.add(frozenset(lab.quantised_without(kept)))
        effect = lab.without(kept)
        if request.min_sqnr_db is not None:
            return effect.sqnr_db >= request.min_sqnr_db
        if request.max_drop is None or right is None or effect.right is None:
            raise ConfigError("a drop of top-1 is measured with labels", "--labelled")
        return 100 * (right - effect.right) <= request.max_drop * images * (1 + 1e-12)

    keep = find_fewest(ranking, passes)
    quantised = lab.quantised_without(keep)
    left = [name for name in lab.places if name not in quantised]
    if keep and not quantised:
        note("no placement with INT8 meets the goal: stay on FP16")
    elif keep:
        note("the places were picked on these images: check the result on others")
    cost = None
    if (reason := why_not_compiled(lab.recipe)) is not None:
        note(f"kernels and bytes were not counted: {reason}")
    else:
        mixed = _cost(lab, keep) if keep and quantised else None
        cost = Costs(all=_cost(lab, []), mixed=mixed)
    return Mixed(
        max_drop_points=request.max_drop,
        min_sqnr_db=request.min_sqnr_db,
        keep=tuple(keep),
        left=tuple(left),
        quantised=len(quantised),
        placements_tried=len(tried),
        cost=cost,
        **asdict(describe_effect(lab.without(keep), images, right)),
    )


def _cost(lab: KeptMeasurements, keep: list[str]) -> Cost:
    subject = lab.measured.subject

    def measure() -> Cost:
        return cost_placement(
            subject.graph,
            lab.thresholds(),
            lab.recipe,
            subject.batch.high,
            keep,
            subject.fp32_nodes,
            lab.progress,
        )

    return lab.journal.get(" ".join(["cost", *keep]), Cost, measure)
