"""What the stages of one run share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.artifacts.run import RunFolder
from swin_deploy.config import ExportRequest
from swin_deploy.data.inputs import InputSet, PhotoFolder, make_noise
from swin_deploy.export_form.choice import FormName

WEIGHTS = "weights.safetensors"  # of a checkpoint, in our names; random ones have a seed instead
LABELS = "labels.json"  # of its classes, by index, where they came with it

if TYPE_CHECKING:  # torch stays out of runs in which every stage is current
    from torch import nn

    from swin_deploy.export_form.entry import FrozenNetwork
    from swin_deploy.model.build import Network


@dataclass(slots=True)
class RunContext:
    """What the stages of one run share. Networks are built when a stage first needs them."""

    request: ExportRequest
    form: FormName
    folder: RunFolder
    photos: PhotoFolder | None
    note: Callable[[str], None]
    _networks: dict[str, Any] = field(default_factory=dict)

    @property
    def eager(self) -> Network:
        """The network as it was trained."""
        if "eager" not in self._networks:
            from swin_deploy.model.load import load_model

            weights = None if self.request.weights is None else self.folder.file(WEIGHTS)
            self._networks["eager"] = load_model(
                self.request.variant.config, weights, self.request.seed
            )
        return self._networks["eager"]  # type: ignore[no-any-return]

    @property
    def frozen(self) -> FrozenNetwork:
        """The network in export form."""
        if "frozen" not in self._networks:
            from swin_deploy.export_form.entry import freeze

            self._networks["frozen"] = freeze(self.eager, self.form)
        return self._networks["frozen"]  # type: ignore[no-any-return]

    def as_asked(self, network: nn.Module) -> nn.Module:
        """One of the two as the module that gives the outputs of the request.

        Raises:
            ConfigError: Stages are asked of a network that has none.
        """
        from swin_deploy.model.outputs import with_outputs

        return with_outputs(network, self.request.outputs, self.request.variant.config.name)

    def noise(self, count: int) -> InputSet:
        """Seeded noise of the network's own size."""
        config = self.request.variant.config
        return make_noise(count, config.in_channels, config.image_size)

    def log(self, stage: str) -> Path:
        """Where a child process of this stage writes."""
        return self.folder.scratch(f"{stage.replace(':', '-')}.log")
