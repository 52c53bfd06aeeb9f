"""What runs on the device: numpy, Pillow where photos are read, and the library of the engine.

In comes an unpacked bundle; out come engines that were built and proved there, and predictions.
``SwinEngine`` is for other people's programs. Python 3.10; torch, onnx and click are not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swin_deploy.runtime.engine import SwinEngine
    from swin_deploy.runtime.images import Prediction


__all__ = ["Prediction", "SwinEngine"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: ``swin.pyz info`` runs where there is no numpy."""
    if name == "SwinEngine":
        from swin_deploy.runtime.engine import SwinEngine

        return SwinEngine
    if name == "Prediction":
        from swin_deploy.runtime.images import Prediction

        return Prediction
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
