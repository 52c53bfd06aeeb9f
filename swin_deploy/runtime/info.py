"""What a bundle is, for people and as JSON."""

from __future__ import annotations

from typing import Any

from swin_deploy.runtime.record import read_record
from swin_deploy.runtime.shipped import Shipped


def describe(shipped: Shipped) -> dict[str, Any]:
    """What was shipped, and what was built of it here; errors of ``read_record``."""
    height, width = shipped.image_size
    return {
        "network": shipped.network,
        "made by": f"swin-deploy {shipped.tool}",
        "weights": shipped.weights,
        "image": f"{height}x{width}",
        "batch": str(shipped.batch),
        "outputs": shipped.outputs,
        "classes": shipped.classes,
        "labels": len(shipped.labels),
        "target": shipped.target,
        "precisions": list(shipped.graphs),
        "sha256": shipped.sha256,
        "built": {
            precision: {"files": entry["files"], "built_for": entry["built_for"]}
            for precision, entry in read_record(shipped).engines.items()
        },
    }
