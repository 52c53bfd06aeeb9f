"""What ``bench`` was pointed at: a run folder, a file of a run, or an ONNX file from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, InputError, present
from swin_deploy.core.files import Recorded, require_plain_file
from swin_deploy.data.images import FP32_INPUT, ImageInput
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.runners.onnxruntime import (
    CPU,
    OnnxRuntimeRunner,
    find_provider,
    require_runs,
)
from swin_deploy.engine.runners.tensorrt import TensorRtRunner
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS
from swin_deploy.network.catalogue import NetworkConfig, Variant
from swin_deploy.network.interface import (
    AS_EXPORTED,
    EMBEDDING,
    LOGITS,
    STAGES,
    Interface,
    Outputs,
    Precision,
)
from swin_deploy.run.details import PRECISION_OF, SIMPLE
from swin_deploy.run.finished import Run, find_subject


@dataclass(slots=True)
class Subject:
    """What can be measured.

    Attributes:
        config: The network that the baseline is built from.
        seed: Of its random weights.
        weights: The file that the run keeps them in; None for random ones.
        outputs: What the engines give, and the baseline therefore should.
        floors_db: Output -> what the run held its FP32 files to.
        interface: What its engines take and give.
        images: Images of this kind can be handed to every graph of the run.
        known: Whether these are the weights of the engine, so that outputs can be compared.
        candidates: Engines with the precision of their graph.
        not_run: Engine -> why it cannot run on this machine.
        run: The run that they belong to.
        targets: Whose runtimes the candidates run on, one each.
    """

    config: NetworkConfig
    seed: int = 0
    weights: Recorded | None = None
    outputs: Outputs = LOGITS
    floors_db: dict[str, float] = field(default_factory=dict)
    interface: Interface = AS_EXPORTED
    images: ImageInput = FP32_INPUT
    known: bool = True
    candidates: list[tuple[Runner, Precision]] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    run: Run | None = None
    targets: list[Target] = field(default_factory=list)

    @property
    def on_gpu(self) -> bool:
        """Whether any candidate runs on a GPU, and the baseline therefore should."""
        return any(runs_on_gpu(runner) for runner, _ in self.candidates)

    @property
    def without_graphs(self) -> list[tuple[Runner, Precision]]:
        """The engines of TensorRT once more, their work sent kernel by kernel."""
        return [
            (runner.without_graph(), precision)
            for runner, precision in self.candidates
            if isinstance(runner, TensorRtRunner) and runner.cuda_graph
        ]

    @property
    def notes(self) -> list[str]:
        """What the candidates have to say after they ran."""
        return [
            f"{runner.name}: {note}"
            for runner, _ in self.candidates
            if isinstance(runner, OnnxRuntimeRunner | TensorRtRunner)
            for note in runner.notes
        ]


def runs_on_gpu(runner: Runner) -> bool:
    """Whether it is measured by the limits of a GPU."""
    on_provider = isinstance(runner, OnnxRuntimeRunner) and runner.on_gpu
    return on_provider or isinstance(runner, TensorRtRunner)


def open_subject(
    path: Path, threads: int | None, variant: Variant | None, provider: str = CPU
) -> Subject:
    """Find out what ``path`` is and which of it can run here.

    Args:
        path: A run folder, a file in one, or an ONNX file.
        threads: For engines on the CPU.
        variant: The network of an ONNX file that belongs to no run.
        provider: The execution provider that an ONNX file runs on, as ``find_provider`` takes it.
    """
    run = look_at(path, variant)
    provider = find_provider(provider)
    if run is None:
        return _foreign(path, threads, present(variant), provider)  # or it was refused
    subject = _of_run(run)
    if path.is_dir():
        engines = list(run.engines)
    else:
        name = path.absolute().relative_to(run.path).as_posix()
        if name in PRECISION_OF:
            _add_graph(subject, run, name, threads, provider)
            return subject
        engines = [run.engine_at(path).name]
    if provider != CPU:
        raise ConfigError(
            f"{path} has engines, each for a runtime of its own; {provider} runs ONNX files",
            f"--engine {run.path / SIMPLE} --provider {provider}",
        )
    for name in engines:
        runner = run.open_engine(name, threads)
        if isinstance(runner, str):
            subject.not_run[f"engine {name}"] = runner
            continue
        subject.candidates.append((runner, run.engines[name].precision))
        subject.targets.append(run.engines[name].target)
    if not subject.candidates:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in subject.not_run.items())
        raise EnvironmentMissingError(
            f"no engine of {path} can run here: {reasons or 'the run has none'}",
            "a machine with that GPU, or swin-deploy export --target cpu and its engine",
        )
    return subject


def look_at(path: Path, variant: Variant | None) -> Run | None:
    """As ``find_subject``; arguments as of ``open_subject``.

    Raises:
        ConfigError: The network is not known, or named twice.
    """
    run = find_subject(path, "runs", "export again on this machine")
    if run is not None:
        if variant is not None:
            raise ConfigError(f"{path} belongs to a run, whose manifest names the network already")
        return run
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty", "export again")
    require_plain_file(path, "an ONNX model")
    if variant is None:
        raise ConfigError(
            f"{path} belongs to no run, so its network is unknown",
            "--variant NAME or --config FILE, for the eager baseline",
        )
    return None


def _of_run(run: Run) -> Subject:
    return Subject(
        run.config,
        seed=run.seed,
        weights=run.weights,
        outputs=run.outputs,
        floors_db=run.floors_db,
        interface=run.interface,
        images=run.images,
        run=run,
    )


def _add_graph(subject: Subject, run: Run, name: str, threads: int | None, provider: str) -> None:
    graph, precision = run.file(name), PRECISION_OF[name]
    if precision == "bf16" and provider == CPU:
        raise EnvironmentMissingError(
            f"{graph.path} cannot run here: ONNX Runtime has no BF16 kernels for a CPU",
            f"swin-deploy bench --engine {run.path / 'engines' / 'rtx-bf16.plan'}, on a "
            "machine with that GPU",
        )
    run.checked(name)  # before anything heavy
    label = name if provider == CPU else f"{name} on {provider}"
    runner = OnnxRuntimeRunner(
        graph.path, threads, label, run.input_of(name), provider=provider, recorded=graph
    )
    subject.candidates.append((runner, precision))
    subject.targets.append(TARGETS["cpu"])


def _outputs_of(names: Iterable[str]) -> Outputs:
    """What a graph from elsewhere gives, by the names of its outputs."""
    if "stage1" in names:
        return STAGES
    return EMBEDDING if [*names] == [EMBEDDING] else LOGITS


def _foreign(path: Path, threads: int | None, variant: Variant, provider: str) -> Subject:
    from swin_deploy.graph.export import check_graph, read_outputs
    from swin_deploy.graph.interface import read_image_input

    check_graph(path)  # by path: it also refuses external data outside the file's own folder
    taken = read_image_input(path)
    label = "onnxruntime" if provider == CPU else provider
    runner = OnnxRuntimeRunner(path, threads, f"{label} {path.name}", taken, provider=provider)
    require_runs(runner, (variant.config.in_channels, *variant.config.image_size))
    return Subject(
        variant.config,
        outputs=_outputs_of(read_outputs(path)),
        interface=Interface(io=taken.io),
        images=taken,
        known=False,
        candidates=[(runner, "fp32")],
        targets=[TARGETS["cpu"]],
    )
