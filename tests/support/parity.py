"""Parity with a library: its own forward against ours, from a file in its layout.

A ``Source`` says how a library makes a model, saves it and runs it, a ``Case`` which model at which
size. The tests and scripts/measure_parity.py run the same cases.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import Size
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import model_from_tensors
from swin_deploy.network.swin import Semantics, SwinConfig

QUICK = {"swin_t", "swinv2_t_w8"}
DAMAGED_DB = 60.0  # what a network with a wrong rule stays below


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A library.

    Attributes:
        name: For the table.
        dialect: That has to be found.
        make: A model with random weights for a config of ours.
        save: Writes it as the library does; returns the path.
        run: Images -> the feature map of every stage, (b, h, w, c) or (b, h * w, c), and the
            logits; None of a backbone.
        classifies: Whether there is a head.
        stage_norms: Whether every stage has its own.
    """

    name: str
    dialect: str
    make: Callable[[SwinConfig], nn.Module]
    save: Callable[[nn.Module, Path], Path]
    run: Callable[[nn.Module, Tensor], tuple[list[Tensor], Tensor | None]]
    classifies: bool = True
    stage_norms: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model of a library at one size.

    Attributes:
        source: The library.
        variant: One of ``VARIANTS``.
        size: Of the images; None for the native one.
        told: Whether the tensors do not tell the variant, so that the user has to.
        changes: What differs from the variant otherwise.
    """

    source: Source
    variant: str
    size: Size | None = None
    told: bool = False
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def native(self) -> SwinConfig:
        """The network at its own size, in our terms."""
        return replace(VARIANTS[self.variant].config, **dict(self.changes))

    @property
    def config(self) -> SwinConfig:
        """The network that has to be found, but for its semantics."""
        return replace(
            self.native,
            image_size=self.size or self.native.image_size,
            num_classes=self.native.num_classes if self.source.classifies else 0,
            stage_norms=tuple(range(4)) if self.source.stage_norms else (),
        )

    @property
    def options(self) -> LoadOptions:
        """What the user says."""
        return LoadOptions(image_size=self.size, wanted=self.native if self.told else None)

    @property
    def is_quick(self) -> bool:
        """Whether it is of the smallest networks."""
        return self.variant in QUICK

    @property
    def label(self) -> str:
        """The variant and what differs from it."""
        changes = (
            f"{name.replace('_', ' ')} {value}" for name, value in self.changes if name != "name"
        )
        return ", ".join((self.variant, *changes))

    def __str__(self) -> str:
        height, width = self.config.image_size
        return f"{self.source.name} {self.label} {height}x{width}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table, in dB; ``logits`` is None for a backbone."""

    source: str
    variant: str
    size: Size
    logits: float | None
    worst_stage: float

    @property
    def worst(self) -> float:
        """Over everything that was compared."""
        return min(self.worst_stage, self.worst_stage if self.logits is None else self.logits)


@dataclass(frozen=True, slots=True)
class Opened:
    """A case that the library has run and that was loaded from its file."""

    case: Case
    images: Tensor
    stages: list[Tensor]
    logits: Tensor | None
    checkpoint: Checkpoint

    def compare(self, config: SwinConfig | None = None) -> Row:
        """The library against our network, of another config than was found if one is given."""
        model = model_from_tensors(config or self.checkpoint.config, self.checkpoint.tensors)
        with torch.inference_mode():
            stages = model.stages(self.images)
            logits = None if self.logits is None else model(self.images)
        worst = min(_db(*pair) for pair in zip(self.stages, stages, strict=True))
        return Row(
            source=self.case.source.name,
            variant=self.case.label,
            size=self.case.config.image_size,
            logits=None if self.logits is None else _db(self.logits, logits),
            worst_stage=worst,
        )


ROWS: list[Row] = []  # of the cases that ran in this session, for the summary


def noise(case: Case) -> Tensor:
    """Two images for small models, one for large ones."""
    generator = torch.Generator().manual_seed(1)
    count = 2 if case.is_quick else 1
    return torch.randn((count, 3, *case.config.image_size), generator=generator)


def open_case(case: Case, images: Tensor | None = None) -> Opened:
    """Make the library's model, save it, run it, and load the file."""
    images = noise(case) if images is None else images
    model = case.source.make(case.config)
    with torch.inference_mode():
        stages, logits = case.source.run(model, images)
    with tempfile.TemporaryDirectory() as folder:
        path = case.source.save(model, Path(folder))
        del model
        checkpoint = load_checkpoint(path, case.options)
    return Opened(case, images, stages, logits, checkpoint)


def check(case: Case) -> Row:
    """Assert that the file is recognised, that its network is the right one, and parity."""
    opened = open_case(case)
    found = opened.checkpoint
    assert found.dialect == case.source.dialect, found.dialect
    assert isinstance(found.config, SwinConfig)
    # A backbone of transformers has a last norm too, which its maps do not use.
    plain = replace(found.config, semantics=Semantics(), keeps_norm=False)
    assert plain == case.config, found.config
    row = opened.compare()
    ROWS.append(row)
    assert row.worst >= FLOORS_DB["fp32"], row
    return row


def damaged(opened: Opened, **changes: Any) -> float:
    """DB of the last output where fields of the config or its semantics are others than found."""
    config = opened.checkpoint.config
    rules = {name: changes.pop(name) for name in [*changes] if hasattr(config.semantics, name)}
    config = replace(config, semantics=replace(config.semantics, **rules), **changes)
    model = model_from_tensors(config, opened.checkpoint.tensors)
    with torch.inference_mode():
        if opened.logits is not None:
            return _db(opened.logits, model(opened.images))
        return _db(opened.stages[-1], model.stages(opened.images)[-1])


def must_bite(case: Case, changes: dict[str, Any]) -> None:
    """Assert that the same weights with another rule give something else."""
    decibels = damaged(open_case(case), **changes)
    assert decibels < DAMAGED_DB, f"{decibels:.1f} dB"


def _db(reference: Tensor, candidate: Tensor | None) -> float:
    assert candidate is not None
    if reference.ndim == 3:  # the library keeps tokens in one axis
        reference = reference.reshape(candidate.shape)
    return sqnr_db(reference.numpy(), candidate.numpy())


def save_as(
    suffix: str, pick: Callable[[nn.Module], Any] = nn.Module.state_dict
) -> Callable[[nn.Module, Path], Path]:
    """Saves what ``pick`` takes of a model, as one file."""

    def save(model: nn.Module, folder: Path) -> Path:
        file = folder / f"checkpoint.{suffix}"
        if suffix == "safetensors":
            save_file(pick(model), file)
        else:
            torch.save(pick(model), file)
        return file

    return save


def params(cases: Sequence[Case], large: Collection[str]) -> list[Any]:
    """Cases as parameters of a test; the large ones are slow, and run nightly.

    The rules of a library are those of its quick ones. What only width, depth or a larger window
    can show, one network of each version shows at every change.

    Args:
        cases: Of a library.
        large: Names of the large ones that are not nightly.
    """
    if unknown := set(large) - set(map(str, cases)):
        raise ValueError(f"no such cases: {sorted(unknown)}")
    return [pytest.param(case, id=str(case), marks=_marks(case, large)) for case in cases]


def _marks(case: Case, large: Collection[str]) -> list[pytest.MarkDecorator]:
    if case.is_quick:
        return []
    return [pytest.mark.slow] if str(case) in large else [pytest.mark.slow, pytest.mark.nightly]


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "| source | variant | size | logits dB | worst stage dB |",
        "|---|---|---|---:|---:|",
    ]
    for row in rows:
        logits = "" if row.logits is None else f"{row.logits:.1f}"
        size = f"{row.size[0]}x{row.size[1]}"
        lines.append(
            f"| {row.source} | {row.variant} | {size} | {logits} | {row.worst_stage:.1f} |"
        )
    return lines
