"""The rows of the tables: which network, at which batch, from which libraries."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import of_kind
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.checkpoints.dialects import TIMM
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.swin import SwinConfig
from swin_deploy.pipeline.request import read_config

ROOT = Path(__file__).parent.parent.parent
CIFAR = "examples/cifar10_swin.toml"
ALL = ("timm", "torchvision", "transformers")


@dataclass(frozen=True, slots=True)
class Row:
    """A network, a batch, and the libraries that have the network.

    Attributes:
        network: Name of a variant, or path of a config file.
        batch: A size, or LOW:HIGH.
        libraries: Names in ``naive.MAKERS``.
        size: (height, width) of the image; None for the native one.
    """

    network: str
    batch: str
    libraries: tuple[str, ...]
    size: tuple[int, int] | None = None

    @property
    def variant(self) -> Variant:
        """The network in our terms, with timm's rule for sizes that windows do not tile."""
        if self.network.endswith(".toml"):
            return read_config(ROOT / self.network)
        variant = VARIANTS[self.network]
        if self.size is None:
            return variant
        config = replace(self.config_of(variant), image_size=self.size, semantics=TIMM.semantics)
        return replace(variant, config=config)

    @property
    def config(self) -> SwinConfig:
        """Its architecture."""
        return self.config_of(self.variant)

    @property
    def batches(self) -> BatchRange:
        """The batch as ``export_graph`` wants it."""
        return batch_range(self.batch)

    @property
    def label(self) -> str:
        """The network and its size, for tables."""
        name = Path(self.network).stem
        return name if self.size is None else f"{name} {self.size[0]}x{self.size[1]}"

    @staticmethod
    def config_of(variant: Variant) -> SwinConfig:
        """The architecture of a variant that is a Swin."""
        return of_kind(SwinConfig, variant.config)

    def __str__(self) -> str:
        return f"{self.label} {self.batch}"


ROWS = (
    Row("swin_t", "16", ALL),
    Row("swin_t", "1", ALL),
    Row("swin_s", "16", ALL),
    Row("swin_b", "16", ALL),
    Row("swin_l", "16", ("timm", "transformers")),
    Row("swin_b_384", "8", ("timm", "transformers")),
    Row("swinv2_t_w8", "16", ALL),
    Row("swinv2_s_w16", "8", ("timm", "transformers")),
    Row(CIFAR, "16", ("timm",)),
    Row("swin_t", "16", ALL, (230, 250)),
    Row("swin_t", "1:16", ("timm",)),
    Row("swinv2_t_w8", "1:16", ("timm",)),
)


def batch_range(text: str) -> BatchRange:
    """``N`` or ``LOW:HIGH`` as numbers."""
    low, _, high = text.partition(":")
    return BatchRange(low=int(low), high=int(high or low))


# The graphs take one image here; the batch of the row decides on the form, static or dynamic.
EXACTNESS_ROWS = tuple(row for row in ROWS if str(row) != "swin_t 1")


def from_tests(module: str) -> Any:
    """A module of ``tests``, which know how to build the libraries' models."""
    for folder in (ROOT / "tests", ROOT / "tests" / "support"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return importlib.import_module(module)
