"""From a checkpoint and labelled photos to a fine-tuned one and its INT8 graph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_deploy.checkpoints.source import checkpoint_file
from swin_deploy.data.calibration import CalibrationSet, find_calibration
from swin_deploy.files import digest, sha256
from swin_deploy.installed import package_version
from swin_deploy.narrow import present
from swin_deploy.qat.data import LabelledPhotos, find_labelled_photos
from swin_deploy.qat.folder import open_folder
from swin_deploy.qat.request import QatRequest
from swin_deploy.qat.session import Listener, Session

_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxsim", "onnxruntime", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class QatResult:
    """A fine-tuning whose files are published.

    Attributes:
        path: The folder.
        report: The content of ``qat.json``.
        current: Whether it lay there already.
    """

    path: Path
    report: dict[str, Any]
    current: bool

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``qat --json``."""
        return {"path": str(self.path), "current": self.current} | self.report


def run_qat(request: QatRequest, listener: Listener) -> QatResult:
    """Fine-tune, and publish checkpoint, graphs, thresholds and report.

    Raises:
        SwinDeployError: Something is unusable, or a check failed; what an earlier run published
            is as it was. Of finished epochs the next run does not repeat any.
    """
    start = time.monotonic()
    variant, int8 = request.variant, request.int8
    listener.started("reading the lists of photos")
    images = present(int8.calibration)  # or there is no request
    calibration = find_calibration(images, int8.images, int8.seed, variant.input_shape)
    train = find_labelled_photos(request.data, variant, request.labels)
    val = None
    if request.val is not None:
        val = find_labelled_photos(request.val, variant, request.labels)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        listener.note(text)

    inputs = _inputs(request, calibration, train)
    learnt = digest(inputs)  # what the training depends on; the report depends on more
    identity = digest([learnt, None if val is None else val.identity()])
    with open_folder(request.out, request.wait_s) as folder:
        if (report := folder.published(identity)) is not None:
            return QatResult(path=request.out, report=report, current=True)
        seen = () if val is None else val.found.notes
        for text in (*calibration.notes, *train.found.notes, *seen, *_shared(train, val)):
            note(text)
        session = Session(request, folder, calibration, listener, note)
        results = session.run(learnt, train, val)
        report = folder.publish(
            identity,
            {
                **inputs,
                "val": None if val is None else val.identity(),
                **results,
                "notes": notes,
                "seconds": round(time.monotonic() - start, 1),
            },
        )
    return QatResult(path=request.out, report=report, current=False)


def _inputs(
    request: QatRequest, calibration: CalibrationSet, train: LabelledPhotos
) -> dict[str, Any]:
    """All that the training depends on."""
    variant, weights = request.variant, checkpoint_file(request.weights)
    facts = {"file": weights.name, "sha256": sha256(weights)}
    return {
        "settings": request.settings(),
        "weights": request.provenance | facts | {"ema": request.load.ema},
        "data": train.identity(),
        "calibration": calibration.identity(variant.config.image_size, variant.preprocessing),
        "packages": {name: package_version(name) for name in _PACKAGES},
    }


def _shared(train: LabelledPhotos, val: LabelledPhotos | None) -> list[str]:
    shared = 0 if val is None else len(val.hashes & train.hashes)
    if not shared:
        return []
    return [
        f"{shared} of {len(present(val))} photos to measure with are trained on as well: the "
        "accuracy says too much"
    ]
