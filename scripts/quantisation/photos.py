"""How far INT8 of Swin-T is from FP32 on photos, beside what ONNX Runtime's own tool makes."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fusion.exactness import default_photos
from fusion.naive import holding_ours
from fusion.rows import Row
from quantisation.graphs import (
    FORMS,
    calibrate,
    rounded,
    write_halves,
    write_simplified,
)
from quantisation.runtimes import on_onnxruntime, run_each
from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.data.images import list_photos, load_photo
from swin_deploy.graph.export import export_plainly
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.network.judge import FloatArray, sqnr_db, top1_agreement
from swin_deploy.network.model.build import build_model

ROW = Row("swin_t", "1", ("timm",))
CALIBRATED_ON = 16  # of the 20 photos of ImageNet
SCIKIT_IMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
STOCK = "`quantize_static` with its defaults, of timm's export"
TENSORRT = "INT8 for TensorRT"
# That of another runtime; and the stock one, of which ONNX Runtime makes no exact form on a CPU
# without VNNI: it refuses products that share a weight or its zero point.
_SIMULATED = (TENSORRT, STOCK)
HEADER = (
    "| graph | method | 4 photos of ImageNet, dB | same class | 45 others, dB | same class |",
    "|---|---|---:|---:|---:|---:|",
)


def photos_table(row: Row = ROW) -> Iterator[str]:
    """Markdown, line by line: SQNR of the worst photo, and how many keep their class.

    Args:
        row: The network, with random weights of seed 0.

    Raises:
        EnvironmentMissingError: The photos are not installed.
    """
    seen, held, others = find_photos()
    calibration, *checked = (as_inputs(row, paths) for paths in (seen, held, others))
    eager = build_model(row.config, seed=0)
    with torch.inference_mode():
        expected = [eager(torch.from_numpy(images)).numpy() for images in checked]
    yield from HEADER
    with tempfile.TemporaryDirectory() as folder:
        for graph, method, path in _graphs(row, eager, calibration, Path(folder)):
            call = on_onnxruntime(path, simulated=graph in _SIMULATED)
            cells = [graph, method]
            for images, reference in zip(checked, expected, strict=True):
                logits = run_each(call, images)
                same = round(len(images) * top1_agreement(reference, logits))
                cells += [f"{sqnr_db(reference, logits):.1f}", f"{same} of {len(images)}"]
            yield f"| {' | '.join(cells)} |"


def _graphs(
    row: Row, eager: torch.nn.Module, calibration: FloatArray, folder: Path
) -> Iterator[tuple[str, str, Path]]:
    fulls = {kind: folder / f"{kind}.onnx" for kind in FORMS}
    for kind, full in fulls.items():
        write_simplified(eager, row.config, FORMS[kind], calibration, full)
    full = fulls["tensorrt"]
    yield "FP32", "", full
    for precision, half in write_halves(full):
        yield precision.upper(), "", rounded(half)
    for kind, full in fulls.items():
        found = calibrate(full, kind, calibration)
        for method in CALIBRATION_METHODS:
            whole = folder / f"{kind}.int8.onnx"
            found.quantised(method, whole)
            if kind == "onnxruntime":
                yield "INT8 for CPUs", method, whole
            else:
                yield TENSORRT, method, rounded(whole)
    stock = folder / "stock.onnx"
    write_stock(row, eager, calibration, stock)
    yield STOCK, "minmax", stock


def write_stock(row: Row, eager: torch.nn.Module, calibration: FloatArray, final: Path) -> None:
    """What a user of ONNX Runtime's tool gets: timm's export, simplified, prepared, quantised.

    Its defaults are Q/DQ pairs in INT8, one scale a tensor for weights too, and ranges from the
    least to the largest value; it quantises every operator that it knows.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.feeds = iter([{name: image} for image in np.split(calibration, len(calibration))])

        def get_next(self) -> dict[str, FloatArray] | None:
            return next(self.feeds, None)

    naive, ready = final.with_suffix(".naive.onnx"), final.with_suffix(".ready.onnx")
    export_plainly(holding_ours(row.config, eager), row.config, row.batches, naive)
    simplify_graph(naive, naive, calibration[:1], final.with_suffix(".log"), strict=True)
    quant_pre_process(naive, ready)
    name = _image_of(ready)
    logging.getLogger().setLevel(logging.ERROR)  # it speaks through the root logger
    quantize_static(ready, final, Reader(name))


def _image_of(graph: Path) -> str:
    import onnx

    return str(onnx.load(graph, load_external_data=False).graph.input[0].name)


def find_photos() -> tuple[list[Path], list[Path], list[Path]]:
    """Photos of ImageNet to calibrate on, others of it, and photos from elsewhere.

    Raises:
        EnvironmentMissingError: The wheels that they lie in are not installed.
    """
    photos = list_photos(default_photos())
    imagenet = [path for path in photos if path.name.startswith("imagenet")]
    others = [path for path in photos if path.name.startswith("cifar")]
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise EnvironmentMissingError("no photos: scikit-image is not installed", "scripts/test")
    more = [Path(spec.origin).parent / "data" / name for name in SCIKIT_IMAGE]
    return imagenet[:CALIBRATED_ON], imagenet[CALIBRATED_ON:], others + more


def as_inputs(row: Row, paths: list[Path]) -> FloatArray:
    """(b, channels, H, W) float32, normalised."""
    config, steps = row.config, row.variant.preprocessing
    return np.stack([load_photo(path, config.image_size, steps) for path in paths])
