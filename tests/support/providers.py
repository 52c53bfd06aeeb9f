"""A provider that comes with ONNX Runtime and computes nothing of ours."""

from __future__ import annotations

import onnxruntime
import pytest

AZURE = "AzureExecutionProvider"  # comes with ONNX Runtime, and computes no node of ours
needs_azure = pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(), reason=f"this build has no {AZURE}"
)
