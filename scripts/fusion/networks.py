"""The table of networks: every library's own export, and ours beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fusion.compile import compile_naive, compile_ours
from fusion.rows import Row
from swin_deploy.engine.build import BuiltEngine

HEADER = (
    "| network | batch | graph | kernels | fused attentions | activation MB "
    "| kernels, ours to this | bytes, ours to this |",
    "|---|---|---|---:|---:|---:|---:|---:|",
)


def network_table(rows: list[Row], with_ours: bool) -> Iterator[str]:
    """Markdown, line by line as it is measured."""
    yield from HEADER
    for row in rows:
        ours = compile_ours(row) if with_ours else None
        if ours is not None:
            yield _line(row, "**ours**", ours, None)
        for library in row.libraries:
            yield _line(row, library, compile_naive(row, library), ours)


def _line(row: Row, name: str, engine: BuiltEngine, ours: BuiltEngine | None) -> str:
    cells = [row.label, row.batch, name, *figures(engine, sum(row.config.depths))]
    counts = (lambda e: e.kernels, lambda e: e.activation_bytes)
    cells += [_ratio(count, ours, engine) for count in counts]
    return f"| {' | '.join(cells)} |"


def figures(engine: BuiltEngine, attentions: int) -> tuple[str, str, str]:
    """Kernels, fused attentions and megabytes of an engine, as a table has them."""
    size = engine.activation_bytes  # unknown where the batch is dynamic
    megabytes = "" if size is None else f"{size / 1e6:,.0f}" if size > 1e9 else f"{size / 1e6:.1f}"
    return str(engine.kernels), f"{engine.fused_attentions} of {attentions}", megabytes


def _ratio(
    count: Callable[[BuiltEngine], int | None], ours: BuiltEngine | None, naive: BuiltEngine
) -> str:
    if ours is None:
        return ""
    mine, theirs = count(ours), count(naive)
    return f"{mine / theirs:.2f}" if mine and theirs else ""
