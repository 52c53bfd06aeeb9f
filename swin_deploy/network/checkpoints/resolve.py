"""A checkpoint and what is said of it -> the network to export, if the two agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.catalogue import VARIANTS, NetworkConfig, Variant
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.meaning import (
    AS_FOUND,
    Meaning,
    chosen_task,
    class_names,
    photo_steps,
    repeated,
)
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.source import DownloadListener, Facts, Source
from swin_deploy.network.interface import Preprocessing, Size, Task
from swin_deploy.network.swin import SwinConfig

_MEANINGS: dict[Task, str] = {
    "multi-label": "its classes are independent labels: predict gives each a probability of its "
    "own, and evaluate mAP and F1",
    "regression": "its outputs are numbers and no classes: predict gives them as they are, and "
    "evaluate their errors",
}
_MEANS = ("mean", "image_mean")  # keys of claims about channels, by how many values they have
_COLOURS = 3  # channels of a photo in colour
_AS_PUBLISHED = "the files as their authors published them"


def load_source(source: Source, options: LoadOptions) -> Checkpoint:
    """Read a checkpoint, and compare it with what is said of it.

    Args:
        source: Where it lies.
        options: From ``with_hints``.
    """
    with _blamed_on(source.facts, options.image_size):
        checkpoint = load_checkpoint(source.path, options)
    require_agreement(source.facts, checkpoint.config, options)
    return checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A network with weights, and all that is known of what goes in and what comes out.

    Attributes:
        source: Where they lie.
        variant: To export.
        task: What its outputs mean; None where nothing says it.
        labels: Name of each class, by its index; empty where nothing says them.
        notes: What was taken from beside the weights, and what the user said instead.
    """

    source: Source
    variant: Variant
    task: Task | None
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def resolve_weights(
    source: Source,
    wanted: Variant | None,
    options: LoadOptions,
    meaning: Meaning = AS_FOUND,
    checkpoint: Checkpoint | None = None,
) -> Resolved:
    """The network to export: what comes with the weights goes before what a variant has.

    Args:
        source: Where the checkpoint lies, and what is said of it.
        wanted: What the user named, which has to be of the same architecture; None to go by the
            checkpoint.
        options: From ``with_hints``.
        meaning: What the user says, which goes before all others.
        checkpoint: Of ``load_source``, where that was called already.
    """
    checkpoint = checkpoint or load_source(source, options)
    config, preprocessing = checkpoint.config, source.preprocessing
    usual = wanted or VARIANTS.get(config.name)
    own = checkpoint.preprocessing or (usual.preprocessing if usual else Preprocessing())
    stated = _stated_steps(source, wanted, meaning)
    changed: list[str] = []
    with _blamed_on(source.facts, options.image_size):
        found = _for_channels(preprocessing or replace(own, **stated), config, meaning, changed)
        parameters = None if wanted is None else wanted.parameters
        variant = Variant(config=config, preprocessing=found, parameters=parameters)
    steps = photo_steps(meaning, found, config.in_channels, changed.append)
    said = source.facts.image_size
    taken = [f"image {_text('image_size', said)}"] if said and not options.image_size else []
    taken += [] if preprocessing is None else [found.describe()]
    task = chosen_task(meaning, source.facts.task, changed.append)
    notes = [_MEANINGS[task]] if task in _MEANINGS else []
    if taken:
        instead = "" if wanted is None else f", in place of what {wanted.name} has"
        notes.append(f"{'; '.join(taken)}: as it comes with the weights{instead}")
    labels = class_names(meaning, source.facts.labels or checkpoint.labels, config, changed.append)
    variant = replace(variant, preprocessing=steps)
    return Resolved(
        source=source, variant=variant, labels=labels, task=task, notes=(*notes, *changed)
    )


def resolve_variant(
    source: Source, wanted: Variant | None, options: LoadOptions, listener: DownloadListener
) -> Variant:
    """The variant of ``resolve_weights``; ``listener`` hears its notes."""
    found = resolve_weights(source, wanted, options)
    for note in found.notes:
        listener.note(note)
    return found.variant


def _for_channels(
    steps: Preprocessing, config: NetworkConfig, meaning: Meaning, notes: list[str]
) -> Preprocessing:
    """Those of photos in colour for a network that takes another number of channels."""
    channels = config.in_channels
    if len(steps.mean) != _COLOURS or channels == _COLOURS:
        return steps
    fitted = repeated(steps, channels)
    if meaning.mean is None or meaning.std is None:
        notes.append(
            f"nothing says mean and std of {channels} channels: {fitted.mean[0]:g} and "
            f"{fitted.std[0]:g} are taken for each, the averages of those of RGB; --mean and --std "
            "say others"
        )
    return fitted


def _stated_steps(source: Source, wanted: Variant | None, meaning: Meaning) -> dict[str, Any]:
    """What the user wrote of the preprocessing; it goes before what a library does by default."""
    if wanted is None:
        return {}
    names = [key.partition(".")[2] for key in wanted.stated if "." in key]
    steps = {name: getattr(wanted.preprocessing, name) for name in names}
    for name, said in steps.items():
        found = getattr(source.preprocessing, name, said)
        if found != said and name not in meaning.steps():
            raise InputError(
                f"{source.path} comes with preprocessing.{name} {_text(name, found)}, and the "
                f"config says {_text(name, said)}",
                f"preprocessing.{name} left out of the config, or the same in both",
            )
    return steps


def require_agreement(facts: Facts, config: NetworkConfig, options: LoadOptions) -> None:
    """Compare a network with what is said of it.

    Args:
        facts: What is said.
        config: What the tensors say.
        options: What the user asks for instead does not have to agree.
    """
    for claim in facts.claims:
        about_size = claim.field == "image_size"
        if about_size and options.image_size is not None:
            continue
        # The tables of each stage say their own.
        own = isinstance(config, SwinConfig) and config.stage_windows != ()
        if claim.field == "window_size" and (own or options.window is not None):
            continue
        if claim.field == "num_classes" and not config.num_classes:
            continue  # a backbone, whose config still counts the classes of its library's default
        if claim.key in _MEANS and claim.value == _COLOURS != config.in_channels:
            continue  # libraries write those of RGB beside networks of any channels
        found = getattr(config, claim.field)
        if found != claim.value:
            other = "the image size is" if about_size else "the tensors have"
            raise InputError(
                f"{claim.origin}: {claim.key} makes {claim.field} "
                f"{_text(claim.field, claim.value)}, but {other} {_text(claim.field, found)}",
                "--image SIZE" if about_size else _AS_PUBLISHED,
            )


@contextmanager
def _blamed_on(facts: Facts, image_size: Size | None) -> Iterator[None]:
    """A network that cannot be is the fault of what was said, unless the user gave the size."""
    try:
        yield
    except ConfigError as error:
        if "in_channels" in error.problem:
            field, hint = "in_channels", _AS_PUBLISHED
            blamed = [claim for claim in facts.claims if claim.key in _MEANS]
        else:
            field, hint = "image_size", "--image SIZE"
            blamed = [claim for claim in facts.claims if claim.value == facts.image_size]
        if not blamed or (field == "image_size" and image_size is not None):
            raise
        raise InputError(
            f"{blamed[0].origin}: {blamed[0].key} makes {field} {_text(field, blamed[0].value)}, "
            f"which the tensors contradict: {error.problem}",
            hint,
        ) from error


def _text(field: str, value: object) -> str:
    if isinstance(value, tuple):
        return ("x" if field == "image_size" else ", ").join(map(str, value))
    return str(value)
