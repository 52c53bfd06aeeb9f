"""``config.json`` and ``preprocessor_config.json`` beside a checkpoint -> what they say of it."""

from __future__ import annotations

from pathlib import Path

from swin_deploy.checkpoints.sidecar_json import Sidecar, read_as
from swin_deploy.checkpoints.sidecar_timm import read_timm
from swin_deploy.checkpoints.sidecar_transformers import read_transformers
from swin_deploy.checkpoints.source import Facts, Listener
from swin_deploy.errors import InputError
from swin_deploy.preprocessing import Preprocessing


class _Kind(Sidecar):
    model_type: str | None = None
    architecture: str | None = None


def read_sidecars(
    config: Path | None, processor: Path | None, listener: Listener
) -> tuple[Preprocessing | None, Facts]:
    """What the files beside a checkpoint say.

    Args:
        config: ``config.json`` of transformers or timm; None where there is none.
        processor: ``preprocessor_config.json`` of transformers; None where there is none.
        listener: Hears of a file that says nothing that is known here.

    Raises:
        InputError: A file is no JSON or has wrong types; the network is no Swin, or one with
            parts that are not built here; its preprocessing is not one that is done here.
    """
    kind = _Kind() if config is None else read_as(_Kind, config)
    if config is not None and kind.architecture is not None:
        return read_timm(config)
    if kind.model_type is not None and kind.model_type not in ("swin", "swinv2"):
        raise InputError(f"{config}: model_type is {kind.model_type!r}, not swin or swinv2")
    if config is not None and kind.model_type is None:
        listener.note(f"{config} says neither model_type nor architecture and is not used")
        config = None
    return read_transformers(config, processor)


def is_timm(config: Path) -> bool:
    """Whether a ``config.json`` is timm's.

    Raises:
        InputError: It is no JSON object.
    """
    return read_as(_Kind, config).architecture is not None
