"""ONNX Runtime, on the CPU or any other provider; and the first run of a graph that is not ours.

A valid graph may loop for ever or take its process along, and nothing in the file tells.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import EnvironmentMissingError, InputError, ResourceError
from swin_deploy.core.files import Recorded, read_bytes, require_plain_file
from swin_deploy.core.process import run_in_child
from swin_deploy.core.records import reading
from swin_deploy.data.images import FP32_INPUT, ImageInput, as_float32
from swin_deploy.engine.here import integer_sums_saturate
from swin_deploy.engine.runners.base import batch_of, require_fit
from swin_deploy.engine.runners.ends import expose_logits
from swin_deploy.network.interface import LOGITS, BatchRange, Interface
from swin_deploy.network.judge import FloatArray

if TYPE_CHECKING:
    from typing import Self


# From 1.29 on it reports its use to Microsoft and keeps an identifier below ~/.cache/Microsoft. It
# reads this when it is imported, and what imports it in here has imported this; see docs/device.md.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

CPU = "CPUExecutionProvider"
GPU = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
# What it says on x86-64 without VNNI: each product turns its weights into uint8, under one name.
_SHARED = "Attempt to replace the existing tensor"
# In what it says of graphs that are newer than it is.
_NEWER = ("till opset", "Unsupported model IR version")
_IMAGES = ("tensor(float)", "tensor(float16)", "tensor(uint8)")


class OnnxRuntimeRunner:
    """Runs an ONNX file on one of ONNX Runtime's execution providers. Threads may share it.

    Args:
        path: The ONNX file: one image input, any number of outputs.
        threads: Threads within an operator; None for one per usable core.
        name: What tables call it; by default the runtime and the file.
        image_input: What its input is.
        simulated_int8: Compute the products of a graph with Q/DQ pairs in FP32 on the numbers that
            those pairs leave, instead of with the INT8 kernels of this CPU: for graphs that are
            meant for another runtime, of whose products the kernels here would be no likeness.
        sparing: Compute everything as late, and free it as early, as the graph allows: for graphs
            with many small outputs of large tensors, which would all be held to the end.
        provider: As ``find_provider`` takes it. That one runs the file, or nothing does; nodes that
            it cannot compute are computed on the CPU, and noted.
        before: Give the logits that these ends take, in place of what the file gives.
        recorded: The file with its recorded hash, if it has one: those bytes are run, or nothing.

    Attributes:
        notes: What a user has to know of it: which nodes run elsewhere.
        input_shape: (b, channels, H, W), or of pixels (b, H, W, channels), when it is entered; b is
            a name if it is dynamic.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        name: str | None = None,
        image_input: ImageInput = FP32_INPUT,
        *,
        simulated_int8: bool = False,
        sparing: bool = False,
        provider: str = CPU,
        before: Interface | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        self.path = path
        self.recorded = recorded
        self.sparing = sparing
        self.before = before
        self.simulated_int8 = simulated_int8
        self.threads = threads
        self.image_input = image_input
        self.provider = provider
        self.name = name or f"onnxruntime {path.name}"
        self.notes: list[str] = []
        self.input_shape: tuple[int | str, ...] = ()
        self._session: Any = None

    def __enter__(self) -> Self:
        options = session_options(self.threads, self.simulated_int8)
        if self.sparing:
            import onnxruntime

            options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        provider = find_provider(self.provider)
        if provider != CPU:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        source, content, tensor = self.recorded or self.path, None, None
        if self.before is not None:
            content, tensor = expose_logits(read_bytes(source), self.before, self.path.name)
        self._session = open_session(source, options, provider, content)
        if provider != CPU:
            self.notes = _elsewhere(self._session, provider)
        self._image, self.input_shape = _image_of(self.path, self._session)
        self._outputs = {output.name: output.name for output in self._session.get_outputs()}
        if tensor is not None:
            self._outputs = {tensor: LOGITS}
        return self

    @property
    def on_gpu(self) -> bool:
        """Whether its provider computes on an NVIDIA GPU."""
        return find_provider(self.provider) in GPU

    def __exit__(self, *error: object) -> None:
        self._session = None

    @property
    def batch(self) -> BatchRange:
        """The file's own batch where it is static, else up to any size."""
        return batch_of(self.input_shape)

    def prepare(self, images: FloatArray) -> NDArray[Any]:
        """As ``ImageInput.prepare``."""
        return self.image_input.prepare(images)

    def run(self, images: NDArray[Any]) -> dict[str, FloatArray]:
        """What ``prepare`` gives -> outputs by name, (b, ...) float32 each, "classes" int64.

        Raises:
            ConfigError: They do not fit.
            InputError: The graph fails on them, or gives what is no array of numbers.
            ResourceError: There is no memory for it.
        """
        require_fit(self.path, images, self.batch, self.input_shape[1:])
        with reading(self.path, "a graph that ONNX Runtime runs", "another graph"):
            arrays = self._session.run(list(self._outputs), {self._image: images})
            names = self._outputs.values()
            return {n: as_float32(array) for n, array in zip(names, arrays, strict=True)}


def _image_of(path: Path, session: Any) -> tuple[str, tuple[int | str, ...]]:
    """Name and shape of the one input."""
    inputs = session.get_inputs()
    found = ", ".join(f"{i.name!r:.40} {i.type} {i.shape}" for i in inputs[:5]) or "nothing"
    if len(inputs) != 1 or inputs[0].type not in _IMAGES or not inputs[0].shape:
        raise InputError(f"{path} takes {found}, not a batch of images", "another graph")
    if not session.get_outputs():
        raise InputError(f"{path} gives nothing", "another graph")
    return inputs[0].name, tuple(inputs[0].shape)


def session_options(threads: int | None, simulated_int8: bool = False) -> Any:
    """Quiet, threads for the cores of this process, and integer products that are exact.

    Args:
        threads: As of ``OnnxRuntimeRunner``.
        simulated_int8: Likewise.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; 2 would print warnings about its own rewrites
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    # On x86-64 without VNNI, sums of products of uint8 and int8 saturate at 16 bits, and the result
    # is wrong without a word (1.31: by up to a quarter of the largest). This makes it uint8 alone,
    # which is exact. Elsewhere the sums are exact already, and the entry would only refuse graphs
    # whose products share constants, which it does on every processor.
    if integer_sums_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    if simulated_int8:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def find_provider(name: str) -> str:
    """The execution provider called ``name``, in full or short: "cuda", "openvino", "CPU"."""
    import onnxruntime

    available: list[str] = onnxruntime.get_available_providers()
    wanted = name.lower().removesuffix("executionprovider")
    for provider in available:
        if provider.lower().removesuffix("executionprovider") == wanted:
            return provider
    raise EnvironmentMissingError(
        f"ONNX Runtime {onnxruntime.__version__} has no execution provider {name!r}",
        f"one of {', '.join(available)}; others come in packages of their own, such as "
        "onnxruntime-gpu",
    )


def open_session(
    source: Path | Recorded, options: Any, provider: str = CPU, content: bytes | None = None
) -> Any:
    """An inference session on exactly one provider, and the CPU for what that cannot compute.

    Args:
        source: The ONNX file; of a recorded one, the session is made of the bytes that were
            compared with the hash.
        options: As ``session_options`` makes them.
        provider: In full, one of those that are available.
        content: Taken in place of that of the file.

    Raises:
        InputError: The file is no ONNX model that ONNX Runtime can run.
        EnvironmentMissingError: The provider does not start here.
        UnsafeError: The file is not the one that was recorded.
    """
    import onnxruntime

    path = source.path if isinstance(source, Recorded) else source
    if isinstance(source, Path):
        require_plain_file(path, "an ONNX model")
    model = source.read() if isinstance(source, Recorded) and content is None else content or path
    if provider in GPU and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries where pip put them, beside PyTorch's
    advice = f"the libraries that {provider} needs, or another provider"
    try:
        with reading(path, "an ONNX model that ONNX Runtime runs"):
            session = onnxruntime.InferenceSession(
                model, options, providers=[provider], enable_fallback=False
            )
    except InputError as error:
        if provider != CPU:
            raise EnvironmentMissingError(
                f"{provider} does not run {path} here: {error.problem}", advice
            ) from error
        if _SHARED in str(error.__cause__):
            raise InputError(
                f"{path} has integer products that share a weight or its zero point, which ONNX "
                "Runtime does not multiply exactly on this CPU: it has no VNNI",
                "constants of its own for each product, or a CPU with VNNI",
            ) from error
        if any(text in str(error.__cause__) for text in _NEWER):
            raise EnvironmentMissingError(
                f"{path} is newer than ONNX Runtime {onnxruntime.__version__}: {error.problem}",
                "a newer onnxruntime, or export with a lower --opset",
            ) from error
        raise
    session.disable_fallback()  # a call that fails would be repeated on the CPU
    if (first := session.get_providers()[0]) != provider:
        raise EnvironmentMissingError(
            f"{provider} does not start here: ONNX Runtime took {first} in its place", advice
        )
    return session


def _elsewhere(session: Any, provider: str) -> list[str]:
    """A note on the nodes that the provider left to others, as far as this version says."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return [f"this version of ONNX Runtime does not say which nodes {provider} computes"]
    groups = session.get_provider_graph_assignment_info()
    counts = Counter({group.ep_name: 0 for group in groups})
    for group in groups:
        counts[group.ep_name] += len(group.get_nodes())
    here, total = counts[provider], counts.total()
    if not here:
        raise EnvironmentMissingError(
            f"{provider} computes none of the {total} nodes; all were left to the CPU",
            "another provider",
        )
    if here == total:
        return []
    kinds = Counter(node.op_type for g in groups if g.ep_name != provider for node in g.get_nodes())
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    return [f"{total - here} of {total} nodes are not computed by {provider}: {listed}"]


LIMIT_S = 300.0  # the largest Swin opens and runs within 10 s on two cores
MOST_BYTES = 2 << 30  # of images; a batch beyond is no batch for a CPU


def require_runs(runner: OnnxRuntimeRunner, shape: tuple[int, ...]) -> None:
    """Run the smallest batch of grey images that a graph takes, where it can do no harm.

    Args:
        runner: Of the graph; not entered.
        shape: (channels, height, width) of its images.
    """
    require_plain_file(runner.path, "an ONNX model")
    with tempfile.TemporaryDirectory(prefix="swin-deploy-trial.") as folder:
        try:
            run_in_child(_run_once, Path(folder) / "log", LIMIT_S, runner, shape)
        except ResourceError as error:
            raise ResourceError(
                f"{runner.path} was run in a process of its own: {error.problem}",
                f"the same alone: {reproduce(runner.path, shape)}",
            ) from error


def reproduce(path: Path, shape: tuple[int, ...]) -> str:
    """A command that runs a graph once, in a process without a clock."""
    return f"{sys.executable} -m {__name__} {path} {' '.join(map(str, shape))}"


def _run_once(runner: OnnxRuntimeRunner, shape: tuple[int, ...]) -> None:
    with runner as opened:
        count, taken = opened.batch.low, opened.image_input
        if count * int(np.prod(shape)) * 4 > MOST_BYTES:
            raise InputError(f"{runner.path} takes batches of {count} images, no fewer")
        grey = np.zeros((count, *shape), dtype=np.float32)
        if taken.mean:  # the nearest that pixels can be
            mean = np.asarray(taken.mean).reshape(-1, 1, 1)
            pixels = np.rint(mean * 255)
            grey += ((pixels / 255 - mean) / np.asarray(taken.std).reshape(-1, 1, 1)).astype("f4")
        opened.run(opened.prepare(grey))


if __name__ == "__main__":
    _run_once(OnnxRuntimeRunner(Path(sys.argv[1])), tuple(map(int, sys.argv[2:])))
