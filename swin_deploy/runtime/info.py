"""What a bundle is, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from swin_deploy.runtime.formats import align, printable
from swin_deploy.runtime.record import read_record, require_no_strangers
from swin_deploy.runtime.shipped import Shipped
from swin_deploy.runtime.trust import SIGNATURE


def describe(shipped: Shipped) -> dict[str, Any]:
    """What was shipped, and what was built of it here."""
    height, width = shipped.image_size
    record = read_record(shipped)
    require_no_strangers(shipped, record)
    return {
        "network": shipped.network,
        "made by": f"swin-deploy {shipped.tool.version}",
        "weights": shipped.weights,
        "image": f"{height}x{width}",
        "batch": str(shipped.batch),
        "outputs": shipped.outputs,
        "classes": shipped.classes,
        "labels": len(shipped.label_names),
        "target": shipped.target,
        "precisions": list(shipped.graphs),
        "floors_db": {precision: graph.floors_db for precision, graph in shipped.graphs.items()},
        "preprocessing": asdict(shipped.preprocessing),
        "notes": list(shipped.notes),
        "signed": (shipped.folder / SIGNATURE).is_file(),
        "sha256": shipped.sha256,
        "built": {
            precision: {"files": built.files, "built_for": asdict(built.built_for)}
            for precision, built in record.engines.items()
        },
    }


def summary_lines(facts: Mapping[str, Any]) -> list[str]:
    """The same, of ``describe``, for people."""
    steps = facts["preprocessing"]
    rows = [
        ("network", f"{facts['network']} for {facts['target']}, made by {facts['made by']}"),
        ("weights", _weights(facts["weights"])),
        ("image", f"{facts['image']} pixels, channels: {len(steps['mean'])}"),
        ("batch", facts["batch"]),
        ("outputs", facts["outputs"]),
        *(("precision", f"{p}: {_floors(floors)}") for p, floors in facts["floors_db"].items()),
        ("photos", ", ".join(f"{name} {_number(value)}" for name, value in steps.items())),
        ("labels", str(facts["labels"] or "none")),
        ("signed", "yes, see --verify-key" if facts["signed"] else "no"),
        ("sha256", f"{facts['sha256']} of bundle.json"),
        *(("engine", _engine(p, entry["built_for"])) for p, entry in facts["built"].items()),
        *([] if facts["built"] else [("engine", "none was built here")]),
        *(("note", note) for note in facts["notes"]),
    ]
    return align([(name, printable(value)) for name, value in rows])


def _weights(about: Mapping[str, Any]) -> str:
    if about["source"] == "random":
        return "RANDOM: it predicts nothing"
    return ", ".join(f"{name} {value}" for name, value in about.items())


def _floors(floors: Mapping[str, float]) -> str:
    return ", ".join(f"{output} at least {floor:.0f} dB" for output, floor in floors.items())


def _number(value: Any) -> str:
    return " ".join(f"{v:g}" for v in value) if isinstance(value, tuple | list) else str(value)


def _engine(precision: str, built_for: Mapping[str, Any]) -> str:
    where = built_for.get("device") or built_for.get("platform")
    return f"{precision}: {built_for.get('module')} {built_for.get('version')}, {where}"
