"""The memory and the clocks of one call on the GPU: images in, outputs out, what took how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.data.images import as_float32
from swin_deploy.engine.runners import cuda


@dataclass(frozen=True, slots=True)
class GpuTiming:
    """One call, clocked: three parts by the GPU's clock, two by the host's.

    Attributes:
        upload_ms: On the GPU: the copy of the images to it.
        compute_ms: On the GPU: the engine alone, "GPU time" of other tools.
        download_ms: On the GPU: the copies of the outputs back.
        enqueue_ms: On the host: sending the engine's work, without waiting for it. Beyond 0.8 of
            ``compute_ms`` the host cannot keep the GPU busy.
        total_ms: On the host: the whole call, images in and outputs out of arrays of their own.
        cuda_graph: Whether the engine's work went as one CUDA graph that the runner captured.
    """

    upload_ms: float
    compute_ms: float
    download_ms: float
    enqueue_ms: float
    total_ms: float
    cuda_graph: bool


class Staging:
    """Pinned and device memory for every input and output, and a stream: for one call at a time.

    Args:
        image: Name of the input.
        shapes: Tensor -> its shape without the batch.
        dtypes: Tensor -> its dtype.
        high: The largest batch.
        undo: Gets what gives everything back.

    Attributes:
        stream: Copies and the engine's work go to it.
    """

    def __init__(
        self,
        image: str,
        shapes: dict[str, tuple[int, ...]],
        dtypes: dict[str, np.dtype[Any]],
        high: int,
        undo: ExitStack,
    ) -> None:
        self._image = image
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, cuda.DeviceBuffer] = {}
        self.stream = cuda.Stream()
        undo.callback(self.stream.free)
        self._events = []
        for _ in range(4):
            self._events.append(cuda.Event())
            undo.callback(self._events[-1].free)
        for name, shape in shapes.items():
            pinned = cuda.PinnedBuffer((high, *shape), dtypes[name])
            undo.callback(pinned.free)
            self._device[name] = cuda.DeviceBuffer(pinned.array.nbytes)
            undo.callback(self._device[name].free)
            self._host[name] = pinned.array

    @property
    def addresses(self) -> dict[str, int]:
        """Tensor -> where it is on the device."""
        return {name: buffer.pointer for name, buffer in self._device.items()}

    def run(
        self, images: NDArray[Any], send: Callable[[int], bool], timed: bool
    ) -> tuple[dict[str, NDArray[Any]], GpuTiming | None]:
        """One call.

        Args:
            images: (b, ...), of the input's dtype.
            send: Sends the engine's work for b images to the stream; whether as a CUDA graph.
            timed: Whether to clock it.

        Returns:
            Outputs by name, (b, ...) float32 or int64, and the clocks if they were asked for.
        """
        start, count = time.perf_counter(), len(images)
        sent = self._host[self._image][:count]
        sent[:] = images
        self._mark(0, timed)
        self._device[self._image].upload(sent, self.stream)
        self._mark(1, timed)
        sending = time.perf_counter()
        as_graph = send(count)
        enqueue_ms = 1e3 * (time.perf_counter() - sending)
        self._mark(2, timed)
        views = {name: a[:count] for name, a in self._host.items() if name != self._image}
        for name, view in views.items():
            self._device[name].download(view, self.stream)
        self._mark(3, timed)
        self.stream.wait()
        outputs = {name: as_float32(view.copy()) for name, view in views.items()}
        if not timed:
            return outputs, None
        total_ms = 1e3 * (time.perf_counter() - start)
        upload, compute, download = (
            later.ms_since(earlier)
            for earlier, later in zip(self._events, self._events[1:], strict=False)
        )
        timing = GpuTiming(upload, compute, download, enqueue_ms, total_ms, as_graph)
        return outputs, timing

    def _mark(self, index: int, timed: bool) -> None:
        if timed:
            self._events[index].record(self.stream)
