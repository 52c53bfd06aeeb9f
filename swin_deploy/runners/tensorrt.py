"""TensorRT and TensorRT-RTX plans on the GPU of this machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.batches import BatchRange
from swin_deploy.data.pixels import FP32_INPUT, ImageInput, as_float32
from swin_deploy.errors import ConfigError, EnvironmentMissingError, ResourceError
from swin_deploy.metrics import FloatArray
from swin_deploy.runners import cuda

if TYPE_CHECKING:
    from typing import Self  # Python 3.11: devices have 3.10

_DTYPES: dict[str, np.dtype[Any]] = {  # of inputs and outputs, by TensorRT's names
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype(np.int64),
}


class TensorRtRunner:
    """Runs a plan. It is native code: hand over only files whose hash was checked.

    Args:
        path: The plan.
        module: "tensorrt" or "tensorrt_rtx".
        name: What tables call it.
        image_input: What its input is.
    """

    def __init__(
        self, path: Path, module: str, name: str, image_input: ImageInput = FP32_INPUT
    ) -> None:
        self.path = path
        self.module = module
        self.name = name
        self.image_input = image_input

    def __enter__(self) -> Self:
        trt = importlib.import_module(self.module)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(self.path.read_bytes())
        if self._engine is None:
            raise EnvironmentMissingError(
                f"{self.path} was not built for this {self.module} {trt.__version__} "
                f"on {cuda.device_name()}",
                "export again on this machine",
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ResourceError(f"{self.path}: no memory for its activations", "a smaller batch")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        read = trt.TensorIOMode.INPUT
        (self._input,) = [name for name in names if self._engine.get_tensor_mode(name) == read]
        self._shapes = {name: tuple(self._engine.get_tensor_shape(name))[1:] for name in names}
        types = {name: str(self._engine.get_tensor_dtype(name)) for name in names}
        self._dtypes = {name: _DTYPES[text.rpartition(".")[2]] for name, text in types.items()}
        self._batch = self._read_batch()
        self._stream = cuda.make_stream()
        self._buffers = {
            name: cuda.DeviceBuffer(
                self._dtypes[name].itemsize * self._batch.high * int(np.prod(shape))
            )
            for name, shape in self._shapes.items()
        }
        for name, buffer in self._buffers.items():
            self._context.set_tensor_address(name, buffer.pointer)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for buffer in self._buffers.values():
            buffer.free()
        cuda.destroy_stream(self._stream)
        self._context = self._engine = self._runtime = None

    @property
    def batch(self) -> BatchRange:
        """The engine's own batch, or the range of its profile."""
        return self._batch

    def _read_batch(self) -> BatchRange:
        size = self._engine.get_tensor_shape(self._input)[0]
        if size > 0:
            return BatchRange(low=size, high=size)
        low, _, high = self._engine.get_tensor_profile_shape(self._input, 0)
        return BatchRange(low=low[0], high=high[0])

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """As ``ImageInput.prepare``."""
        return self.image_input.prepare(images)

    def run(self, images: NDArray[np.generic]) -> dict[str, FloatArray]:
        """What ``prepare`` gives -> outputs by name, (b, ...) float32, "classes" int64.

        Copies to the GPU and back are included.
        """
        if not self._batch.low <= len(images) <= self._batch.high:
            raise ConfigError(f"{self.path} takes a batch of {self._batch}, got {len(images)}")
        if images.dtype != self._dtypes[self._input]:
            raise ConfigError(f"{self.path} takes {self._dtypes[self._input]}, got {images.dtype}")
        outputs: dict[str, NDArray[Any]] = {
            name: np.empty((len(images), *shape), dtype=self._dtypes[name])
            for name, shape in self._shapes.items()
            if name != self._input
        }
        self._context.set_input_shape(self._input, images.shape)
        self._buffers[self._input].upload(np.ascontiguousarray(images), self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise ResourceError(f"{self.path} failed on the GPU", "a smaller batch")
        for name, array in outputs.items():
            self._buffers[name].download(array, self._stream)
        cuda.wait_for(self._stream)
        return {name: as_float32(array) for name, array in outputs.items()}
