"""Runs the stages, skips what is current, and publishes the folder if the gate lets it pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import EnvironmentMissingError, VerificationError, raise_all
from swin_deploy.core.files import naming
from swin_deploy.core.records import decode, load_json
from swin_deploy.data.images import PhotoFolder, find_photos
from swin_deploy.data.labelled import find_labelled
from swin_deploy.data.samples import find_calibration
from swin_deploy.measure.verify.comparison import VerifyReport
from swin_deploy.network.catalogue import family_of
from swin_deploy.network.model import import_torch
from swin_deploy.pipeline.context import RunContext
from swin_deploy.pipeline.engines import target_notes
from swin_deploy.pipeline.plan import make_plan, missing_inputs
from swin_deploy.pipeline.request import ExportRequest, Listener
from swin_deploy.pipeline.stages import Stage, plan_stages
from swin_deploy.run.details import VERIFY, ExportDetails, VerifyDetails, WeightsDetails
from swin_deploy.run.folder import RunFolder, open_run
from swin_deploy.run.manifest import Header, Photos, StageRecord, Weights, stage_key


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run that passed its gate and is published.

    Attributes:
        path: The run folder.
        header: What the manifest says of network, weights and batch.
        stages: Stage name -> record.
        current: Names of the stages that did not have to run.
        notes: What the user has to know.
        verification: The content of ``verify.json``.
        seconds: Wall-clock time of the whole run.
    """

    path: Path
    header: dict[str, Any]
    stages: dict[str, StageRecord]
    current: tuple[str, ...]
    notes: tuple[str, ...]
    verification: dict[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``export --json``."""
        return asdict(self) | {"path": str(self.path)}


def run_export(
    request: ExportRequest, listener: Listener, adapt: Callable[[list[Stage]], list[Stage]] = list
) -> RunResult:
    """From a network to a published run folder.

    Args:
        request: What to do.
        listener: Hears what is being done.
        adapt: Changes the plan before it is carried out.

    Raises:
        SwinDeployError: Some stage could not do its work or failed the gate; what an earlier run
            published is as it was.
    """
    start = time.monotonic()
    raise_all(missing_inputs(request, request.variant, request.out))
    plan = make_plan(request)
    photos = None if request.images is None else find_photos(request.images)
    options = request.int8
    calibration = labelled = None
    if options.calibration is not None:
        calibration = find_calibration(options.calibration, options.images, options.seed)
        calibration.require_fit(*request.variant.view)
    if options.labelled is not None:
        classes = request.variant.config.num_classes
        labelled = find_labelled(options.labelled, classes, request.labels)
    stages = adapt(plan_stages(request, plan, photos, calibration, labelled))
    notes: list[str] = []
    current: list[str] = []

    def note(text: str) -> None:
        if text not in notes:
            notes.append(text)
            listener.note(text)

    with open_run(request.out, request.wait_s) as folder:
        folder.refuse_foreign(name for stage in stages for name in stage.outputs)
        context = RunContext(
            request, plan, folder, photos, calibration, labelled, note, listener.advanced
        )
        if photos is not None and photos.found > len(photos.chosen):
            note(
                f"verifying on {len(photos.chosen)} of {photos.found} photos, evenly over their "
                "sorted names; swin-deploy verify takes all"
            )
        for text in (
            *target_notes(request, plan),
            *(labelled.notes if labelled is not None else ()),
        ):
            note(text)
        for stage in stages:
            found = folder.find(stage.name, _key(stage, folder))
            if found is not None and stage.holds(folder.current):
                current.append(stage.name)
            else:
                _run_stage(stage, context, listener)
            record = folder.current.stages.get(stage.name)
            for text in record.details.get("notes", ()) if record is not None else ():
                note(text)  # every time, and into the manifest: they hold for the files
        path = folder.file(VERIFY)
        verification = decode(VerifyReport, load_json(path), path, newer=True)
        header = _header(request, photos, folder, notes)
        for left in folder.publish(header):
            note(f"{request.out / left} is left over from another run and no longer listed")
    return RunResult(
        path=request.out,
        header=header.as_dict(),
        stages=folder.current.stages,
        current=tuple(current),
        notes=tuple(notes),
        verification=verification.as_dict(),
        seconds=time.monotonic() - start,
    )


def _key(stage: Stage, folder: RunFolder) -> str:
    present = folder.current.outputs()
    inputs = {name: present[name] for name in stage.inputs if name in present}
    return stage_key(stage.name, stage.spec, inputs, stage.packages)


def _run_stage(stage: Stage, context: RunContext, listener: Listener) -> None:
    listener.started(stage.title)
    import_torch()  # here and not above: a run in which all is current needs none
    start = time.monotonic()
    context.said.clear()
    try:
        with naming(context.folder.path / next(iter(stage.outputs), "")):
            details = stage.action(context)
        details["notes"] = [*details.get("notes", ()), *context.said]
    except EnvironmentMissingError as error:
        if not stage.optional:
            raise
        context.say(f"left out: {error.problem}; to have it: {error.hint}")
        return
    except VerificationError:
        context.folder.discard()  # nothing that failed may be found again by the next run
        raise
    context.folder.record(
        stage.name, _key(stage, context.folder), stage.outputs, details, time.monotonic() - start
    )


def _header(
    request: ExportRequest, photos: PhotoFolder | None, folder: RunFolder, notes: list[str]
) -> Header:
    (export,) = folder.current.details(ExportDetails).values()
    (gate,) = folder.current.details(VerifyDetails).values()
    return Header(
        family=family_of(request.variant.config),
        variant=request.variant.config,
        preprocessing=request.variant.preprocessing,
        parameters=export.parameters,
        weights=_provenance(request, folder),
        batch=request.batch,
        outputs=request.outputs,
        interface=request.interface,
        photos=None
        if photos is None
        else Photos(used=len(photos.chosen), found=photos.found, sha256=photos.sha256),
        never_run=gate.not_run,
        notes=tuple(notes),
    )


def _provenance(request: ExportRequest, folder: RunFolder) -> Weights:
    if request.weights is None:
        return Weights(source="random", seed=request.seed)
    (read,) = folder.current.details(WeightsDetails).values()
    facts = {"file": read.file, "sha256": read.sha256, "dialect": read.dialect}
    return decode(Weights, request.provenance | facts, request.weights)
