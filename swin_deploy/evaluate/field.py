"""All artifacts of an evaluation, which have to know the same classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.bench.subject import Subject, open_subject
from swin_deploy.errors import ConfigError
from swin_deploy.evaluate.artifact import Artifact, describe_artifact, describe_eager
from swin_deploy.evaluate.request import EvaluateRequest
from swin_deploy.interface import LOGITS
from swin_deploy.run.finished import Run, find_run
from swin_deploy.runners.tensorrt import TensorRtRunner


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
    home: Run | None
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
    """
    subjects = [_open(path.absolute(), request) for path in request.artifacts]
    runs = [subject.run for subject in subjects if subject.run is not None]
    if request.variant is not None and len(runs) == len(subjects):
        raise ConfigError("all artifacts belong to runs, whose manifests name the network already")
    found = [
        describe_artifact(runner, precision, path.absolute(), subject, request)
        for path, subject in zip(request.artifacts, subjects, strict=True)
        for runner, precision in subject.candidates
    ]
    _require_different(found)
    if request.eager:
        found.insert(0, describe_eager(request.artifacts[0].absolute(), subjects[0], request))
    return Field(
        artifacts=_with_names_of_their_own(found),
        classes=_one_of("classes", [subject.config.num_classes for subject in subjects]),
        class_names=_one_of(
            "names of classes", list(filter(None, (run.labels for run in runs))) or [()]
        ),
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


def _require_different(found: Sequence[Artifact]) -> None:
    """ConfigError where one was named twice: a file alone, and in its run, for example."""
    named = Counter(tuple(file.path for file in artifact.files) for artifact in found)
    for paths, times in named.items():
        if times > 1:
            raise ConfigError(f"{paths[0]} is named more than once", "each artifact once")


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
