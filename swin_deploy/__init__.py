"""Turn a Swin Transformer into an engine for the device at hand, and prove that it still agrees."""

from __future__ import annotations

__version__ = "0.1.0"
