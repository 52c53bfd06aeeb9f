"""OpenVINO on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from swin_deploy.batches import BatchRange
from swin_deploy.data.pixels import FP32_INPUT, ImageInput, as_float32
from swin_deploy.errors import ConfigError, InputError
from swin_deploy.files import refuse_impostors
from swin_deploy.metrics import FloatArray
from swin_deploy.precisions import Precision

if TYPE_CHECKING:
    from typing import Self  # Python 3.11: devices have 3.10

# What OpenVINO computes floating-point operations in. Left to itself it takes BF16 where the CPU
# has it, whatever the graph says: an FP32 engine has to be told, or its floor would mean nothing.
# An INT8 engine is left to it, so what surrounds the integer products is BF16 on such a CPU.
HINTS: dict[Precision, str | None] = {"fp32": "f32", "bf16": "bf16", "int8": None}


class OpenVinoRunner:
    """Runs an engine of two files, NAME.xml and NAME.bin, on OpenVINO's CPU device.

    Args:
        path: The .xml: one image input, any number of outputs.
        precision: Of its graph; one of ``HINTS``.
        threads: For an inference; None for one per usable core.
        name: What tables call it; by default the runtime and the file.
        image_input: What its input is.
    """

    def __init__(
        self,
        path: Path,
        precision: Precision,
        threads: int | None = None,
        name: str | None = None,
        image_input: ImageInput = FP32_INPUT,
    ) -> None:
        self.path = path
        self.precision = precision
        self.threads = threads
        self.image_input = image_input
        self.name = name or f"openvino {path.name}"
        self._request: Any = None

    def __enter__(self) -> Self:
        compiled = compile_engine(self.path, runtime_settings(self.precision, self.threads))
        self._request = compiled.create_infer_request()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._request = None

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """(b, channels, H, W), or of pixels (b, H, W, channels); "?" for what is dynamic."""
        shape = self._request.model_inputs[0].get_partial_shape()
        return tuple("?" if size.is_dynamic else size.get_length() for size in shape)

    @property
    def batch(self) -> BatchRange:
        """The file's own batch where it is static, else up to any size."""
        size = self.input_shape[0]
        if isinstance(size, int):
            return BatchRange(low=size, high=size)
        return BatchRange(low=1, high=4096)

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """As ``ImageInput.prepare``."""
        return self.image_input.prepare(images)

    def run(self, images: NDArray[Any]) -> dict[str, FloatArray]:
        """What ``prepare`` gives -> outputs by name, (b, ...) float32 each, "classes" int64."""
        if not self.batch.low <= len(images) <= self.batch.high:
            raise ConfigError(
                f"{self.path} takes a batch of {self.batch}, got {len(images)}",
                f"--batch {len(images)} at export",
            )
        if images.shape[1:] != self.input_shape[1:]:
            raise ConfigError(
                f"{self.path} takes images of {self.input_shape[1:]}, got {images.shape[1:]}",
                "the --variant or --config of that network",
            )
        found = self._request.infer([images])
        return {port.get_any_name(): as_float32(array) for port, array in found.items()}


def runtime_settings(precision: Precision, threads: int | None) -> dict[str, Any]:
    """How an engine is compiled for the CPU: for the latency of one call.

    Args:
        precision: Of its graph.
        threads: None for one per usable core.
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
    }
    hint = HINTS[precision]
    return settings if hint is None else settings | {"INFERENCE_PRECISION_HINT": hint}


def compile_engine(path: Path, settings: dict[str, Any]) -> Any:
    """The engine in ``path``, compiled for this CPU.

    Raises:
        InputError: It is none, or half of one.
    """
    import openvino

    for file in (path, path.with_suffix(".bin")):
        refuse_impostors(file, "an OpenVINO model")
    core = openvino.Core()
    try:
        return core.compile_model(core.read_model(str(path)), "CPU", settings)
    except RuntimeError as error:
        raise InputError(f"{path} is not a model that OpenVINO runs: {error}") from error
