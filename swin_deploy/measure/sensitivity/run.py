"""From a run and images to a report: every place alone, and the fewest to leave out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swin_deploy.core.files import package_version, require_writable, source_digest
from swin_deploy.core.reports import noting
from swin_deploy.data.samples import ImageSample, find_calibration, read_batches
from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.places import Recipe, recipe_for
from swin_deploy.graph.int8.probe import list_places
from swin_deploy.graph.int8.quantize import tensors_to_calibrate
from swin_deploy.measure.journal import Journal
from swin_deploy.measure.sensitivity.measure import (
    KeptMeasurements,
    describe_accuracy,
    describe_effect,
    search_mixed,
)
from swin_deploy.measure.sensitivity.report import Place, SensitivityReport, SensitivityRequest
from swin_deploy.measure.sensitivity.subject import Measured, Subject, find_measured, open_run_graph
from swin_deploy.measure.workers.crew import Crew

_PACKAGES = ("onnx-ir", "onnxruntime", "tensorrt-rtx-cu13")


def measure_sensitivity(
    request: SensitivityRequest, progress: Callable[[str], None], note: Callable[[str], None]
) -> dict[str, Any]:
    """Measure every place alone and all together, search if a goal was set, write the report.

    The report is the same for any number of workers, here or on a cluster.

    Args:
        request: What is wanted.
        progress: Hears what takes long.
        note: Hears what the user has to know.

    Returns:
        The JSON object of ``sensitivity --json``, without the journal that the report has too.
    """
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as folder:
        return _measure(request, open_run_graph(request.run, Path(folder)), progress, note)


def _measure(
    request: SensitivityRequest,
    subject: Subject,
    progress: Callable[[str], None],
    note: Callable[[str], None],
) -> dict[str, Any]:
    notes: list[str] = []
    recipe = recipe_for(request.kind, request.also)
    remember = noting(notes, note)
    require_writable(request.report.absolute().parent)
    images, labelled = (
        path and path.absolute() for path in (request.images, request.labelled)
    )  # workers elsewhere have other working directories
    named = find_measured(subject, images, labelled, request.sorted_folders)
    calibration = find_calibration(
        request.calibration.absolute(), request.count, request.seed, subject.variant.input_shape
    )
    for text in calibration.notes:
        remember(text)
    measured = named or Measured(subject, calibration)
    for text in named.images.notes if named else ():
        remember(text)
    if named is None:
        remember("measured on the images of the calibration, which flatters: --images names others")
    if subject.random:
        remember("the weights are random: what is sensitive in a trained network may differ")
    places = list_places(subject.graph, recipe, subject.batch.high)
    identity = _identity(request, subject, recipe, calibration, measured)
    lab = KeptMeasurements(
        measured=measured,
        recipe=recipe,
        places=places,
        thresholds=_thresholds(request, subject, recipe, calibration, progress, note),
        journal=Journal(request.report, identity, note),
        crew=Crew(
            wanted=request.workers,
            ray=request.ray,
            threads=request.threads,
            on_gpu=False,
            note=note,
        ),
        progress=progress,
    )
    baseline = lab.baseline()
    count, right = baseline.images, baseline.right
    for text in baseline.left_out:
        remember(text)
    alone = lab.alone()
    order = list(places)
    ranking = sorted(alone, key=lambda name: (alone[name].mean_sqnr_db, order.index(name)))
    together = describe_effect(lab.without(()), count, right)
    mixed = search_mixed(request, lab, ranking, count, right, remember)
    report = SensitivityReport(
        network=subject.variant.name,
        run=str(request.run),
        recipe=request.kind,
        method=request.method,
        calibration_images=len(calibration),
        images=count,
        fp32=describe_accuracy(right, count),
        places=tuple(
            Place(
                name=name,
                kind=places[name],
                order=order.index(name),
                **asdict(describe_effect(alone[name], count, right)),
            )
            for name in ranking
        ),
        all=together,
        mixed=mixed,
        notes=tuple(notes),
    ).as_dict()
    lab.journal.finish(report)
    return report


def _identity(
    request: SensitivityRequest,
    subject: Subject,
    recipe: Recipe,
    calibration: ImageSample,
    measured: Measured,
) -> dict[str, Any]:
    return {
        "graph": subject.recorded.sha256,
        "batch": subject.batch.high,
        "threads": request.threads,
        "fp32_nodes": list(subject.fp32_nodes),
        "calibration": calibration.identity(*subject.variant.view),
        "images": measured.identity,
        "method": request.method,
        "recipe": recipe.as_dict(),
        "packages": {name: package_version(name) for name in _PACKAGES},
        "source": source_digest(),
    }


def _thresholds(
    request: SensitivityRequest,
    subject: Subject,
    recipe: Recipe,
    calibration: ImageSample,
    progress: Callable[[str], None],
    note: Callable[[str], None],
) -> Callable[[], dict[str, float]]:
    """Calibrates when it is first called; the statistics stay beside the report."""
    found: dict[str, float] = {}

    def thresholds() -> dict[str, float]:
        if not found:
            progress("calibrating")
            statistics = collect_statistics(
                subject.graph,
                tensors_to_calibrate(subject.graph, recipe, subject.batch.high),
                lambda: read_batches(calibration, *subject.variant.view, subject.at_once, note),
                request.report.with_name(f"{request.report.stem}.calibration.npz"),
                calibration.identity(*subject.variant.view),
                lambda what, done, total: progress(f"{what}: {done} of {total} images"),
                total=len(calibration),
                note=note,
            )
            found.update({n: item.threshold(request.method) for n, item in statistics.items()})
        return found

    return thresholds
