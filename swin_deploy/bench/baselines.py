"""What an engine is measured against: the same weights without any of this package's rewriting."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from swin_deploy.batches import BatchRange
from swin_deploy.bench.measure import Entrant
from swin_deploy.bench.names import Baseline
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.open import open_engine
from swin_deploy.engine.target import Target
from swin_deploy.graph.export import OPSET
from swin_deploy.model.outputs import output_names
from swin_deploy.networks import NetworkConfig
from swin_deploy.precisions import HalfPrecision, Precision
from swin_deploy.runners.torch_eager import TorchRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerNetwork:
    """What all baselines are made from.

    Attributes:
        model: Gives what the engines give, in eval mode.
        config: The network.
        device: "cpu" or "cuda".
        threads: On the CPU.
    """

    model: nn.Module
    config: NetworkConfig
    device: str
    threads: int

    def entrant(
        self,
        kind: str,
        precision: Precision,
        dtype: torch.dtype | None = None,
        compiled: bool = False,
    ) -> Entrant:
        """The network as PyTorch itself runs it."""
        runner = TorchRunner(
            self.model if dtype is None else copy.deepcopy(self.model),
            f"{kind} PyTorch {precision} ({self.device})",
            self.device,
            dtype,
            compiled,
        )
        return Entrant(runner, precision, "baseline", self.device == "cuda")


def eager_entrant(network: EagerNetwork) -> Entrant:
    """Eager PyTorch in FP32, which speed-ups are over."""
    return network.entrant("eager", "fp32")


@contextmanager
def other_baselines(
    names: Sequence[Baseline],
    network: EagerNetwork,
    batches: Sequence[int],
    targets: Sequence[Target],
    progress: Callable[[str], None],
) -> Iterator[list[Entrant]]:
    """The baselines that were asked for, but eager FP32; their files last as long as the block.

    Args:
        names: Of the baselines.
        network: Eager.
        batches: That will be measured: the naive graphs take just those.
        targets: Of the candidates: the naive graph is compiled for the same runtimes.
        progress: Told what is being built.
    """
    found: list[Entrant] = []
    with tempfile.TemporaryDirectory(prefix="swin-deploy-bench-") as folder:
        if "eager-half" in names:
            # A CPU computes BF16, if anything below FP32; a GPU's first choice is FP16.
            half: HalfPrecision = "fp16" if network.device == "cuda" else "bf16"
            dtype = torch.float16 if half == "fp16" else torch.bfloat16
            found.append(network.entrant("eager", half, dtype))
        if "compile" in names:
            found.append(network.entrant("torch.compile", "fp32", compiled=True))
        if "naive" in names:
            for target in dict.fromkeys(targets):
                progress(f"exporting the network plainly for {target.name}")
                found.append(_naive(network, target, batches, Path(folder)))
        yield found


def _naive(network: EagerNetwork, target: Target, batches: Sequence[int], folder: Path) -> Entrant:
    """The eager network through PyTorch's exporter and nothing else, on the runtime of a target."""
    on_gpu = target.kind == "tensorrt"
    precision: Precision = "fp16" if on_gpu else "fp32"
    graph = folder / f"naive.{precision}.onnx"
    batch = BatchRange(low=min(batches), high=max(batches))
    if not graph.exists():
        export_plainly(network.model, network.config, batch, graph, half=on_gpu)
    engine = folder / Path(target.engine_name(precision)).name
    build_engine(target, graph, engine, batch, folder / "build.log")
    runner = open_engine(target, precision, engine, network.threads)
    runner.name = f"naive ONNX {target.name}-{precision}"
    return Entrant(runner, precision, "baseline", on_gpu)


def export_plainly(
    model: nn.Module, config: NetworkConfig, batch: BatchRange, path: Path, half: bool = False
) -> None:
    """Write the eager network to ``path`` as a user would without this package.

    Args:
        model: Gives its outputs by ``output_names``.
        config: The size of its images.
        batch: Static or dynamic.
        path: Gets the graph, weights embedded; float32 in and out.
        half: Convert the network with ``.half()`` first.
    """
    model = copy.deepcopy(model).cpu()
    if half:
        model = _Half(model.half()).eval()
    example = torch.zeros(batch.high, config.in_channels, *config.image_size)
    sizes = None if batch.static else torch.export.Dim("batch", min=batch.low, max=batch.high)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about graphs that are not ours
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            input_names=["image"],
            output_names=list(output_names(model)),
            dynamic_shapes=None if sizes is None else ({0: sizes},),
        )


class _Half(nn.Module):
    """A network in float16 with float32 ends, as ours have them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names = output_names(model)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        outputs = self.model(image.half())
        if isinstance(outputs, torch.Tensor):
            return outputs.float()
        return tuple(output.float() for output in outputs)
