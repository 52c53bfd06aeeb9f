"""The verdict first: what to ship, whether it is faster, and whether it agrees."""

from __future__ import annotations

from swin_deploy.bench.statistics import Measurement
from swin_deploy.report.page.gather import Source
from swin_deploy.report.page.sections_speed import VERDICTS
from swin_deploy.report.page.tables import Tone, significant

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
    """A sentence or two, and their tone.

    Args:
        source: What to judge.
        best: Its ``best_timing``.
    """
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
