"""The measurements of one run, each made once and kept in the journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from swin_deploy.errors import ConfigError
from swin_deploy.graph.int8.recipe import Recipe
from swin_deploy.graph.int8.sensitivity import Effect, PlaceKind, Probe, list_places, run_logits
from swin_deploy.metrics import FloatArray
from swin_deploy.sensitivity.figures import effect_of, effect_row
from swin_deploy.sensitivity.journal import Journal
from swin_deploy.sensitivity.report import Baseline, EffectRow
from swin_deploy.sensitivity.subject import Measured
from swin_deploy.sensitivity.worker import PlaceWorker
from swin_deploy.workers.crew import Crew


@dataclass(slots=True)
class Laboratory:
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
        measure = partial(self._measure, left)
        return effect_of(self.journal.get(name, EffectRow, measure))

    def _measure(self, left: Sequence[str]) -> EffectRow:
        return effect_row(self._opened().measure(left))

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
