"""One fine-tuning: from a checkpoint and labelled photos to an INT8 graph, step by step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from swin_deploy.core.errors import present
from swin_deploy.core.files import digest, package_version, write_json
from swin_deploy.core.reports import noting
from swin_deploy.data.samples import CalibrationSet, find_calibration, read_batches, read_some
from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.quantize import tensors_to_calibrate
from swin_deploy.graph.int8.thresholds import describe_dead
from swin_deploy.network.checkpoints.load import load_checkpoint, load_for
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.shards import checkpoint_sha256
from swin_deploy.network.checkpoints.source import checkpoint_file
from swin_deploy.network.model.build import Network, model_from_tensors
from swin_deploy.pipeline.qat.folder import (
    GRAPH,
    INT8_GRAPH,
    THRESHOLDS,
    QatFolder,
    open_folder,
    restore_state,
    save_state,
)
from swin_deploy.pipeline.qat.graphs import GraphMaker, require_same_places
from swin_deploy.pipeline.qat.network import RoundedNetwork, find_sites
from swin_deploy.pipeline.qat.request import QatRequest
from swin_deploy.pipeline.qat.train import (
    LabelledPhotos,
    Trainer,
    find_labelled_photos,
    measure_accuracy,
)
from swin_deploy.pipeline.request import Listener
from swin_deploy.run.details import WEIGHTS

_START, _START_INT8 = "start.onnx", "start.int8.onnx"
_SHOWN = 32  # calibration images for ranges in FP16, and for the proof


class Session:
    """What the steps share.

    Args:
        request: What is asked for.
        folder: Gets the files.
        calibration: The images of it.
        listener: Hears of the steps.
        note: Is told what the user has to know.
    """

    def __init__(
        self,
        request: QatRequest,
        folder: QatFolder,
        calibration: CalibrationSet,
        listener: Listener,
        note: Callable[[str], None],
    ) -> None:
        self.request, self.folder, self.calibration = request, folder, calibration
        self.listener, self.note = listener, note
        self.maker = GraphMaker(request, folder.scratch("simplify.log"), note)

    def run(self, learnt: str, train: LabelledPhotos, val: LabelledPhotos | None) -> dict[str, Any]:
        """Do all of it.

        Args:
            learnt: Digest of all that the training depends on.
            train: What is learnt.
            val: What accuracy is measured on.

        Returns:
            What the report says of the results.
        """
        model = self._load()
        images = read_some(self.calibration, self.request.variant, _SHOWN)
        self.listener.started("exporting the network as it is")
        start = self.folder.scratch(_START)
        self.maker.export(model, start)
        thresholds = self._calibrate(start)
        made = self.maker.quantise(start, self.folder.scratch(_START_INT8), thresholds, [images])
        losses = self._train(model, learnt, train, made["scales"])
        self.listener.started("exporting the fine-tuned network")
        final, quantised = self.folder.scratch(GRAPH), self.folder.scratch(INT8_GRAPH)
        self.maker.export(model, final)
        made = self.maker.quantise(final, quantised, thresholds, [images])
        self.listener.started("proving that the graph is what was trained")
        agreement = require_same_places(self.maker, model, final, thresholds, images)
        self._write(model, thresholds, made.pop("scales"))
        graphs = {"before": (_START, _START_INT8), "after": (GRAPH, INT8_GRAPH)}
        return {
            "losses": losses,
            "quantised": made,
            "agreement": asdict(agreement),
            "accuracy": None
            if val is None
            else {
                when: dict(zip(("fp32", "int8"), self._measure(names, val), strict=True))
                for when, names in graphs.items()
            },
        }

    def _load(self) -> Network:
        request = self.request
        checkpoint = load_for(request.weights, request.load, request.variant.config)
        for text in checkpoint.notes:
            self.note(text)
        return model_from_tensors(checkpoint.config, checkpoint.tensors)

    def _calibrate(self, graph: Path) -> dict[str, float]:
        """Name of an activation -> its threshold."""
        request, view = self.request, self.request.variant.view
        batch, keep = request.batch.high, request.int8.keep
        self.listener.started("calibrating")
        found = collect_statistics(
            graph,
            tensors_to_calibrate(graph, self.maker.recipe, batch, keep),
            lambda: read_batches(self.calibration, *view, batch, self.note),
            self.folder.unfinished("calibration.npz"),
            self.calibration.identity(*view),
            self.listener.advanced,
            total=len(self.calibration),
            note=self.note,
        )
        for text in describe_dead(found):
            self.note(text)
        method, headroom = request.int8.method, request.headroom
        return {name: headroom * item.threshold(method) for name, item in found.items()}

    def _train(
        self, model: Network, learnt: str, train: LabelledPhotos, scales: dict[str, float]
    ) -> list[float]:
        """Train ``model`` in place; the losses of the epochs."""
        settings, recipe = self.request.training, self.maker.recipe
        graph, batch = self.folder.scratch(_START), self.request.batch.high
        sites = find_sites(graph, recipe, batch, self.request.int8.keep)
        teacher = copy.deepcopy(model) if settings.distil else None
        network = RoundedNetwork(model, self.maker.form, sites, scales, recipe)
        model.requires_grad_(True)
        trainer = Trainer(network, teacher, train, settings)
        state = self.folder.unfinished("epoch.safetensors")
        losses = restore_state(state, learnt, trainer, self.note)
        if losses:
            self.note(f"training goes on after {len(losses)} of {settings.epochs} epochs")
        for epoch in range(len(losses), settings.epochs):
            title = f"training, epoch {epoch + 1} of {settings.epochs}"
            progress = partial(self._advanced, title, len(train))
            losses.append(trainer.train_epoch(epoch, progress))
            save_state(state, learnt, trainer, losses)
        model.requires_grad_(False)
        return losses

    def _advanced(self, title: str, total: int, done: int) -> None:
        self.listener.advanced(title, done, total)

    def _measure(self, names: tuple[str, ...], val: LabelledPhotos) -> list[dict[str, Any]]:
        found = []
        for name in names:
            self.listener.started(f"measuring {name}")
            simulated = self.maker.recipe.simulated
            found.append(measure_accuracy(self.folder.scratch(name), val, simulated))
        return found

    def _write(
        self, model: Network, thresholds: dict[str, float], scales: dict[str, float]
    ) -> None:
        """Write checkpoint and thresholds, and see whether the checkpoint alone says all."""
        path, config = self.folder.scratch(WEIGHTS), self.request.variant.config
        save_file({name: p.detach() for name, p in model.named_parameters()}, path)
        path.chmod(0o644)  # safetensors makes it private
        options = LoadOptions(image_size=config.image_size, wanted=config)
        read = load_checkpoint(path, options).config
        if read != replace(config, name=read.name):
            self.note(
                f"{WEIGHTS} does not say by which rules its network pads and merges: export it "
                "with a --config that has them in [semantics]"
            )
        write_json(
            self.folder.scratch(THRESHOLDS),
            {"method": self.request.int8.method, "thresholds": thresholds, "scales": scales},
        )


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
    notes = list[str]()
    note = noting(notes, listener.note)
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
    weights = checkpoint_file(request.weights)
    facts = {"file": weights.name, "sha256": checkpoint_sha256(weights)}
    return {
        "settings": request.settings(),
        "weights": request.provenance | facts | {"ema": request.load.ema},
        "data": train.identity(),
        "calibration": calibration.identity(*request.variant.view),
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
