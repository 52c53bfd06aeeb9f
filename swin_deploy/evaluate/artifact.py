"""One thing that is evaluated: an engine, a graph or an eager network, ready for a worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from swin_deploy.bench.subject import Subject
from swin_deploy.data.pixels import ImageInput
from swin_deploy.errors import ConfigError
from swin_deploy.evaluate.eager import EagerRunner
from swin_deploy.evaluate.report import ArtifactIdentity
from swin_deploy.evaluate.request import EvaluateRequest
from swin_deploy.files import Recorded, sha256
from swin_deploy.preprocessing import Preprocessing, Size
from swin_deploy.runners.base import Runner
from swin_deploy.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.runners.openvino import OpenVinoRunner
from swin_deploy.runners.tensorrt import TensorRtRunner


@dataclass(frozen=True, slots=True)
class View:
    """How an artifact sees a photo; photos are decoded once for all artifacts of the same view."""

    size: Size
    preprocessing: Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
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

    def identity(self) -> ArtifactIdentity:
        """All that its outputs depend on, but for packages."""
        return ArtifactIdentity(
            name=self.name,
            precision=self.precision,
            files=self.hashes,
            seed=getattr(self.runner, "seed", None),
        )


def describe_artifact(
    runner: Runner, precision: str, path: Path, subject: Subject, request: EvaluateRequest
) -> Artifact:
    """An engine or graph that ``path`` led to; errors as of ``describe_eager``."""
    if not isinstance(runner, OnnxRuntimeRunner | OpenVinoRunner | TensorRtRunner):
        raise TypeError(f"{type(runner).__name__} runs no file")
    return Artifact(
        name=runner.name,
        path=path,
        precision=precision,
        runner=runner,
        taken=runner.image_input,
        view=_view(subject, request),
        files=_files_of(runner),
    )


def describe_eager(path: Path, subject: Subject, request: EvaluateRequest) -> Artifact:
    """The eager network behind ``path``.

    Raises:
        ConfigError: Its weights, or its preprocessing, are not known.
    """
    if not subject.known:
        raise ConfigError(
            f"the weights behind {path} are not known, so there is no eager network of it",
            "a run first, or no --eager",
        )
    runner = EagerRunner(subject.config, subject.weights, subject.seed, request.threads)
    return Artifact(
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
        return View(subject.config.image_size, subject.run.preprocessing)
    if request.variant is None:
        raise ConfigError("a file that belongs to no run has no preprocessing", "--variant NAME")
    steps = request.variant.preprocessing
    if subject.mean:  # the file normalises pixels itself, and says with what
        steps = replace(steps, mean=subject.mean, std=subject.std)
    return View(subject.config.image_size, steps)


def _files_of(
    runner: OnnxRuntimeRunner | OpenVinoRunner | TensorRtRunner,
) -> tuple[Recorded, ...]:
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
