"""The verdict first: what to ship, whether it is faster and agrees; the figures behind it."""

from __future__ import annotations

from dataclasses import dataclass

from swin_deploy.measure.bench.statistics import Measurement
from swin_deploy.measure.evaluate.report import Evaluated
from swin_deploy.report.gather import Source
from swin_deploy.report.measured_tables import VERDICTS
from swin_deploy.report.tables import Tone, significant

_MB = 1e6
_EAGER = "eager PyTorch"


def best_timing(source: Source) -> Measurement | None:
    """The engine with the least latency at the smallest batch, of those that agree."""
    if source.bench is None:
        return None
    checks = source.bench.checks
    checks += source.verify.comparisons if source.verify else ()
    checks += source.checks.checks if source.checks else ()
    failed = {_bare(row.candidate) for row in checks if not row.passed}
    rows = [
        row
        for row in source.bench.measurements
        if row.role == "candidate" and _bare(row.name) not in failed
    ]
    return min(rows, key=lambda row: (row.batch, row.p50_ms), default=None)


def make_verdict(source: Source, best: Measurement | None) -> tuple[str, Tone]:
    """A sentence or two, and their tone; ``best`` is the ``best_timing`` of the source."""
    if source.verify is not None and not source.verify.passed:
        return "Do not ship: an engine or graph disagrees with the eager network.", "bad"
    if later := found_by_verify(source):
        return f"Do not ship: {later}.", "bad"
    words, tone = _of_speed(source, best)
    if not source.random:
        return words, tone
    if best is not None and best.verdict == "faster":
        words = f"The fastest, {_bare(best.name)}, is {_how_fast(best)}{_agrees(source)}."
    return f"Not for shipping: the weights are random, and predict nothing. {words}", "bad"


def found_by_verify(source: Source) -> str:
    """What ``verify`` found wrong, in a few words; "" where it passed, or was not run."""
    if source.checks is None or source.checks.passed:
        return ""
    if failed := source.checks.failed:
        total = len(source.checks.judged)
        return f"verify found {len(failed)} of {total} comparisons failed"
    return f"verify failed: {source.checks.problem}"


def tone_of(best: Measurement | None) -> Tone:
    """Of the speed of an engine."""
    return "" if best is None else VERDICTS.get(best.verdict, "doubtful")


def _of_speed(source: Source, best: Measurement | None) -> tuple[str, Tone]:
    if best is None:
        if source.bench is not None:
            return "Nothing to recommend: no engine that agrees was measured.", "bad"
        agrees = "All that was compared agrees with the eager network. " if source.verify else ""
        return f"{agrees}How fast it is was not measured.", "doubtful"
    if best.verdict == "faster":
        return f"Ship {best.name}: {_how_fast(best)}{_agrees(source)}.", "good"
    end = f"is not reliably faster than {_EAGER} {_where(best)}"
    if best.verdict == "unstable":
        end += ": its times vary too much to tell"
    if best.verdict == "slower":
        end = f"is slower than {_EAGER}: {significant(best.speedup)} times as fast {_where(best)}"
    lead = "The fastest engine that agrees" if source.verify else "The fastest engine"
    return f"{lead}, {_bare(best.name)}, {end}.", tone_of(best)


def _bare(name: str) -> str:
    """Of an engine: ``checks.json`` calls "engine cpu-fp32" of the other files "cpu-fp32"."""
    return name.removeprefix("engine ")


def _how_fast(best: Measurement) -> str:
    return f"{significant(best.speedup)} times as fast as {_EAGER} {_where(best)}"


def _where(best: Measurement) -> str:
    low, high = significant(best.speedup_low), significant(best.speedup_high)
    interval = f"95 % interval {low} to {high}"
    return f"at batch {best.batch} ({interval})"


def _agrees(source: Source) -> str:
    return f", and it agrees with {_EAGER}" if source.verify else ""


@dataclass(frozen=True, slots=True)
class Card:
    """A figure of the headline."""

    title: str
    value: str
    more: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """What a source comes down to: a sentence with its tone, and the figures behind it."""

    source: Source
    verdict: str
    tone: Tone
    cards: tuple[Card, ...]


def make_headline(source: Source) -> Headline:
    """What a source comes down to; says so where nothing was measured."""
    best = best_timing(source)
    cards = [card for card in (_speed(best), _latency(best), agreement(source)) if card]
    cards += [card for card in (_accuracy(source, best), _kernels(source)) if card]
    verdict, tone = make_verdict(source, best)
    return Headline(source, verdict, tone, tuple(cards))


def evaluated(source: Source, best: Measurement | None) -> Evaluated | None:
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


def agreement(source: Source) -> Card | None:
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


def _accuracy(source: Source, best: Measurement | None) -> Card | None:
    found = evaluated(source, best)
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
