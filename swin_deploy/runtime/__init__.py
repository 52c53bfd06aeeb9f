"""What runs on the device: numpy, Pillow where photos are read, and the library of the engine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swin_deploy.runtime.engine import SwinEngine
    from swin_deploy.runtime.prediction import Prediction

__all__ = ["Prediction", "SwinEngine"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: ``swin.pyz info`` runs where there is no numpy."""
    if name == "SwinEngine":
        from swin_deploy.runtime.engine import SwinEngine

        return SwinEngine
    if name == "Prediction":
        from swin_deploy.runtime.prediction import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
