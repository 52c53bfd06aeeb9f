"""Time and peak memory of a calibration, and what share of its range each method keeps.

    scripts/measure_calibration.py --variant swin_t --images 64 --photos DIR

Exports the network with random weights and counts the inputs of all its matrix products, in a
process of its own, over the photos of the folder, repeated as often as it takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from swin_deploy.core.process import run_in_child
from swin_deploy.data.images import list_photos
from swin_deploy.data.samples import find_calibration, read_batches
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.thresholds import TensorStatistics, describe_dead
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.export_form import choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray
from swin_deploy.network.model.build import build_model

TIMEOUT_S = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="swin_t", choices=sorted(VARIANTS))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1, help="static batch of the graph")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photos")
    print_measurement(**vars(parser.parse_args()))


def print_measurement(variant: str, images: int, batch: int, photos: Path) -> None:
    with TemporaryDirectory() as folder:
        graph, listing = Path(folder) / "model.onnx", Path(folder) / "photos.txt"
        found = [str(path.absolute()) for path in list_photos(photos)]
        listing.write_text("".join(f"{found[i % len(found)]}\n" for i in range(images)))
        log = Path(folder) / "log"
        tensors = run_in_child(export, log, TIMEOUT_S, variant, batch, graph)
        calibrate, arguments = measure, (variant, batch, graph, tensors, listing)
        seconds, cpu, decoding, peak, statistics = run_in_child(
            calibrate, log, TIMEOUT_S, *arguments
        )
        again, *_ = run_in_child(calibrate, log, TIMEOUT_S, *arguments)
        cache = graph.with_suffix(".npz").stat().st_size
    print(
        f"{variant}, batch {batch}: {images} images, {len(tensors)} tensors, {seconds:.1f} s "
        f"({1e3 * seconds / images:.0f} ms an image, {1e3 * cpu / images:.0f} ms of CPU time, "
        f"{1e3 * decoding / images:.0f} ms for decoding), "
        f"peak memory {peak / 2**30:.2f} GiB; from the cache {again:.1f} s, {cache / 2**20:.1f} MiB"
    )
    print(f"{'method':12} {'ms a tensor':>11} {'mean':>6} {'least':>6}  of the largest magnitude")
    for method in CALIBRATION_METHODS:
        start = time.perf_counter()
        shares = [found.threshold(method) / found.largest for found in statistics.values()]
        per_tensor = 1e3 * (time.perf_counter() - start) / len(shares)
        print(f"{method:12} {per_tensor:11.1f} {np.mean(shares):6.3f} {min(shares):6.3f}")
    for note in describe_dead(statistics):
        print(note)


def export(variant: str, batch: int, path: Path) -> list[str]:
    """Write the graph, and name the inputs of its matrix products."""
    config = VARIANTS[variant].config
    frozen = freeze(build_model(config, seed=0), choose_form(["onnxruntime"], static=True))
    export_graph(frozen, config, BatchRange(low=batch, high=batch), path)
    model = onnx.load(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    inputs = dict.fromkeys(name for node in products for name in node.input)
    return [name for name in inputs if name not in constants]


def measure(
    variant: str, batch: int, graph: Path, tensors: list[str], listing: Path
) -> tuple[float, float, float, float, dict[str, TensorStatistics]]:
    """Seconds, CPU seconds, seconds of decoding, peak bytes of this process, statistics."""
    network = VARIANTS[variant]
    size, preprocessing = network.config.image_size, network.preprocessing
    decoding = 0.0

    def batches() -> Iterator[FloatArray]:
        nonlocal decoding
        begin = time.perf_counter()
        for images in read_batches(calibration, size, preprocessing, batch):
            decoding += time.perf_counter() - begin
            yield images
            begin = time.perf_counter()

    start, cpu = time.perf_counter(), time.process_time()
    calibration = find_calibration(listing)
    identity = calibration.identity(size, preprocessing)
    cache = graph.with_suffix(".npz")
    statistics = collect_statistics(graph, tensors, batches, cache, identity)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return seconds, cpu, decoding, peak_bytes(), statistics


def peak_bytes() -> int:
    """Largest resident set of this process; getrusage would begin with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main()
