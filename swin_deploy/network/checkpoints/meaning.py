"""What the user says of a network's images and outputs; no file goes before that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.checkpoints.labels import read_names
from swin_deploy.network.interface import CropMode, Interpolation, Preprocessing, Task

# Fields of ``Preprocessing`` with an option of the same name.
_STEPS = ("mean", "std", "crop", "crop_mode", "interpolation")
_PER_CHANNEL = ("mean", "std")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Fields are options of ``export``; None is what the checkpoint or the variant says.

    Attributes:
        task: As of ``Interface``.
        classes: A file or folder for ``read_names``.
        mean: As of ``Preprocessing``; one value is that of all channels.
        std: Likewise.
        crop: As of ``Preprocessing``.
        crop_mode: Likewise.
        interpolation: Likewise.
    """

    task: Task | None = None
    classes: Path | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop: float | None = None
    crop_mode: CropMode | None = None
    interpolation: Interpolation | None = None

    def steps(self) -> dict[str, Any]:
        """The fields of ``Preprocessing`` that the user gave."""
        values = {name: getattr(self, name) for name in _STEPS}
        return {name: value for name, value in values.items() if value is not None}

    def names(self) -> tuple[str, ...]:
        """Of the classes, by index; empty where the user gave none."""
        return () if self.classes is None else read_names(self.classes)

    def written(self) -> list[str]:
        """The options as they are written on the command line."""
        words = [] if self.task is None else ["--task", self.task]
        words += [] if self.classes is None else ["--classes", str(self.classes)]
        for name, value in self.steps().items():
            text = ",".join(map(str, value)) if name in _PER_CHANNEL else str(value)
            words += [f"--{name.replace('_', '-')}", text]
        return words


AS_FOUND = Meaning()


def photo_steps(
    meaning: Meaning, found: Preprocessing, channels: int, note: Callable[[str], None]
) -> Preprocessing:
    """The preprocessing of a network: what the user says, and what was ``found`` for the rest.

    Args:
        meaning: What the user says.
        found: Of the checkpoint or the variant; with a mean and a std for every channel.
        channels: That the network takes.
        note: Hears what was put in place of what.
    """
    steps = meaning.steps()
    for name in _PER_CHANNEL:
        if max(steps.get(name, (0.0,))) > 1:
            scaled = ",".join(f"{value / 255:.4g}" for value in steps[name])
            raise ConfigError(
                f"--{name} has {max(steps[name]):g}, and is of pixels from 0 to 1",
                f"--{name} {scaled}, if these are of pixels up to 255",
            )
    for name in _PER_CHANNEL:
        values = steps.get(name, ())
        if len(values) == 1:
            steps[name] = values * channels
        elif values and len(values) != channels:
            raise ConfigError(
                f"--{name} has {len(values)} values, and the network takes {channels} channels",
                f"--{name} with {channels} values, or one for all of them",
            )
    for name, value in steps.items():
        if (other := getattr(found, name)) != value:
            note(f"{name} {_text(value)} as you say, in place of {_text(other)}")
    return replace(found, **steps)


def chosen_task(meaning: Meaning, found: Task | None, note: Callable[[str], None]) -> Task | None:
    """What the outputs mean: as the user says, or else as was ``found``; None where nobody does."""
    if meaning.task is not None and found not in (None, meaning.task):
        note(f"task {meaning.task} as you say, in place of {found}")
    return meaning.task or found


def class_names(
    meaning: Meaning, found: tuple[str, ...], config: NetworkConfig, note: Callable[[str], None]
) -> tuple[str, ...]:
    """The names of a network's classes, by index: the user's, or else those that were ``found``.

    Args:
        meaning: What the user says.
        found: Empty where nothing says any.
        config: The network.
        note: Hears that others were found.
    """
    names = meaning.names()
    if not names:
        return found
    if len(names) != config.num_classes:
        raise InputError(
            f"--classes {meaning.classes} has {len(names)} names, and {config.name} has "
            f"{config.num_classes} classes",
            f"a list of {config.num_classes} names in the order of the training, or no --classes",
        )
    if found and found != names:
        first = next(i for i, pair in enumerate(zip(names, found, strict=True)) if len({*pair}) > 1)
        note(
            f"names of classes as you say, in place of others that come with the weights: class "
            f"{first} is {names[first]!r}, not {found[first]!r}"
        )
    return names


def repeated(steps: Preprocessing, channels: int) -> Preprocessing:
    """The same for another number of channels: each has the average of the means and of the stds.

    A photo of one channel is then as bright to the network as one in colour, and no channel of many
    is taken for red, green or blue.
    """
    mean, std = (round(sum(values) / len(values), 6) for values in (steps.mean, steps.std))
    return replace(steps, mean=(mean,) * channels, std=(std,) * channels)


def _text(value: object) -> str:
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)
