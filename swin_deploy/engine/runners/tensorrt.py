"""TensorRT and TensorRT-RTX plans on the GPU of this machine, and what was compiled for it."""

from __future__ import annotations

import hashlib
import importlib
import queue
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    ResourceError,
    from_os_error,
    present,
)
from swin_deploy.core.files import Recorded, atomic_path, cache_folder, digest, read_bytes
from swin_deploy.data.images import FP32_INPUT, ImageInput
from swin_deploy.engine.runners import cuda
from swin_deploy.engine.runners.base import require_fit
from swin_deploy.engine.runners.staging import GpuTiming, Staging
from swin_deploy.engine.timing_cache import read_cache
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray

if TYPE_CHECKING:
    from typing import Self


_DIGEST_BYTES = hashlib.sha256().digest_size


def kernel_cache_folder() -> Path:
    """Where caches lie if nobody says otherwise."""
    return cache_folder("rtx")


def kernel_cache_file(folder: Path, plan_sha256: str, device: str, version: str) -> Path:
    """The file of an engine on one GPU, driver and version: others have other names.

    Args:
        folder: Where caches lie.
        plan_sha256: Of the engine.
        device: The GPU and its driver, in any words.
        version: Of the library.
    """
    return folder / f"{digest([plan_sha256, device, version])[:32]}.bin"


def read_kernel_cache(path: Path) -> tuple[bytes, str]:
    """What was kept, b"" if nothing was, and a note if there is a file but it is no good."""
    content, note = read_cache(path, "runtime cache")
    if not content:
        return b"", note
    expected, blob = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(blob).digest() != expected:
        return b"", f"runtime cache {path} is damaged; its kernels are compiled anew"
    return blob, ""


def write_kernel_cache(path: Path, blob: bytes) -> str:
    """Keep it, whole or not at all; a note if that cannot be: an engine runs without, too."""
    try:
        with atomic_path(path) as scratch:
            scratch.write_bytes(hashlib.sha256(blob).digest() + blob)
    except OSError as error:
        return f"runtime cache not kept: {from_os_error(error) or error}"
    return ""


_DTYPES: dict[str, np.dtype[Any]] = {  # of inputs and outputs, by TensorRT's names
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "UINT8": np.dtype(np.uint8),
    "INT64": np.dtype(np.int64),
}


class TensorRtRunner:
    """Runs a plan. It is native code: hand over only files whose hash was checked.

    ``run`` may be called by several threads; as many as there are contexts run at once, each on a
    stream of its own, others wait. Images and outputs go through pinned memory.

    With CUDA graphs, the first call of a batch size sends the kernels one by one, the second in a
    row captures them, and further ones launch what was captured. A call of another size drops the
    graph: TensorRT may change what its kernels read when the shape changes. TensorRT-RTX captures
    by itself, since it knows which of its kernels are compiled.

    Args:
        path: The plan.
        module: "tensorrt" or "tensorrt_rtx".
        name: What tables call it.
        image_input: What its input is.
        contexts: How many calls run at once; each takes memory for its activations.
        cuda_graph: Send the work of a call as one, which takes the host less time.
        cache_folder: Where TensorRT-RTX keeps what it compiled at run time; None for
            ``kernel_cache_folder``.
        recorded: The plan with its recorded hash, if it has one: those bytes are run, or nothing.

    Attributes:
        notes: What a user has to know of it: why there is no CUDA graph, what became of the cache.
    """

    def __init__(
        self,
        path: Path,
        module: str,
        name: str,
        image_input: ImageInput = FP32_INPUT,
        *,
        contexts: int = 1,
        cuda_graph: bool = True,
        cache_folder: Path | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        if contexts < 1:
            raise ConfigError(f"contexts = {contexts} must be at least 1")
        self.path = path
        self.recorded = recorded
        self.module = module
        self.name = name
        self.image_input = image_input
        self.contexts = contexts
        self.cuda_graph = cuda_graph
        self.cache_folder = cache_folder
        self.notes: list[str] = []
        self._cached, self._cache_file = b"", path  # of TensorRT-RTX, found when it is entered

    def without_graph(self) -> TensorRtRunner:
        """Another runner of the same plan, which sends the work of a call kernel by kernel."""
        return TensorRtRunner(
            self.path,
            self.module,
            f"{self.name}, no CUDA graph",
            self.image_input,
            contexts=self.contexts,
            cuda_graph=False,
            cache_folder=self.cache_folder,
            recorded=self.recorded,
        )

    def __enter__(self) -> Self:
        trt = importlib.import_module(self.module)
        cuda.use_device()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        plan = read_bytes(self.recorded or self.path)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EnvironmentMissingError(
                f"{self.path} was not built for this {self.module} {trt.__version__} "
                f"on {cuda.device_name()}",
                "export again on this machine",
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        read = trt.TensorIOMode.INPUT
        (self._input,) = [name for name in names if self._engine.get_tensor_mode(name) == read]
        self._shapes = {name: tuple(self._engine.get_tensor_shape(name))[1:] for name in names}
        types = {name: str(self._engine.get_tensor_dtype(name)) for name in names}
        self._dtypes = {name: _DTYPES[text.rpartition(".")[2]] for name, text in types.items()}
        self._batch = self._read_batch()
        self._cache: Any = None
        with ExitStack() as undo:
            graphs = self.cuda_graph and not hasattr(trt, "CudaGraphStrategy")
            made = self._make_contexts(trt, hashlib.sha256(plan).hexdigest())
            if any(context is None for context in made):
                raise ResourceError(
                    f"{self.path}: no memory for its activations",
                    "a smaller batch or fewer contexts",
                )
            self._lanes = [self._make_lane(context, graphs, undo) for context in made]
            self._undo = undo.pop_all()
        self._free: queue.LifoQueue[int] = queue.LifoQueue()  # the last one has its graph ready
        for index in range(self.contexts):
            self._free.put(index)
        return self

    def __exit__(self, *error: object) -> None:
        cuda.use_device()
        if self._cache is not None and error[0] is None:
            kept = self._cache.serialize()
            if kept is not None and bytes(kept) != self._cached:
                self._note(write_kernel_cache(self._cache_file, bytes(kept)))
        self._undo.close()
        self._lanes = []
        self._cache = self._engine = self._runtime = None

    def _make_contexts(self, trt: Any, plan_sha256: str) -> Any:
        """As many contexts as were asked for; None in place of one that memory does not allow."""
        if hasattr(trt, "IRuntimeCache"):
            config = self._engine.create_runtime_config()
            # Kernels for a shape before its first call, and not some time after it: what was
            # verified is what runs.
            strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            config.dynamic_shapes_kernel_specialization_strategy = strategy
            if self.cuda_graph:
                config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._cache = config.create_runtime_cache()
            self._load_cache(trt.__version__, plan_sha256)
            config.set_runtime_cache(self._cache)
            return [self._engine.create_execution_context(config) for _ in range(self.contexts)]
        return [self._engine.create_execution_context() for _ in range(self.contexts)]

    def _make_lane(self, context: Any, cuda_graph: bool, undo: ExitStack) -> _Lane:
        image, high = self._input, self._batch.high
        staging = Staging(image, self._shapes, self._dtypes, high, undo)
        for name, address in staging.addresses.items():
            context.set_tensor_address(name, address)
        lane = _Lane(context, staging, image, self._shapes[image], cuda_graph)
        undo.callback(lane.drop_graph)
        return lane

    def _load_cache(self, version: str, plan_sha256: str) -> None:
        device = f"{cuda.device_name()}, driver {cuda.driver_version()}"
        folder = self.cache_folder or kernel_cache_folder()
        self._cache_file = kernel_cache_file(folder, plan_sha256, device, version)
        self._cached, note = read_kernel_cache(self._cache_file)
        if self._cached and not self._cache.deserialize(self._cached):
            note = f"runtime cache {self._cache_file} is of another machine; compiled anew"
        self._note(note)

    def _note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)

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

        Raises:
            ConfigError: The images are too few, too many, or of another shape or dtype.
            ResourceError: The engine failed, or memory ran out.
        """
        outputs, _ = self._call(images, timed=False)
        return outputs

    def timing(self, images: NDArray[np.generic]) -> GpuTiming:
        """One ``run`` with the parts of its time apart. Raises what ``run`` does.

        Warm up with at least two calls of the same batch size: the first compiles and the second
        captures the CUDA graph. Its clocks add some microseconds to ``total_ms``; ``run`` has none.
        """
        _, timing = self._call(images, timed=True)
        return present(timing)  # it was asked for

    def _call(
        self, images: NDArray[np.generic], timed: bool
    ) -> tuple[dict[str, FloatArray], GpuTiming | None]:
        require_fit(self.path, images, self._batch, self._shapes[self._input])
        if images.dtype != self._dtypes[self._input]:
            raise ConfigError(f"{self.path} takes {self._dtypes[self._input]}, got {images.dtype}")
        cuda.use_device()
        index = self._free.get()
        try:
            lane = self._lanes[index]
            answer = lane.run(images, timed)
            self._note(lane.problem)
            return answer
        finally:
            self._free.put(index)


class _Lane:
    """An execution context with its stream, its memory and its graph: one call at a time.

    Attributes:
        problem: Why its work is not captured, though that was asked for.
    """

    def __init__(
        self, context: Any, staging: Staging, image: str, shape: tuple[int, ...], cuda_graph: bool
    ) -> None:
        self.problem = ""
        self._context = context
        self._staging = staging
        self._stream = staging.stream
        self._image = image
        self._shape = shape
        self._wants_graph = cuda_graph
        self._graph: cuda.Graph | None = None
        self._count = 0  # of the images that the context is set to

    def run(
        self, images: NDArray[np.generic], timed: bool
    ) -> tuple[dict[str, NDArray[Any]], GpuTiming | None]:
        """Outputs, and the clocks if they were asked for."""
        return self._staging.run(images, self._send, timed)

    def _send(self, count: int) -> bool:
        """Send the engine's work to the stream; whether that was a graph."""
        if count != self._count:
            self.drop_graph()
            self._count = 0  # until the context has taken it
            if not self._context.set_input_shape(self._image, (count, *self._shape)):
                raise ResourceError(f"the engine refuses a batch of {count}", "export again")
            self._enqueue()  # does what the change left to do, too, which no graph may repeat
            self._count = count
            return False
        if self._wants_graph and self._graph is None:
            self._capture()
        if self._graph is None:
            self._enqueue()
            return False
        self._graph.launch(self._stream)
        return True

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream.handle):
            raise ResourceError("the engine failed on the GPU", "a smaller batch")

    def _capture(self) -> None:
        """Make the graph, or write down why there is none and try no more."""
        self._stream.begin_capture()
        try:
            fine = self._context.execute_async_v3(self._stream.handle)
        finally:
            graph, problem = self._end_capture()
        if graph is not None and fine:
            self._graph = graph
            return
        if graph is not None:
            graph.free()
        self._wants_graph = False
        self.problem = f"no CUDA graph: {problem or 'the engine cannot be captured'}"

    def _end_capture(self) -> tuple[cuda.Graph | None, str]:
        try:
            return self._stream.end_capture(), ""
        except EnvironmentMissingError as error:
            return None, error.problem

    def drop_graph(self) -> None:
        """Give the graph back, if there is one."""
        if self._graph is not None:
            self._graph.free()
        self._graph = None
