"""What can be evaluated: engines, graphs and eager networks, each ready to be sent to a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.architecture import Size
from swin_deploy.artifacts.files import sha256
from swin_deploy.artifacts.manifest import MANIFEST
from swin_deploy.artifacts.reader import FinishedRun, find_run
from swin_deploy.bench.subject import Subject, open_subject
from swin_deploy.config import LOGITS
from swin_deploy.data.classes import read_class_names
from swin_deploy.data.pixels import ImageInput
from swin_deploy.errors import ConfigError, InputError
from swin_deploy.evaluate.eager import EagerRunner
from swin_deploy.evaluate.request import EvaluateRequest
from swin_deploy.runners.base import Runner
from swin_deploy.runners.tensorrt import TensorRtRunner
from swin_deploy.variants import Preprocessing


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
        files: Path -> SHA-256 of what it consists of.
    """

    name: str
    path: Path
    precision: str
    runner: Runner
    taken: ImageInput
    view: View
    files: dict[Path, str]

    def identity(self) -> dict[str, Any]:
        """All that its outputs depend on, but for packages; JSON-able."""
        return {
            "name": self.name,
            "precision": self.precision,
            "files": sorted(self.files.values()),
            "seed": getattr(self.runner, "seed", None),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """All that compete.

    Attributes:
        artifacts: At least one; the first is what others are compared with.
        classes: How many they know.
        class_names: By index; empty where they are not known.
        home: The first run among them; None if there is none.
        random: Whether weights are.
        not_run: Engine -> why it cannot run on this machine.
    """

    artifacts: tuple[Artifact, ...]
    classes: int
    class_names: tuple[str, ...]
    home: FinishedRun | None
    random: bool
    not_run: dict[str, str]

    @property
    def on_gpu(self) -> bool:
        """Whether any of them runs on a GPU."""
        return any(isinstance(artifact.runner, TensorRtRunner) for artifact in self.artifacts)


def find_field(request: EvaluateRequest) -> Field:
    """Open everything that was named.

    Raises:
        ConfigError: Something gives no classes, or they are not the same ones; or a network is
            named for runs, or needed and not named.
        SwinDeployError: As ``open_subject``.
    """
    subjects = [_open(path.absolute(), request) for path in request.artifacts]
    runs = [subject.run for subject in subjects if subject.run is not None]
    if request.variant is not None and len(runs) == len(subjects):
        raise ConfigError("all artifacts belong to runs, whose manifests name the network already")
    found = [
        _artifact(runner, precision, path.absolute(), subject, request)
        for path, subject in zip(request.artifacts, subjects, strict=True)
        for runner, precision in subject.candidates
    ]
    _require_different(found)
    if request.eager:
        found.insert(0, _eager(request.artifacts[0].absolute(), subjects[0], request))
    return Field(
        artifacts=_with_names_of_their_own(found),
        classes=_one_of("classes", [subject.config.num_classes for subject in subjects]),
        class_names=_one_of("names of classes", list(filter(None, map(_names, runs))) or [()]),
        home=runs[0] if runs else None,
        random=any(subject.known and subject.weights is None for subject in subjects),
        not_run={name: why for subject in subjects for name, why in subject.not_run.items()},
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


def _artifact(
    runner: Runner, precision: str, path: Path, subject: Subject, request: EvaluateRequest
) -> Artifact:
    taken: ImageInput = getattr(runner, "image_input")  # noqa: B009 - not of the protocol
    files = {file: sha256(file) for file in _files_of(getattr(runner, "path"))}  # noqa: B009
    return Artifact(
        name=runner.name,
        path=path,
        precision=precision,
        runner=runner,
        taken=taken,
        view=_view(subject, request),
        files=files,
    )


def _eager(path: Path, subject: Subject, request: EvaluateRequest) -> Artifact:
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
        files={} if subject.weights is None else {subject.weights: sha256(subject.weights)},
    )


def _view(subject: Subject, request: EvaluateRequest) -> View:
    if subject.run is not None:
        return View(subject.config.image_size, read_preprocessing(subject.run))
    if request.variant is None:
        raise ConfigError("a file that belongs to no run has no preprocessing", "--variant NAME")
    steps = request.variant.preprocessing
    if subject.mean:  # the file normalises pixels itself, and says with what
        steps = replace(steps, mean=subject.mean, std=subject.std)
    return View(subject.config.image_size, steps)


def read_preprocessing(run: FinishedRun) -> Preprocessing:
    """How a run's photos become its input.

    Raises:
        InputError: Its manifest does not say.
    """
    try:
        steps: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in run.manifest.header["preprocessing"].items()
        }
        return Preprocessing(**steps)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{run.path / MANIFEST} does not describe a network: {error!r}", "export again"
        ) from error


def _files_of(path: Path) -> list[Path]:
    """A file and those that it cannot do without."""
    if path.suffix == ".xml":
        return [path, path.with_suffix(".bin")]
    if path.suffix != ".onnx":
        return [path]
    import onnx_ir as ir

    weights = [value.const_value for value in ir.load(path).graph.initializers.values()]
    return [path, *sorted({Path(w.path) for w in weights if isinstance(w, ir.ExternalTensor)})]


def _names(run: FinishedRun) -> tuple[str, ...]:
    listed = "labels.json" in run.manifest.outputs()
    return read_class_names(run.checked("labels.json")) if listed else ()


def _require_different(found: Sequence[Artifact]) -> None:
    """ConfigError where one was named twice: a file alone, and in its run, for example."""
    files = Counter(tuple(artifact.files) for artifact in found)
    for artifact in found:
        if files[tuple(artifact.files)] > 1:
            first = next(iter(artifact.files))
            raise ConfigError(f"{first} is named more than once", "each artifact once")


def _one_of(what: str, values: Sequence[Any]) -> Any:
    for value in values[1:]:
        if value != values[0]:
            shown = (str(v) if isinstance(v, int) else f"{v[0]!r}, ..." for v in (values[0], value))
            raise ConfigError(
                f"the artifacts do not have the same {what}: {' and '.join(shown)}",
                "networks that were trained on the same classes",
            )
    return values[0]


def _with_names_of_their_own(found: list[Artifact]) -> tuple[Artifact, ...]:
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
