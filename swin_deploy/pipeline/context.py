"""What the stages of one run share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swin_deploy.core.errors import present
from swin_deploy.data.images import (
    ImageInput,
    InputSet,
    PhotoFolder,
    load_photos,
    make_noise,
    make_noise_for,
)
from swin_deploy.data.labelled import LabelledSet
from swin_deploy.data.samples import CalibrationSet, read_some
from swin_deploy.measure.verify.outputs import make_extremes
from swin_deploy.network.interface import Io
from swin_deploy.network.judge import FloatArray
from swin_deploy.pipeline.plan import Plan
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.run.details import WEIGHTS
from swin_deploy.run.folder import RunFolder

if TYPE_CHECKING:
    from torch import nn

    from swin_deploy.network.export_form.freeze import FrozenNetwork
    from swin_deploy.network.model.build import Network


CHECKED = 8  # calibration images that INT8 is compared on where there are no photos
ROUNDED = "rounding"  # a folder for what ``as_computed`` writes


@dataclass(slots=True)
class RunContext:
    """What the stages of one run share. Networks and inputs are made when first needed."""

    request: ExportRequest
    plan: Plan
    folder: RunFolder
    photos: PhotoFolder | None
    calibration: CalibrationSet | None
    labelled: LabelledSet | None
    say: Callable[[str], None]
    advanced: Callable[[str, int, int], None]
    said: list[str] = field(default_factory=list)
    _made: dict[str, Any] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Say what holds for the files of the present stage: now, and wherever it is current.

        What is true of this time alone goes to ``say``.
        """
        self.said.append(text)
        self.say(text)

    @property
    def eager(self) -> Network:
        """The network as it was trained."""
        if "eager" not in self._made:
            from swin_deploy.network.model.build import load_model

            weights = None if self.request.weights is None else self.folder.file(WEIGHTS)
            self._made["eager"] = load_model(
                self.request.variant.config, weights, self.request.seed
            )
        return self._made["eager"]  # type: ignore[no-any-return]

    @property
    def frozen(self) -> FrozenNetwork:
        """The network in export form."""
        if "frozen" not in self._made:
            from swin_deploy.network.export_form.freeze import freeze

            self._made["frozen"] = freeze(self.eager, self.plan.form)
        return self._made["frozen"]  # type: ignore[no-any-return]

    def as_asked(self, network: nn.Module) -> nn.Module:
        """One of the two as the module that gives the outputs of the request."""
        from swin_deploy.network.model.build import with_outputs

        return with_outputs(network, self.request.outputs, self.request.variant.config.name)

    def noise(self, count: int) -> InputSet:
        """Seeded noise of the network's own size."""
        config = self.request.variant.config
        return make_noise(count, config.in_channels, config.image_size)

    @property
    def inputs(self) -> list[InputSet]:
        """What ranges of FP16 are measured on: noise, extremes and photos, the same every time.

        All are exact in the input of every graph, so that all get the same images.
        """
        return [self._noise_for(self.request.batch.high), *self._extremes, *self._natural]

    def gate_inputs(self, sizes: Sequence[int]) -> list[InputSet]:
        """What the run is verified on: the same with noise of every one of ``sizes``.

        INT8 is not judged on noise, so that it gets photos of as many sizes.
        """
        natural = self._natural
        photos = [
            InputSet(
                f"{name} x{size}",
                images.images[np.arange(size) % len(images.images)],
                natural=True,
                only=("int8",),
            )
            for images in natural[:1]
            for name in (images.name.rpartition(" x")[0],)
            for size in sizes
            if "int8" in self.request.precisions and size != len(images.images)
        ]
        noise = [self._noise_for(size) for size in sizes]
        return [*noise, *self._extremes, *natural, *photos]

    def _noise_for(self, count: int) -> InputSet:
        config, taken = self.request.variant.config, self.image_input(self.request.interface.io)
        return make_noise_for(taken, count, config.in_channels, config.image_size)

    @property
    def _extremes(self) -> list[InputSet]:
        variant, taken = self.request.variant, self.image_input(self.request.interface.io)
        return make_extremes(taken, variant.preprocessing, variant.config.image_size)

    @property
    def _natural(self) -> list[InputSet]:
        if "natural" not in self._made:
            inputs = []
            taken = self.image_input(self.request.interface.io)
            if self.photos is not None:
                photos, problems = load_photos(self.photos, *self.request.variant.view)
                inputs.append(InputSet(photos.name, taken.round(photos.images), natural=True))
                for problem in problems:
                    self.note(f"left out: {problem}")
            elif self.calibration is not None:
                images = self.calibration_images(CHECKED)
                name = f"calibration x{len(images)}"
                inputs.append(InputSet(name, taken.round(images), natural=True))
            self._made["natural"] = inputs
        return self._made["natural"]  # type: ignore[no-any-return]

    def calibration_images(self, count: int) -> FloatArray:
        """At most ``count`` images of the calibration, evenly over all: (b, channels, H, W)."""
        calibration = present(self.calibration)  # stages that need it are planned with it only
        return read_some(calibration, self.request.variant, count)

    def image_input(self, io: Io) -> ImageInput:
        """What a graph of the run takes."""
        return ImageInput.of(io, self.request.variant.preprocessing)

    def log(self, stage: str) -> Path:
        """Where a child process of this stage writes."""
        return self.folder.scratch(f"{stage.replace(':', '-')}.log")
