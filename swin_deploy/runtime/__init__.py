"""What runs on the device: numpy, Pillow where photos are read, and the library of the engine."""

from swin_deploy.runtime.engine import SwinEngine
from swin_deploy.runtime.prediction import Prediction

__all__ = ["Prediction", "SwinEngine"]
