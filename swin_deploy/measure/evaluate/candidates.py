"""What is evaluated: engines, graphs and eager networks that know the same classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from swin_deploy.core.errors import ConfigError
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.data.images import ImageInput
from swin_deploy.engine.runners.base import Runner
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.openvino import OpenVinoRunner
from swin_deploy.engine.runners.tensorrt import TensorRtRunner
from swin_deploy.measure.bench.subject import Subject, open_subject
from swin_deploy.measure.evaluate.report import CandidateIdentity, EvaluateRequest
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.interface import LOGITS, BatchRange, Preprocessing, Size, Task
from swin_deploy.network.judge import FloatArray
from swin_deploy.run.finished import Run, find_run


class EagerRunner:
    """Runs a network as PyTorch has it, in FP32 on the CPU.

    Args:
        config: The network.
        path: Its weights; None for random ones.
        seed: Of those.
        threads: Of PyTorch, in the whole process.
    """

    name = "eager PyTorch fp32"

    def __init__(
        self, config: NetworkConfig, path: Path | Recorded | None, seed: int, threads: int
    ) -> None:
        self.config, self.path, self.seed, self.threads = config, path, seed, threads
        self._runner: Runner | None = None

    @property
    def batch(self) -> BatchRange:
        return BatchRange(low=1, high=4096)

    def __enter__(self) -> Self:
        import torch

        from swin_deploy.engine.runners.torch_eager import TorchRunner
        from swin_deploy.network.model.build import load_model

        torch.set_num_threads(self.threads)
        self._runner = TorchRunner(load_model(self.config, self.path, self.seed)).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runner = None

    def prepare(self, images: FloatArray) -> FloatArray:
        """The images, as they are."""
        return images

    def run(self, images: FloatArray) -> dict[str, FloatArray]:
        """(b, channels, H, W) float32 -> "logits" (b, classes) float32."""
        if self._runner is None:
            raise RuntimeError("the runner was not entered")
        return self._runner.run(images)


View = tuple[Size, Preprocessing]  # as of ``Variant``: what is the same is decoded once


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One network in one form. Pickles: its runner has not been entered.

    Attributes:
        name: What tables call it.
        path: What it was found by.
        precision: Of its graph.
        runner: Runs it.
        taken: What its input is.
        view: What its images are.
        files: What it consists of.
    """

    name: str
    path: Path
    precision: str
    runner: Runner
    taken: ImageInput
    view: View
    files: tuple[Recorded, ...]

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of its files, sorted."""
        return tuple(sorted(file.sha256 for file in self.files))

    def identity(self) -> CandidateIdentity:
        """All that its outputs depend on, but for packages."""
        return CandidateIdentity(
            name=self.name,
            precision=self.precision,
            files=self.hashes,
            seed=getattr(self.runner, "seed", None),
        )


def describe_candidate(
    runner: Runner, precision: str, path: Path, subject: Subject, request: EvaluateRequest
) -> Candidate:
    """An engine or graph that ``path`` led to; errors as of ``describe_eager``."""
    if not isinstance(runner, OnnxRuntimeRunner | OpenVinoRunner | TensorRtRunner):
        raise TypeError(f"{type(runner).__name__} runs no file")
    return Candidate(
        name=runner.name,
        path=path,
        precision=precision,
        runner=runner,
        taken=runner.image_input,
        view=_view(subject, request),
        files=_files_of(runner),
    )


def describe_eager(path: Path, subject: Subject, request: EvaluateRequest) -> Candidate:
    """The eager network behind ``path``."""
    if not subject.known:
        raise ConfigError(
            f"the weights behind {path} are not known, so there is no eager network of it",
            "a run first, or no --eager",
        )
    runner = EagerRunner(subject.config, subject.weights, subject.seed, request.threads)
    return Candidate(
        name=runner.name,
        path=path,
        precision="fp32",
        runner=runner,
        taken=ImageInput(),
        view=_view(subject, request),
        files=() if subject.weights is None else (subject.weights,),
    )


def _view(subject: Subject, request: EvaluateRequest) -> View:
    if subject.run is not None:
        return subject.run.variant.view
    if request.variant is None:
        raise ConfigError("a file that belongs to no run has no preprocessing", "--variant NAME")
    steps = request.variant.preprocessing
    if mean := subject.images.mean:  # the file normalises pixels itself, and says with what
        steps = replace(steps, mean=mean, std=subject.images.std)
    return subject.config.image_size, steps


def _files_of(runner: OnnxRuntimeRunner | OpenVinoRunner | TensorRtRunner) -> tuple[Recorded, ...]:
    """What it consists of: as the run recorded it, or a file and those that it refers to."""
    recorded, path = runner.recorded, runner.path
    if recorded:
        return (recorded,) if isinstance(recorded, Recorded) else tuple(recorded)
    if path.suffix != ".onnx":
        return (_as_found(path),)
    import onnx_ir as ir

    weights = [value.const_value for value in ir.load(path).graph.initializers.values()]
    beside = sorted({Path(w.path) for w in weights if isinstance(w, ir.ExternalTensor)})
    return tuple(_as_found(file) for file in (path, *beside))


def _as_found(path: Path) -> Recorded:
    return Recorded(path=path, sha256=sha256(path), record="this evaluation", again="the same file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """All that compete.

    Attributes:
        artifacts: At least one; the first is what others are compared with.
        classes: How many they know.
        class_names: By index; empty where they are not known.
        task: What their outputs mean.
        home: The first run among them; None if there is none.
        random: Whether weights are.
        not_run: Engine -> why it cannot run on this machine.
    """

    artifacts: tuple[Candidate, ...]
    classes: int
    class_names: tuple[str, ...]
    task: Task
    home: Run | None
    random: bool
    not_run: dict[str, str]

    @property
    def on_gpu(self) -> bool:
        """Whether any of them runs on a GPU."""
        return any(isinstance(artifact.runner, TensorRtRunner) for artifact in self.artifacts)


def find_candidates(request: EvaluateRequest) -> Candidates:
    """Open everything that was named."""
    subjects = [_open(path.absolute(), request) for path in request.artifacts]
    runs = [subject.run for subject in subjects if subject.run is not None]
    if request.variant is not None and len(runs) == len(subjects):
        raise ConfigError("all artifacts belong to runs, whose manifests name the network already")
    found = [
        describe_candidate(runner, precision, path.absolute(), subject, request)
        for path, subject in zip(request.artifacts, subjects, strict=True)
        for runner, precision in subject.candidates
    ]
    _require_different(found)
    tasks: list[Task] = [run.interface.task for run in runs] or ["single-label"]
    task: Task = _one_of("meaning of outputs", tasks)
    if task != "single-label":
        _require_all_outputs(request.artifacts, subjects)
    if request.eager:
        found.insert(0, describe_eager(request.artifacts[0].absolute(), subjects[0], request))
    return Candidates(
        artifacts=_with_names_of_their_own(found),
        classes=_one_of("classes", [subject.config.num_classes for subject in subjects]),
        class_names=_one_of(
            "names of classes", list(filter(None, (run.labels for run in runs))) or [()]
        ),
        task=task,
        home=runs[0] if runs else None,
        random=any(subject.known and subject.weights is None for subject in subjects),
        not_run={name: why for subject in subjects for name, why in subject.not_run.items()},
    )


def _require_all_outputs(paths: Sequence[Path], subjects: Sequence[Subject]) -> None:
    """ConfigError where a file gives the best scores alone: figures of labels take all of them."""
    for path, subject in zip(paths, subjects, strict=True):
        if subject.interface.topk is not None:
            raise ConfigError(
                f"{path} gives the best {subject.interface.topk} scores, and the figures "
                "of a multi-label network take all",
                "swin-deploy export without --topk",
            )


def _open(path: Path, request: EvaluateRequest) -> Subject:
    foreign = find_run(path) is None
    subject = open_subject(path, request.threads, request.variant if foreign else None)
    if subject.outputs != LOGITS:
        raise ConfigError(
            f"{path} gives {subject.outputs}, and accuracy takes classes",
            "swin-deploy export --outputs logits",
        )
    return subject


def _require_different(found: Sequence[Candidate]) -> None:
    """ConfigError where one was named twice: a file alone, and in its run, for example."""
    named = Counter(tuple(file.path for file in artifact.files) for artifact in found)
    for paths, times in named.items():
        if times > 1:
            raise ConfigError(f"{paths[0]} is named more than once", "each artifact once")


def _one_of(what: str, values: Sequence[Any]) -> Any:
    for value in values[1:]:
        if value != values[0]:
            shown = (
                str(v) if isinstance(v, int | str) else f"{v[0]!r}, ..." for v in (values[0], value)
            )
            raise ConfigError(
                f"the artifacts do not have the same {what}: {' and '.join(shown)}",
                "networks that were trained on the same classes",
            )
    return values[0]


def _with_names_of_their_own(found: list[Candidate]) -> tuple[Candidate, ...]:
    """The path goes into the name where another one is called the same, and then its place."""
    seen = Counter(artifact.name for artifact in found)
    named = [
        a
        if seen[a.name] == 1
        else replace(a, name=f"{a.name} ({a.path.parent.name}/{a.path.name})")
        for a in found
    ]
    seen = Counter(artifact.name for artifact in named)
    return tuple(
        a if seen[a.name] == 1 else replace(a, name=f"{a.name} #{place}")
        for place, a in enumerate(named, 1)
    )
