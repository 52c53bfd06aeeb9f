"""What ``SwinEngine`` costs on top of OpenVINO: images a second, beside a loop of its own calls.

    swin-deploy export --variant swin_t --batch 8 --target cpu-openvino --out runs/openvino
    swin-deploy bundle runs/openvino --target cpu-openvino --allow-random-weights --out b.zip
    python3 -m zipfile -e b.zip b && python3 b/swin.pyz build
    python scripts/measure_runtime.py b

Both compile the same engine with the same settings and get the same images, normalised already, one
batch at a time. The loop does what benchmark_app of OpenVINO does with one request: infer after
infer, without copies of the input. ``SwinEngine`` also checks shapes, borrows a worker, and turns
logits into the best classes with their names. They take turns, call by call, and each comes first
every other time, so that a noisy machine slows both alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from swin_deploy.data.images import make_noise
from swin_deploy.engine.runners.openvino import compile_engine, runtime_settings
from swin_deploy.runtime import SwinEngine


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="unpacked, for cpu-openvino, and built")
    parser.add_argument("--calls", type=int, default=100, help="of each")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    with SwinEngine.load(options.bundle, threads=options.threads) as engine:
        shipped, batch = engine.shipped, engine.batch
        images = make_noise(batch, len(shipped.preprocessing.mean), shipped.image_size).images
        settings = runtime_settings(engine.precision, options.threads)
        request = compile_engine(engine.path, settings).create_infer_request()
        calls: list[Callable[[], object]] = [
            lambda: request.infer([images], share_inputs=True),
            lambda: engine(images),
        ]
        times = np.array(take_turns(calls, options.calls))
    ratios = times[:, 0] / times[:, 1]
    quartiles = " to ".join(f"{value:.3f}" for value in np.quantile(ratios, (0.25, 0.75)))
    print(f"{engine.name}, batch {batch}, {options.calls} calls of each, in turns")
    for name, seconds in zip(("openvino", "SwinEngine"), times.T, strict=True):
        print(f"{name:10} {batch * len(seconds) / seconds.sum():8.1f} images/s")
    print(f"ratio      {times[:, 0].sum() / times[:, 1].sum():8.3f} of all calls")
    print(f"           {np.median(ratios):8.3f} median of the turns, quartiles {quartiles}")


def take_turns(calls: list[Callable[[], object]], count: int) -> list[list[float]]:
    """Seconds of every call, as [turn][call]; three turns before them do not count."""
    times = []
    for turn in range(-3, count):
        own = [0.0] * len(calls)
        order = list(enumerate(calls))
        for index, call in order if turn % 2 else reversed(order):
            start = time.perf_counter()
            call()
            own[index] = time.perf_counter() - start
        if turn >= 0:
            times.append(own)
    return times


if __name__ == "__main__":
    main()
