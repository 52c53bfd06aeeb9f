"""What an engine is measured against: the same weights without any of this package's rewriting."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from swin_deploy.core.errors import EnvironmentMissingError
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.open import open_engine
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.engine.target import Target
from swin_deploy.graph.export import Halved, export_plainly
from swin_deploy.measure.bench import Baseline
from swin_deploy.measure.bench.stopwatch import Entrant
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.interface import BatchRange, HalfPrecision, Precision
from swin_deploy.network.model.build import output_names


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
    not_run: dict[str, str],
) -> Iterator[list[Entrant]]:
    """The baselines that were asked for, but eager FP32; their files last as long as the block.

    Args:
        names: Of the baselines.
        network: Eager.
        batches: That will be measured: the naive graphs take just those.
        targets: Of the candidates: the naive graph is compiled for the same runtimes.
        progress: Told what is being built.
        not_run: Gets the names of those that cannot run on this machine, and why.
    """
    found: list[Entrant] = []
    with tempfile.TemporaryDirectory(prefix="swin-deploy-bench-") as folder:
        if "eager-half" in names:
            # A CPU computes BF16, if anything below FP32; a GPU's first choice is FP16.
            half: HalfPrecision = "fp16" if network.device == "cuda" else "bf16"
            dtype = torch.float16 if half == "fp16" else torch.bfloat16
            found.append(network.entrant("eager", half, dtype))
        if "compile" in names:
            progress("compiling with PyTorch")
            compiled = network.entrant("torch.compile", "fp32", compiled=True)
            try:
                _compile(compiled, network.config, batches[0])
                found.append(compiled)
            except EnvironmentMissingError as error:
                not_run[compiled.runner.name] = error.problem
        if "naive" in names:
            for target in dict.fromkeys(targets):
                progress(f"exporting the network plainly for {target.name}")
                found.append(_naive(network, target, batches, Path(folder)))
        yield found


def _compile(entrant: Entrant, config: NetworkConfig, batch: int) -> None:
    """Run it once, which compiles it for a batch; EnvironmentMissingError where that fails."""
    grey = np.zeros((batch, config.in_channels, *config.image_size), dtype=np.float32)
    with entrant.runner as runner:
        runner.run(grey)


def _naive(network: EagerNetwork, target: Target, batches: Sequence[int], folder: Path) -> Entrant:
    """The eager network through PyTorch's exporter and nothing else, on the runtime of a target."""
    on_gpu = target.kind == "tensorrt"
    precision: Precision = "fp16" if on_gpu else "fp32"
    graph = folder / f"naive.{precision}.onnx"
    batch = BatchRange(low=min(batches), high=max(batches))
    if not graph.exists():
        model = copy.deepcopy(network.model).cpu()
        names = output_names(model)
        plain = Halved(model).eval() if on_gpu else model
        export_plainly(plain, network.config, batch, graph, outputs=names)
    engine = folder / Path(target.engine_name(precision)).name
    build_engine(target, graph, engine, batch, folder / "build.log")
    runner = open_engine(target, precision, engine, network.threads)
    runner.name = f"naive ONNX {target.name}-{precision}"
    return Entrant(runner, precision, "baseline", on_gpu)
