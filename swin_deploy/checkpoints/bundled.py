"""Weights that come with the package."""

from __future__ import annotations

from pathlib import Path

import swin_deploy
from swin_deploy.errors import ConfigError


def bundled_weights(variant: str | None) -> Path:
    """The checkpoint that comes with the package for a variant.

    Raises:
        ConfigError: There is none; names the variants that have one.
    """
    folder = Path(swin_deploy.__file__).parent / "bundled"
    names = sorted(path.stem for path in folder.glob("*.safetensors"))
    if variant not in names:
        raise ConfigError(
            f"no weights for {variant or 'a network without a name'} come with the package",
            f"--variant {' or '.join(names)}",
        )
    return folder / f"{variant}.safetensors"
