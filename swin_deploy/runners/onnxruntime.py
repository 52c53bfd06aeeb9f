"""ONNX Runtime on the CPU."""

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

if TYPE_CHECKING:
    from typing import Self  # Python 3.11: devices have 3.10


class OnnxRuntimeRunner:
    """Runs an ONNX file on ONNX Runtime's CPU provider.

    Args:
        path: The ONNX file: one image input, any number of outputs.
        threads: Threads within an operator; None for one per usable core.
        name: What tables call it; by default the runtime and the file.
        image_input: What its input is.
        simulated_int8: Compute the products of a graph with Q/DQ pairs in FP32 on the numbers that
            those pairs leave, instead of with the INT8 kernels of this CPU.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        name: str | None = None,
        image_input: ImageInput = FP32_INPUT,
        *,
        simulated_int8: bool = False,
    ) -> None:
        self.path = path
        self.simulated_int8 = simulated_int8
        self.threads = threads
        self.image_input = image_input
        self.name = name or f"onnxruntime {path.name}"
        self._session: Any = None

    def __enter__(self) -> Self:
        options = session_options(self.threads)
        if self.simulated_int8:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._session = open_session(self.path, options)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = None

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """(b, channels, H, W), or of pixels (b, H, W, channels); b is a name if it is dynamic."""
        return tuple(self._session.get_inputs()[0].shape)

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
        if list(images.shape[1:]) != list(self.input_shape[1:]):
            raise ConfigError(
                f"{self.path} takes images of {self.input_shape[1:]}, got {images.shape[1:]}",
                "the --variant or --config of that network",
            )
        names = [output.name for output in self._session.get_outputs()]
        arrays = self._session.run(names, {self._session.get_inputs()[0].name: images})
        return {n: as_float32(array) for n, array in zip(names, arrays, strict=True)}


def session_options(threads: int | None) -> Any:
    """Options that keep ONNX Runtime quiet and its threads to the cores of this process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; 2 would print warnings about its own rewrites
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    return options


def open_session(path: Path, options: Any) -> Any:
    """An inference session on the CPU.

    Raises:
        InputError: The file is no ONNX model that ONNX Runtime can run.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    refuse_impostors(path, "an ONNX model")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (
        states.InvalidProtobuf,
        states.InvalidGraph,
        states.InvalidArgument,
        states.NoSuchFile,
        states.NotImplemented,
        states.Fail,
        states.RuntimeException,
    ) as error:
        raise InputError(f"{path} is not an ONNX model that ONNX Runtime runs: {error}") from error
