"""Every kind of file that people save a Swin in: who writes it, and what happens with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from no_downloads import Downloads
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import load_source
from swin_deploy.network.checkpoints.source import with_hints
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import model_from_tensors
from torch_files import save

Reference = Callable[[Tensor], Any]  # image (b, c, h, w) -> logits, or maps (b, h, w, c)
FLOOR_DB = 110.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A checkpoint that was made.

    Attributes:
        path: What ``--weights`` gets.
        reference: The forward of the library; None where the file has to be refused.
        size: Of the image to compare at, (height, width).
        double: Whether to compare in FP64: of cosine attention FP32 alone is near the floor.
    """

    path: Path
    reference: Reference | None = None
    size: tuple[int, int] = (64, 64)
    double: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One row of the table.

    Attributes:
        writer: Library whose own writer makes it; "as X" where a description of X is rebuilt.
        what: Of it.
        make: Writes it into an empty folder.
        options: What the user has to say.
        refusal: A part of the reason why it is refused; empty if it loads.
    """

    writer: str
    what: str
    make: Callable[[Path], Written]
    options: LoadOptions = field(default_factory=LoadOptions)
    refusal: str = ""

    @property
    def said(self) -> str:
        """The options, as they are written."""
        size = self.options.image_size
        words = [] if size is None else [f"--image {size[0]}x{size[1]}"]
        return " ".join([*words, *self.options.written()])

    def __str__(self) -> str:
        return f"{self.writer}, {self.what}"


def parity_db(layout: Layout, folder: Path) -> float:
    """The worst of all outputs; InputError where the file is refused."""
    written = layout.make(folder)
    source = resolve_source(str(written.path), None, Downloads())
    found = load_source(source, with_hints(layout.options, source))
    if written.reference is None:
        return float("inf")
    model = model_from_tensors(found.config, found.tensors)
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, found.config.in_channels, *written.size, generator=generator)
    if written.double:
        model, image = model.double(), image.double()
    with torch.inference_mode():
        expected = written.reference(image)
        if found.config.num_classes:
            return sqnr_db(expected.numpy(), model(image).numpy())
        maps = model.stages(image)  # type: ignore[operator]
        rows = zip(expected, maps, strict=True)
        return min(sqnr_db(theirs.numpy(), ours.numpy()) for theirs, ours in rows)


def of(network: nn.Module, path: Path, double: bool = False, **more: Any) -> Written:
    """A file with the weights of a network whose forward is the reference."""
    return Written(
        path=path,
        reference=network.double() if double else network,
        double=double,
        **more,
    )


def saved(network: nn.Module, folder: Path, content: Any = None, **more: Any) -> Written:
    """With ``torch.save``: its state_dict, or ``content``."""
    path = save(folder / "x.pth", network.state_dict() if content is None else content)
    return of(network, path, **more)


def refused(folder: Path, content: Any) -> Written:
    """With ``torch.save``, and not to be run."""
    return Written(path=save(folder / "x.pth", content))


def every() -> Iterator[Layout]:
    """All rows, in the order of the table."""
    import layouts_heads
    import layouts_libraries
    import layouts_training

    for module in (layouts_libraries, layouts_training, layouts_heads):
        yield from module.LAYOUTS
