"""The table of networks: FP16, and INT8 by the recipe of the product."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusion.rows import Row
from quantisation.engines import (
    Figures,
    figures_of,
    list_kernels,
    megabytes,
    write_full,
    write_half,
    write_recipe,
)

MOST_KERNELS = 1.10  # times those of FP16
MOST_BYTES = {"swin_t": 0.87}  # times those of FP16, by network
MOST_BYTES_OF_OTHERS = 0.95

NETWORKS = (
    Row("swin_t", "1", ()),
    Row("swin_t", "16", ()),
    Row("swin_b", "1", ()),
    Row("swin_b", "16", ()),
    Row("swin_b_384", "1", ()),
    Row("swin_b_384", "8", ()),
    Row("swinv2_t_w8", "1", ()),
    Row("swinv2_t_w8", "16", ()),
    Row("swinv2_s_w16", "1", ()),
    Row("swinv2_s_w16", "8", ()),
)

HEADER = (
    "| network | batch | precision | kernels | fused attentions | activation MB | weight MB | MB "
    "| kernels to FP16 | MB to FP16 | within bounds |",
    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """An FP16 engine and the INT8 one of the same network.

    Attributes:
        row: Network and batch.
        half: FP16.
        whole: INT8.
    """

    row: Row
    half: Figures
    whole: Figures

    @property
    def kernels(self) -> float:
        """Kernels of INT8 over those of FP16."""
        return self.whole.kernels / self.half.kernels

    @property
    def moved(self) -> float:
        """Bytes of INT8 over those of FP16."""
        return self.whole.moved_bytes / self.half.moved_bytes

    @property
    def problems(self) -> list[str]:
        """The bounds that are missed."""
        attentions = sum(self.row.config.depths)
        bound = MOST_BYTES.get(self.row.network, MOST_BYTES_OF_OTHERS)
        found = []
        if self.whole.fused < attentions:
            found.append(f"{self.whole.fused} of {attentions} attentions fused")
        if self.kernels > MOST_KERNELS:
            found.append(f"kernels above {MOST_KERNELS:.2f}")
        if self.moved > bound:
            found.append(f"bytes above {bound:.2f}")
        return found


def placement_table(rows: list[Row]) -> Iterator[str]:
    """Markdown, line by line as it is measured."""
    yield from HEADER
    for row in rows:
        pair = compile_pair(row)
        yield _line(row, "FP16", pair.half, ["", "", ""])
        bounds = "; ".join(pair.problems) or "yes"
        yield _line(row, "INT8", pair.whole, [f"{pair.kernels:.2f}", f"{pair.moved:.2f}", bounds])


def compile_pair(row: Row) -> Pair:
    """Both engines of a row.

    Raises:
        InputError: The compiler refuses a graph, or its listing cannot be read.
        ResourceError: It gave up.
    """
    batch = row.batches
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "model.onnx"
        write_full(row, full)
        half = figures_of(list_kernels(lambda path: write_half(full, path), batch))
        whole = figures_of(list_kernels(lambda path: write_recipe(full, path, batch.high), batch))
    return Pair(row, half, whole)


def _line(row: Row, precision: str, found: Figures, rest: list[str]) -> str:
    attentions = sum(row.config.depths)
    cells = [row.label, row.batch, precision, str(found.kernels), f"{found.fused} of {attentions}"]
    sizes = (found.activation_bytes, found.weight_bytes, found.moved_bytes)
    return f"| {' | '.join([*cells, *map(megabytes, sizes), *rest])} |"
