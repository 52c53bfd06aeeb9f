"""What quantisation-aware fine-tuning is worth: swin_pocket with usual scales and with coarse ones.

    python scripts/show_qat.py [--epochs 5] [--headroom 48] [--kind tensorrt] [--seed 0]
        [--digits N]

Trains on the 4000 digits that swin_pocket was trained on and measures on the 1000 held-out ones,
which nothing else here looks at. Coarse: every threshold of an activation times --headroom, so that
its values fill 127 / 48 levels on each side of zero. Nothing is kept on the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.core.errors import SwinDeployError
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import resolve_variant
from swin_deploy.network.checkpoints.source import Source
from swin_deploy.pipeline.qat.request import QatRequest, Training
from swin_deploy.pipeline.qat.session import run_qat
from swin_deploy.pipeline.request import Int8Options
from swin_deploy.report.console import Progress
from swin_deploy.report.console import show as show_parts
from swin_deploy.report.measured_tables import accuracy_cells
from swin_deploy.report.tables import make_table
from train_pocket import VARIANT

USUAL_RATE, COARSE_RATE = 1e-5, 1e-3  # the more there is to mend, the farther weights have to go


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--headroom", type=float, default=48)
    parser.add_argument("--kind", choices=["tensorrt", "onnxruntime"], default="tensorrt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--digits", type=int, help="so many of each part, for a quick look")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder, Progress().shown() as progress:
            photos = write_digits(Path(folder) / "digits", find_mnist_5k(), arguments.digits)
            reports = []
            for name, headroom, rate in (
                ("usual", 1.0, USUAL_RATE),
                ("coarse", arguments.headroom, COARSE_RATE),
            ):
                training = Training(epochs=arguments.epochs, rate=rate, seed=arguments.seed)
                request = request_of(
                    photos, Path(folder) / name, arguments.kind, headroom, training
                )
                reports.append(run_qat(request, progress).report)
    except SwinDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show(*reports)
    return 0


def write_digits(folder: Path, data: Path, count: int | None = None) -> Path:
    """The digits as PNG files, in a folder for each class, in train/ and held-out/.

    Args:
        folder: Made.
        data: ``mnist_5k.csv.gz``.
        count: So many of each part, evenly over it; None for all.
    """
    images, labels = load_mnist_5k(data)
    for part, rows in zip(("train", "held-out"), split_held_out(labels), strict=True):
        for row in rows[:: max(1, len(rows) // (count or len(rows)))]:
            photo = folder / part / str(labels[row]) / f"{row}.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[row]).save(photo, compress_level=0)
    return folder


def request_of(
    photos: Path, out: Path, kind: str, headroom: float, training: Training
) -> QatRequest:
    """Of the bundled network, with thresholds at the largest magnitude times ``headroom``."""
    weights = bundled_weights(VARIANT.name)
    load = LoadOptions(wanted=VARIANT.config)
    source = Source(path=weights, provenance={"source": "bundled"})
    return QatRequest(
        variant=resolve_variant(source, VARIANT, load, Quiet()),
        weights=weights,
        provenance=source.provenance,
        load=load,
        data=photos / "train",
        val=photos / "held-out",
        int8=Int8Options(calibration=photos / "train", method="minmax"),
        kind=kind,
        headroom=headroom,
        training=training,
        out=out,
    )


class Quiet:
    """Hears nothing that matters here: the weights are on the disk."""

    visible = False

    def file(self, name: str, total: int | None) -> Any:
        raise AssertionError(f"{name} is not to be downloaded")

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr)


def show(usual: dict[str, Any], coarse: dict[str, Any]) -> None:
    columns = ("swin_pocket", ">top-1 (%, 95 % interval)", ">right", ">place dB", ">dB")
    rows = [("FP32", usual["accuracy"]["before"]["fp32"], None)]
    for name, report in (("usual", usual), ("coarse", coarse)):
        rows.append((f"INT8, {name}, calibrated", report["accuracy"]["before"]["int8"], None))
        rows.append((f"INT8, {name}, fine-tuned", report["accuracy"]["after"]["int8"], report))
    cells = []
    for name, found, report in rows:
        agreement = None if report is None else report["agreement"]
        levels = ("", "") if agreement is None else (agreement["place_db"], agreement["logits_db"])
        cells.append((name, *accuracy_cells(found), *map(str, levels)))
    show_parts([make_table("", columns, cells)])
    print(
        "place dB: INT8 graph in ONNX Runtime against training, where they agree least, from one\n"
        "place to the next; dB: from image to logits, the median image"
    )


if __name__ == "__main__":
    sys.exit(main())
