"""What runs on the device: numpy, Pillow where photos are read, and the library of the engine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swin_deploy.runtime.engine import SwinEngine
    from swin_deploy.runtime.prediction import Prediction

__all__ = ["Prediction", "SwinEngine"]
_MODULES = {"Prediction": "prediction", "SwinEngine": "engine"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: ``swin.pyz info`` runs where there is no numpy."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
