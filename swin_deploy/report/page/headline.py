"""The verdict and the figures behind it, and several sources side by side."""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.bench.statistics import Measurement
from swin_deploy.evaluate.report import Evaluated
from swin_deploy.report.page.gather import ReportData, Source
from swin_deploy.report.page.section import Section
from swin_deploy.report.page.tables import (
    Cell,
    Tone,
    make_table,
    measure,
    number,
    significant,
    text,
    within,
)
from swin_deploy.report.page.verdict import best_timing, found_by_verify, make_verdict, tone_of

_MB = 1e6


@dataclass(frozen=True, slots=True)
class Card:
    """A figure of the headline."""

    title: str
    value: str
    more: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """What a source comes down to.

    Attributes:
        source: Which.
        verdict: A sentence.
        tone: Of it.
        cards: The figures behind it.
    """

    source: Source
    verdict: str
    tone: Tone
    cards: tuple[Card, ...]


def make_headline(source: Source) -> Headline:
    """What a source comes down to; says so where nothing was measured."""
    best = best_timing(source)
    cards = [card for card in (_speed(best), _latency(best), _agreement(source)) if card]
    cards += [card for card in (_accuracy(source, best), _kernels(source)) if card]
    verdict, tone = make_verdict(source, best)
    return Headline(source, verdict, tone, tuple(cards))


def compare_section(data: ReportData) -> Section:
    """A row a source, where there are several."""
    if len(data.sources) < 2:
        return Section(name="compare", title="Side by side")
    several = len({source.network for source in data.sources}) > 1
    rows = []
    for source in data.sources:
        best, machine = best_timing(source), source.machine
        accuracy = _evaluated(source, best)
        rows.append(
            (
                text(source.label),
                text(source.network if several else ""),
                text("" if best is None else best.verdict, tone_of(best)),
                _agreement_cell(source),
                text("" if machine is None else f"{machine.processor}, {machine.cores} cores"),
                text("" if best is None else best.name),
                number(None if best is None else best.batch, "d"),
                measure(None if best is None else best.p50_ms),
                measure(None if best is None else best.images_per_s),
                text("")
                if best is None
                else within(best.speedup, best.speedup_low, best.speedup_high, significant),
                number(None if accuracy is None else 100 * accuracy.top1.share),
            )
        )
    columns = ("run", "network", "verdict", "agreement", "machine", "engine", ">batch",
               ">p50 (ms)", ">images/s", ">speed-up (95 % interval)", ">top-1 (%)")  # fmt: skip
    table = make_table("The fastest engine that agrees, of every run and file", columns, rows)
    words: tuple[str, ...] = ()
    if len({s.machine.processor for s in data.sources if s.machine is not None}) > 1:
        words = (
            "The machines differ: compare speed-ups, each over the eager network of its own "
            "machine, rather than times.",
        )
    return Section(name="compare", title="Side by side", words=words, tables=(table,))


def _evaluated(source: Source, best: Measurement | None) -> Evaluated | None:
    """The accuracy of the engine that was measured; else of what the others were compared with.

    None of random weights: theirs is that of guessing.
    """
    if source.random:
        return None
    rows = source.evaluate.artifacts if source.evaluate else ()
    first = rows[0] if rows else None
    return next((row for row in rows if best is not None and row.name == best.name), first)


def _speed(best: Measurement | None) -> Card | None:
    if best is None:
        return None
    low, high = significant(best.speedup_low), significant(best.speedup_high)
    more = f"{low} to {high}; {best.verdict}"
    return Card("Speed-up over eager", f"{significant(best.speedup)} times", more, tone_of(best))


def _latency(best: Measurement | None) -> Card | None:
    if best is None:
        return None
    rate = significant(best.images_per_s)
    more = f"p99 {significant(best.p99_ms)} ms, {rate} images/s, batch {best.batch}"
    return Card("Median latency", f"{significant(best.p50_ms)} ms", more)


def _agreement(source: Source) -> Card | None:
    """Of the export and of a later ``verify`` together: either may have found a failure."""
    if source.verify is None and source.checks is None:
        return None
    parts: list[str] = []
    failed = 0
    if (verify := source.verify) is not None:
        failed = sum(not row.passed for row in verify.comparisons)
        worst = [row.sqnr_db for row in verify.comparisons if row.sqnr_db is not None]
        least = f", least {min(worst):.1f} dB" if worst else ""
        parts.append(f"{len(verify.comparisons)} comparisons{least}")
    if later := found_by_verify(source):
        return Card("Agreement", "failed", "; ".join([later, *parts]), "bad")
    if source.checks is not None:
        parts.append(f"verify: {len(source.checks.judged)} passed")
    more = "; ".join(parts)
    if failed:
        return Card("Agreement", f"{failed} failed", more, "bad")
    return Card("Agreement", "all passed", more, "good")


def _agreement_cell(source: Source) -> Cell:
    card = _agreement(source)
    return text("") if card is None else text(card.value, card.tone)


def _accuracy(source: Source, best: Measurement | None) -> Card | None:
    found = _evaluated(source, best)
    if source.evaluate is None or found is None:
        return None
    low, high = found.top1.interval
    more = f"{100 * low:.2f} to {100 * high:.2f}; {found.name}, {source.evaluate.images:,} images"
    return Card("Top-1", f"{100 * found.top1.share:.2f} %", more)


def _kernels(source: Source) -> Card | None:
    if not source.costs:
        return None
    engine = source.costs[0]
    moved = [cost.moved_bytes for cost in engine.purposes]
    more = f"{engine.fused_attentions} of {engine.attentions} attentions fused"
    if None not in moved:
        more = f"{sum(value or 0 for value in moved) / _MB:,.1f} MB moved, " + more
    return Card(engine.name, f"{sum(cost.kernels for cost in engine.purposes)} kernels", more)
