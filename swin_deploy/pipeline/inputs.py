"""What a run needs of this machine, checked by a look before anything is downloaded or built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from swin_deploy.data.inputs import require_photos
from swin_deploy.data.labelled import require_labelled
from swin_deploy.data.sample import require_images
from swin_deploy.engine.build import require_installed
from swin_deploy.engine.targets import find_target
from swin_deploy.errors import SwinDeployError, caught, raise_all
from swin_deploy.files import require_outside
from swin_deploy.pipeline.plan import built_elsewhere, make_plan
from swin_deploy.pipeline.request import ExportOptions
from swin_deploy.variants import Variant

_OUT = "--out with a folder elsewhere"


def require_inputs(
    options: ExportOptions, network: Variant | None = None, out: Path | None = None
) -> None:
    """Check targets and images. Neither the network's libraries nor those of targets are imported.

    Args:
        options: Of the run.
        network: Whose images they are; None where the weights have not told yet.
        out: The run folder; None where it has no name yet.

    Raises:
        ConfigError: A target is unknown or takes none of what was asked for.
        InputError: Photos, lists or arrays are missing, empty, or of another shape.
        SwinDeployError: Of several that are wrong, all in one: see ``raise_all``.
    """
    raise_all(missing_inputs(options, network, out))


def missing_inputs(
    options: ExportOptions, network: Variant | None = None, out: Path | None = None
) -> Iterator[SwinDeployError]:
    """What ``require_inputs`` finds wrong."""
    unknown = [e for name in options.targets or () for e in caught(_require_target, name)]
    yield from unknown
    if not unknown:
        yield from caught(make_plan, options)
    if options.images is not None:
        yield from caught(require_photos, options.images)
    int8 = options.int8
    if int8.calibration is not None:
        shape = None if network is None else network.input_shape
        yield from caught(require_images, int8.calibration, "calibration", shape)
    if int8.labelled is not None:
        yield from caught(require_labelled, int8.labelled)
    for folder in (options.images, int8.calibration):
        yield from caught(require_outside, out, folder, _OUT, False)
    yield from caught(require_outside, out, int8.labelled, _OUT)


def _require_target(name: str) -> None:
    target = find_target(name)
    if not built_elsewhere(target):
        require_installed(target)
