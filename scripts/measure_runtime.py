"""What ``SwinEngine`` costs on top of OpenVINO: images a second, beside a loop of its own calls.

    swin-deploy export --variant swin_t --batch 8 --target cpu-openvino --out runs/openvino
    swin-deploy bundle runs/openvino --target cpu-openvino --allow-random-weights --out b.zip
    python3 -m zipfile -e b.zip b && python3 b/swin.pyz build
    python scripts/measure_runtime.py b

Both compile the same engine with the same settings and get the same images, normalised already, a
batch at a time. The loop is what OpenVINO's benchmark_app does in its synchronous mode: one request,
``infer`` after ``infer``. ``SwinEngine`` also checks shapes, borrows a worker, and turns logits into
the best classes with their names. They take turns, so that a noisy machine slows both alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from swin_deploy.data.inputs import make_noise
from swin_deploy.runners.openvino import compile_engine, runtime_settings
from swin_deploy.runtime import SwinEngine


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="unpacked, for cpu-openvino, and built")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    with SwinEngine.load(options.bundle, threads=options.threads) as engine:
        shipped = engine.shipped
        channels = len(shipped.preprocessing.mean)
        images = make_noise(engine.batch, channels, shipped.image_size).images
        settings = runtime_settings(engine.precision, options.threads)
        request = compile_engine(engine.path, settings).create_infer_request()
        calls: list[Callable[[], object]] = [lambda: request.infer([images]), lambda: engine(images)]
        for call in calls * 3:
            call()
        rates = np.array(
            [[rate(call, options.seconds) for call in calls] for _ in range(options.turns)]
        )
        ratios = rates[:, 1] / rates[:, 0]
        own, ours = np.median(rates, axis=0) * engine.batch
        print(f"{engine.name}, batch {engine.batch}, {options.turns} turns of {options.seconds:g} s")
        print(f"openvino   {own:8.1f} images/s")
        print(f"SwinEngine {ours:8.1f} images/s")
        print(
            f"ratio      {np.median(ratios):8.3f} (median of the turns; quartiles "
            f"{np.quantile(ratios, 0.25):.3f} to {np.quantile(ratios, 0.75):.3f})"
        )


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls a second."""
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds or not count:
        call()
        count += 1
    return count / spent


if __name__ == "__main__":
    main()
