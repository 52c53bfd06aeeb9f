"""Kernels and bytes by purpose."""

from __future__ import annotations

from swin_deploy.report.page.gather import ReportData
from swin_deploy.report.page.plots_numbers import plot_bytes, plot_kernels
from swin_deploy.report.page.section import Section, label_cell, named
from swin_deploy.report.page.tables import make_table, measure, number, text

_MB, _GIGA = 1e6, 1e9


def cost_section(data: ReportData) -> Section:
    """Kernels and bytes by purpose."""
    engines = [
        (named(data, source, engine.name), source, engine)
        for source in data.sources
        for engine in source.costs
    ]
    if not engines:
        return Section(name="cost", title="Kernels and bytes")
    rows = [
        (
            label_cell(data, source),
            text(engine.name),
            text(cost.purpose),
            number(cost.kernels, "d"),
            *(
                measure(None if value is None else value / unit, 3)
                for value, unit in (
                    (cost.activation_bytes, _MB),
                    (cost.weight_bytes, _MB),
                    (cost.flops, _GIGA),
                )
            ),
        )
        for _, source, engine in engines
        for cost in engine.purposes
    ]
    columns = ("run", "engine", "purpose", ">kernels", ">activations (MB)", ">weights (MB)",
               ">GFLOP")  # fmt: skip
    shown = [(name, engine) for name, _, engine in engines]
    words = [
        f"{name}: {engine.fused_attentions} of {engine.attentions} attentions are one fused kernel "
        f"each; compiled by {engine.compiler}."
        for name, engine in shown
    ]
    if any(cost.moved_bytes is None for _, engine in shown for cost in engine.purposes):
        words.append("Bytes depend on the batch where it is dynamic, and are not shown there.")
    figures = tuple(f for f in (plot_bytes(shown), plot_kernels(shown)) if f is not None)
    table = make_table("What the compiler made, by purpose", columns, rows)
    return Section(
        name="cost",
        title="Kernels and bytes",
        words=tuple(words),
        figures=figures,
        tables=(table,),
    )
