"""What a dialect is: the names that a library gives the tensors, and what it computes with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from swin_deploy.network.catalogue import NetworkConfig
from swin_deploy.network.checkpoints.options import Hints
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.swin import Semantics

Tensors = dict[str, Tensor]

# What libraries save although it follows from the architecture, in our names. The key of V2 has no
# bias: where there is one, it is set to zero in every call.
BUFFERS = re.compile(
    r"layers\.\d+\.blocks\.\d+\."
    r"(attn_mask|attn\.(relative_position_index|relative_coords_table|k_bias"
    r"|upper_lower_mask|left_right_mask))"
)
# Two masks, of the last row and of the last column of windows, in place of one for all windows:
# the axes, row and column, along which each of them shifts.
MASKED_AXES: dict[str, Size] = {"upper_lower_mask": (1, 0), "left_right_mask": (0, 1)}

# Pieces of patterns and names that several dialects share.
KIND = r"(?P<kind>weight|bias)"
BLOCK = "layers.{stage}.blocks.{block}."
TABLE = "relative_position_bias_table"
SHARED_TABLE = "shared_position_bias_table"  # (rows, 1), until the number of heads is known
MERGE = r"(?P<part>norm\.weight|norm\.bias|reduction\.weight)"
MLP_OF_POSITIONS = r"(?P<part>0\.weight|0\.bias|2\.weight)"


@dataclass(frozen=True, slots=True)
class Rename:
    """One kind of key.

    Attributes:
        pattern: Of the whole key; may have the groups ``stage``, ``block``, ``part`` and ``kind``.
        name: Ours, with those groups in braces.
        stage: The library's number of the stage -> ours, counted from 0.
        block: Its number of the block -> ours, counted from 0.
    """

    pattern: str
    name: str
    stage: Callable[[int], int] = int
    block: Callable[[int], int] = int

    def __call__(self, key: str) -> str | None:
        """Our name for ``key``; None if it is of another kind."""
        if (match := re.fullmatch(self.pattern, key)) is None:
            return None
        groups = match.groupdict()
        if "stage" in groups:
            groups["stage"] = str(self.stage(int(groups["stage"])))
        if "block" in groups:
            groups["block"] = str(self.block(int(groups["block"])))
        return self.name.format(**groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One library's names.

    Attributes:
        name: What ``inspect`` prints.
        mark: A pattern that some key has to match.
        lacks: A pattern that no key may match.
        renames: The first that fits a key names it.
        prepare: Applied to the tensors before renaming.
        refusal: Why it cannot be loaded; empty if it can.
        semantics: What the library does where shapes leave a choice.
        semantics_v2: The same for Swin V2, where it differs.
        family: The kind of network; picks what reads the architecture off the shapes.
        preprocessing: Of this library's weights; None for that of the variant.
        note: What its files leave open, for whoever loads one.
        hints: What the library's code fixes, or takes where it is told nothing else, and no tensor
            tells.
        windows_as_trained: Whether the library decides on the windows of a V2 when it is built,
            by its config's image size, whatever image comes.
    """

    name: str
    mark: str
    lacks: str = r"(?!)"
    renames: tuple[Rename, ...] = ()
    prepare: Callable[[Tensors], Tensors] = dict
    refusal: str = ""
    semantics: Semantics = field(default_factory=Semantics)
    semantics_v2: Semantics | None = None
    family: Literal["Swin", "ViT"] = "Swin"
    preprocessing: Callable[[NetworkConfig], Preprocessing] | None = None
    note: str = ""
    hints: Hints = field(default_factory=Hints)
    windows_as_trained: bool = False

    def fits(self, names: Iterable[str]) -> bool:
        """Whether these are the keys of a checkpoint of this library."""
        names = list(names)
        return any(re.fullmatch(self.mark, name) for name in names) and not any(
            re.fullmatch(self.lacks, name) for name in names
        )

    def semantics_of(self, version: int) -> Semantics:
        """What it computes in a Swin of that version."""
        return self.semantics if version == 1 else self.semantics_v2 or self.semantics


def rename_key(renames: Iterable[Rename], key: str) -> str | None:
    """Our name for ``key`` by the first of ``renames`` that fits; None if none does."""
    names = (rename(key) for rename in renames)
    return next((name for name in names if name is not None), None)
