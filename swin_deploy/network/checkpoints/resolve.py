"""A checkpoint and what is said of it -> the network to export, if the two agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.catalogue import VARIANTS, NetworkConfig, Variant
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.source import DownloadListener, Facts, Source
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.swin import SwinConfig

_MEANINGS: dict[str | None, tuple[str, ...]] = {
    "independent": (
        "its classes are independent labels: predict gives each a probability of its own, and "
        "top-1 says little",
    ),
    "values": ("its outputs are numbers and no classes: predict gives them as they are",),
}
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
    meaning = _MEANINGS.get(source.facts.head, ())
    return replace(checkpoint, notes=(*checkpoint.notes, *meaning))


def resolve_variant(
    source: Source, wanted: Variant | None, options: LoadOptions, listener: DownloadListener
) -> Variant:
    """The network to export: what comes with the weights goes before what a variant has.

    Args:
        source: Where the checkpoint lies, and what is said of it.
        wanted: What the user named, which has to be of the same architecture; None to go by the
            checkpoint.
        options: From ``with_hints``.
        listener: Hears what was taken from beside the weights.
    """
    checkpoint = load_source(source, options)
    config, preprocessing = checkpoint.config, source.preprocessing
    usual = wanted or VARIANTS.get(config.name)
    stated = _stated_steps(source, wanted)
    with _blamed_on(source.facts, options.image_size):
        variant = Variant(
            config=config,
            preprocessing=preprocessing
            or replace(
                checkpoint.preprocessing or (usual.preprocessing if usual else Preprocessing()),
                **stated,
            ),
            parameters=None if wanted is None else wanted.parameters,
        )
    said = source.facts.image_size
    taken = [f"image {_text('image_size', said)}"] if said and not options.image_size else []
    taken += [] if preprocessing is None else [_describe(preprocessing)]
    for text in _MEANINGS.get(source.facts.head, ()):
        listener.note(text)
    if taken:
        instead = "" if wanted is None else f", in place of what {wanted.name} has"
        listener.note(f"{'; '.join(taken)}: as it comes with the weights{instead}")
    return variant


def _stated_steps(source: Source, wanted: Variant | None) -> dict[str, Any]:
    """What the user wrote of the preprocessing; it goes before what a library does by default."""
    if wanted is None:
        return {}
    names = [key.partition(".")[2] for key in wanted.stated if "." in key]
    steps = {name: getattr(wanted.preprocessing, name) for name in names}
    for name, said in steps.items():
        found = getattr(source.preprocessing, name, said)
        if found != said:
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
            blamed = [claim for claim in facts.claims if claim.key in ("mean", "image_mean")]
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


def _describe(steps: Preprocessing) -> str:
    return (
        f"crop {steps.crop:.4g} ({steps.crop_mode}), {steps.interpolation}, "
        f"mean {_text('mean', steps.mean)}, std {_text('std', steps.std)}"
    )
