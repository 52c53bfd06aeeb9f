"""OpenVINO on the CPU."""

from __future__ import annotations

import os
import queue
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import Recorded, require_plain_file
from swin_deploy.data.images import FP32_INPUT, ImageInput, as_float32
from swin_deploy.engine.here import integer_sums_saturate
from swin_deploy.engine.runners.base import batch_of, require_fit
from swin_deploy.engine.runners.ends import cut_openvino
from swin_deploy.network.interface import BatchRange, Interface, Precision
from swin_deploy.network.judge import FloatArray

if TYPE_CHECKING:
    from typing import Self


# What OpenVINO computes floating-point operations in. Left to itself it takes BF16 where the CPU
# has it, whatever the graph says: an FP32 engine has to be told, or its floor would mean nothing.
# An INT8 engine is left to it, so what surrounds the integer products is BF16 on such a CPU.
HINTS: dict[Precision, str | None] = {"fp32": "f32", "bf16": "bf16", "int8": None}


class OpenVinoRunner:
    """Runs an engine of two files, NAME.xml and NAME.bin, on OpenVINO's CPU device.

    ``run`` may be called by several threads: as many as there are requests run at once.

    Args:
        path: The .xml: one image input, any number of outputs.
        precision: Of its graph; one of ``HINTS``.
        threads: For all inferences that run at once; None for one per usable core.
        name: What tables call it; by default the runtime and the file.
        image_input: What its input is.
        requests: How many calls run at once, each with its share of the threads. One call alone is
            answered soonest with 1; many threads of the caller's get the most done with None, for
            as many as OpenVINO finds best.
        before: Give the logits that these ends take, in place of what the file gives.
        recorded: Both files with their recorded hashes, if they have some: those bytes are run, or
            nothing.

    Attributes:
        input_shape: (b, channels, H, W), or of pixels (b, H, W, channels), when it is entered; "?"
            for what is dynamic.
    """

    def __init__(
        self,
        path: Path,
        precision: Precision,
        threads: int | None = None,
        name: str | None = None,
        image_input: ImageInput = FP32_INPUT,
        *,
        requests: int | None = 1,
        before: Interface | None = None,
        recorded: Sequence[Recorded] = (),
    ) -> None:
        if requests is not None and requests < 1:
            raise ConfigError(f"requests = {requests} must be at least 1")
        self.path = path
        self.before = before
        self.recorded = tuple(recorded)
        self.precision = precision
        self.threads = threads
        self.image_input = image_input
        self.name = name or f"openvino {path.name}"
        self.requests = requests
        self.input_shape: tuple[int | str, ...] = ()
        self._compiled: Any = None

    def __enter__(self) -> Self:
        settings = runtime_settings(self.precision, self.threads, self.requests)
        self._compiled = compile_engine(self.path, settings, self.before, self.recorded)
        if self.requests is None:
            self.requests = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        shape = self._compiled.input(0).get_partial_shape()
        self.input_shape = tuple("?" if s.is_dynamic else s.get_length() for s in shape)
        self._free: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(self.requests):
            self._free.put(self._compiled.create_infer_request())
        return self

    def __exit__(self, *error: object) -> None:
        self._compiled = None
        self._free = queue.LifoQueue()

    @property
    def batch(self) -> BatchRange:
        """The file's own batch where it is static, else up to any size."""
        return batch_of(self.input_shape)

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """As ``ImageInput.prepare``."""
        return self.image_input.prepare(images)

    def run(self, images: NDArray[Any]) -> dict[str, FloatArray]:
        """What ``prepare`` gives -> outputs by name, (b, ...) float32 each, "classes" int64."""
        require_fit(self.path, images, self.batch, self.input_shape[1:])
        request = self._free.get()
        try:
            found = request.infer([images], share_inputs=True)  # they stay until it has answered
            return {port.get_any_name(): as_float32(array) for port, array in found.items()}
        finally:
            self._free.put(request)


def runtime_settings(
    precision: Precision, threads: int | None, requests: int | None = 1
) -> dict[str, Any]:
    """How an engine is compiled for the CPU: for the latency of one call, or for many at once.

    Args:
        precision: Of its graph.
        threads: None for one per usable core.
        requests: How many calls run at once; None for as many as OpenVINO finds best.
    """
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY" if requests == 1 else "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
    }
    if requests not in (None, 1):
        settings["PERFORMANCE_HINT_NUM_REQUESTS"] = requests
    if (hint := HINTS[precision]) is not None:
        settings["INFERENCE_PRECISION_HINT"] = hint
    if precision == "int8" and integer_sums_saturate():
        # Its INT8 kernels are wrong on such a CPU, without a word (2026.4: by up to a quarter of
        # the largest result). Without this step of its it multiplies the same numbers in floats.
        settings["LP_TRANSFORMS_MODE"] = "NO"
    return settings


def compile_engine(
    path: Path,
    settings: dict[str, Any],
    before: Interface | None = None,
    recorded: Sequence[Recorded] = (),
) -> Any:
    """The engine in ``path``, or what of it comes before its ends, compiled for this CPU.

    Args:
        path: The .xml.
        settings: From ``runtime_settings``.
        before: As of ``OpenVinoRunner``.
        recorded: Likewise.
    """
    import openvino

    for file in (path, path.with_suffix(".bin")):
        require_plain_file(file, "an OpenVINO model")
    core = openvino.Core()
    parts = [file.read() for file in recorded]
    try:
        model = core.read_model(*parts) if parts else core.read_model(str(path))
        if before is not None:
            model = cut_openvino(model, before, path)
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise InputError(f"{path} is not a model that OpenVINO runs: {error}") from error
