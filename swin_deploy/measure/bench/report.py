"""What ``bench.json`` holds: ``bench`` writes these classes, and whoever reads it gets them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from swin_deploy.core.records import Count, Reasons, Rows, Text, Within, finite
from swin_deploy.engine.here import Machine
from swin_deploy.measure.bench.power import Conditions
from swin_deploy.measure.bench.statistics import Measurement
from swin_deploy.measure.verify.comparison import ComparisonRow

KIND = "bench"
# 4: checks have their precision; 3: intervals, verdicts and roles; 2: a check per output
SCHEMA_VERSION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """``bench.json``; earlier versions did not write ``batches`` and ``baselines``.

    Attributes:
        network: Its name.
        engine: As it was named.
        outputs: What the network gives.
        threads: On the CPU, of every runner.
        rounds: Turns per runner and batch.
        batches: Batch sizes.
        baselines: That were asked for.
        measurements: The first of each batch is what speed-ups are over.
        checks: What was compared before anything was timed.
        conditions: Under what it was measured.
        machine: Where.
        warnings: What a reader of the figures has to know.
        not_run: Engine -> why it cannot run on this machine.
    """

    network: Text
    engine: Text
    outputs: Text
    threads: Count
    rounds: Count
    batches: Rows[Count] = ()
    baselines: Rows[Text] = ()
    measurements: Annotated[Rows[Measurement], Within(1, 20_000)]
    checks: Rows[ComparisonRow]
    conditions: Conditions
    machine: Machine
    warnings: Rows[Text]
    not_run: Reasons = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``bench --json``."""
        return {"kind": KIND, "schema_version": SCHEMA_VERSION, **finite(asdict(self))}
