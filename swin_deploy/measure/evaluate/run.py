"""From artifacts and labelled photos to a report, whoever does the shards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import package_version, require_writable, source_digest
from swin_deploy.core.reports import noting
from swin_deploy.data.images import require_readable
from swin_deploy.data.labelled import LabelledSet, find_labelled
from swin_deploy.data.samples import folder_of
from swin_deploy.data.targets import TargetSet, find_targets
from swin_deploy.engine.here import PACKAGES, describe_machine
from swin_deploy.measure.evaluate.candidates import Candidates, find_candidates
from swin_deploy.measure.evaluate.report import (
    KIND,
    Effort,
    EvaluateRequest,
    Identity,
    ImagesIdentity,
    Settings,
    without_alternative,
)
from swin_deploy.measure.evaluate.scores_report import KIND as SCORES_KIND
from swin_deploy.measure.evaluate.scores_report import THRESHOLD, make_scores_report
from swin_deploy.measure.evaluate.shards import (
    Shard,
    ShardJournal,
    ShardResult,
    cut_shards,
    misfit,
    open_journal,
    shard_size,
)
from swin_deploy.measure.evaluate.statistics import make_report
from swin_deploy.measure.evaluate.worker import ShardWorker, Work
from swin_deploy.measure.journal import journal_path
from swin_deploy.measure.workers.crew import Crew


def evaluate_candidates(
    request: EvaluateRequest, progress: Callable[[str], None], note: Callable[[str], None]
) -> dict[str, Any]:
    """Run every artifact on every photo, count, compare with the first, write the report.

    All but "work" of the report is the same for any number of workers, here or on a cluster.

    Args:
        request: What is wanted.
        progress: Hears how far it is.
        note: Hears what the user has to know.

    Returns:
        The JSON object of ``evaluate --json``.
    """
    notes = list[str]()
    remember = noting(notes, note)
    progress("opening the artifacts")
    field = find_candidates(request)
    out = report_path(request, field)
    require_writable(out.parent)
    progress("listing the photos")
    single = field.task == "single-label"
    labelled = _find_labelled(request, field) if single else _find_targets(request, field)
    for text in labelled.notes:
        remember(text)
    for name, why in field.not_run.items():
        remember(f"{name} was not run: {why}")
    if field.random:
        remember("the weights are random: they predict nothing")
    cores = len(os.sched_getaffinity(0)) // (request.workers or 1)  # for each worker
    work = Work(
        artifacts=field.artifacts,
        folder=folder_of(labelled.sample.source).absolute(),
        batch=request.batch,
        classes=field.classes,
        task=field.task,
        decoders=request.threads if request.ray is not None else max(1, cores),
    )
    identity = _identity(request, field, labelled)
    shards = cut_shards(labelled.sample, request.batch)
    fits = partial(
        misfit,
        shards=shards,
        artifacts=len(field.artifacts),
        classes=field.classes,
        task=field.task,
    )
    kind = KIND if single else SCORES_KIND
    with open_journal(out, identity.as_dict(), note, fits, kind) as journal:
        effort = _run_shards(request, field, work, shards, journal, progress, note)
        results = [journal.done[shard.index] for shard in shards]
        _require_alike(results, journal)
        ends: dict[str, Any] = {"out": out, "identity": identity, "work": effort}
        if isinstance(labelled, LabelledSet):
            made = make_report(field, labelled, results, remember, notes, **ends)
            report = made.as_dict()
        else:
            threshold = THRESHOLD if request.threshold is None else request.threshold
            report = make_scores_report(
                field, labelled, results, threshold, remember, notes, **ends
            ).as_dict()
        if said := journal.finish(report):
            note(said)
    return report


def report_path(request: EvaluateRequest, field: Candidates) -> Path:
    """Where the report goes."""
    if request.out is not None:
        return request.out.absolute()
    if field.home is None:
        raise ConfigError("none of the artifacts belongs to a run", "--out FILE for the report")
    return field.home.path / ("evaluate.json" if field.task == "single-label" else "scores.json")


def _find_targets(request: EvaluateRequest, field: Candidates) -> TargetSet:
    return find_targets(
        request.data,
        field.task,
        field.classes,
        field.class_names,
        request.limit,
        request.seed,
        request.labels,
    )


def _find_labelled(request: EvaluateRequest, field: Candidates) -> LabelledSet:
    try:
        return find_labelled(
            request.data,
            field.classes,
            field.class_names,
            request.limit,
            request.seed,
            sorted_folders=request.sorted_folders,
            labels=request.labels,
            class_map=request.class_map,
        )
    except InputError as error:
        raise without_alternative(error) from error


def _identity(
    request: EvaluateRequest, field: Candidates, labelled: LabelledSet | TargetSet
) -> Identity:
    """All that the results of the shards depend on."""
    views = dict.fromkeys(artifact.view for artifact in field.artifacts)
    return Identity(
        artifacts=tuple(artifact.identity() for artifact in field.artifacts),
        images=tuple(
            ImagesIdentity(
                **labelled.identity(size, steps) | {"size": size, "preprocessing": steps}
            )
            for size, steps in views
        ),
        settings=Settings(
            batch=request.batch, threads=request.threads, shard=shard_size(request.batch)
        ),
        packages={name: package_version(name) for name in PACKAGES},
        source=source_digest(),
    )


def _run_shards(
    request: EvaluateRequest,
    field: Candidates,
    work: Work,
    shards: Sequence[Shard],
    journal: ShardJournal,
    progress: Callable[[str], None],
    note: Callable[[str], None],
) -> Effort:
    """Put into the journal what is not there yet; returns who did it, and how fast."""
    left = {f"shard {s.index}": s for s in shards if s.index not in journal.done}
    total = sum(len(shard.images) for shard in shards)
    before = total - sum(len(shard.images) for shard in left.values())
    crew = Crew(
        wanted=request.workers,
        ray=request.ray,
        threads=request.threads,
        on_gpu=field.on_gpu,
        note=note,
    )
    started, done = time.monotonic(), 0
    progress(f"opening {len(field.artifacts)} artifacts")
    _require_readable(journal, total)
    for _, result in crew.hand_out(ShardWorker(work), left):
        journal.add(result)
        done += len(result.positions) + len(result.left_out)
        _require_readable(journal, total)
        rate = done / (time.monotonic() - started)
        progress(f"{before + done} of {total} images, {rate:.0f} images/s")
    seconds = time.monotonic() - started
    return Effort(
        by=crew.kind,
        workers=crew.size,
        images=done,
        seconds=seconds,
        images_per_s=done / seconds if done else None,
        lost=tuple(crew.lost),
        machine=describe_machine(),
    )


def _require_alike(results: Sequence[ShardResult], journal: ShardJournal) -> None:
    """Each artifact gives as many classes for every photo: a journal may say otherwise."""
    if (
        len({tuple(len(rows[0]) for rows in result.classes if rows) for result in results} - {()})
        > 1
    ):
        raise InputError(
            f"{journal_path(journal.report)} has other numbers of classes than the artifacts give",
            "remove it",
        )


def _require_readable(journal: ShardJournal, total: int) -> None:
    left_out = [why for result in journal.done.values() for _, why in result.left_out]
    require_readable(left_out, total, so_far=True)
