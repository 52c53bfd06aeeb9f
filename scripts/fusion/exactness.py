"""The table of exactness: FP32 against eager, and FP16 beside that of timm's own export."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusion.naive import holding_ours
from fusion.rows import Row
from swin_deploy.core.errors import EnvironmentMissingError, VerificationError
from swin_deploy.data.images import find_photos, load_photos
from swin_deploy.engine.runners.onnxruntime import open_session, session_options
from swin_deploy.graph.export import export_graph, export_plainly
from swin_deploy.graph.half import convert_to_half
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.export_form import choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray, sqnr_db
from swin_deploy.network.model.build import build_model

ONE = BatchRange()


def exactness_table(rows: list[Row], photos: Path, seeds: int) -> Iterator[str]:
    """Markdown, line by line as it is measured: the worst over the seeds.

    Raises:
        VerificationError: A frozen network misses the floor of FP32.
    """
    yield "| network | batch | photos | FP32, dB | FP16, dB | timm's FP16, dB | ours - timm's |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for row in rows:
        images, _ = load_photos(
            find_photos(photos), row.config.image_size, row.variant.preprocessing
        )
        form = choose_form({"tensorrt"}, row.batches.static)
        found = [measure(row, form, seed, images.images) for seed in range(seeds)]
        exact, ours, naive = (min(column) for column in zip(*found, strict=True))
        if exact < FLOORS_DB["fp32"]:
            raise VerificationError(
                f"{row.label}: {exact:.1f} dB in FP32, needs {FLOORS_DB['fp32']:.0f} dB",
                "swin_deploy.network.export_form, before any of these figures",
            )
        gap = min(ours - naive for _, ours, naive in found)
        cells = (row.label, row.batch, str(len(images.images)), f"{exact:.1f}", f"{ours:.1f}")
        yield f"| {' | '.join(cells)} | {naive:.1f} | {gap:+.1f} |"


def measure(row: Row, form: str, seed: int, images: FloatArray) -> tuple[float, float, float]:
    """Ours in FP32, ours in FP16 and timm's in FP16, in dB, all against FP32 of the same weights.

    Both FP16 graphs run on ONNX Runtime, image by image, each against its own eager network.
    """
    eager = build_model(row.config, seed)
    frozen = freeze(eager, form)  # type: ignore[arg-type]
    reference = run(eager, images)
    exact = sqnr_db(reference, run(frozen, images))

    def ours(path: Path) -> None:
        export_graph(frozen, row.config, ONE, path)
        convert_to_half(path, path, "fp16")

    half = sqnr_db(reference, run_graph(ours, images))
    theirs = holding_ours(row.config, eager)
    reference = run(theirs, images)
    theirs = theirs.half()
    naive = run_graph(lambda path: export_plainly(theirs, row.config, ONE, path), images)
    return exact, half, sqnr_db(reference, naive)


def run(network: nn.Module, images: FloatArray) -> FloatArray:
    """Logits in PyTorch, image by image."""
    with torch.inference_mode():
        logits: list[Tensor] = [network(image) for image in torch.from_numpy(images).split(1)]
    return torch.cat(logits).numpy()


def run_graph(write: Callable[[Path], None], images: FloatArray) -> FloatArray:
    """Logits on ONNX Runtime, image by image, in the dtype that the graph takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write(path)
        session = open_session(path, session_options(None))
    image = session.get_inputs()[0]
    dtype = np.float16 if image.type == "tensor(float16)" else np.float32
    feeds = ({image.name: part.astype(dtype)} for part in np.split(images, len(images)))
    logits = [session.run(None, feed)[0].astype(np.float32) for feed in feeds]
    return np.concatenate(logits)


def default_photos() -> Path:
    """The photos of the tests; they lie in the wheel of an image library, which is not imported.

    Raises:
        EnvironmentMissingError: The wheel is not installed.
    """
    spec = importlib.util.find_spec("foolbox")
    if spec is None or spec.origin is None:
        raise EnvironmentMissingError("no photos: foolbox is not installed", "--images FOLDER")
    return Path(spec.origin).parent / "data"
