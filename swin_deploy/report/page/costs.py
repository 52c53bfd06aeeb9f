"""Kernels and bytes of a run's engines, by purpose, from the listings that the export kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from swin_deploy.engine.purpose import PURPOSES
from swin_deploy.run.finished import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class PurposeCost:
    """What the kernels of one purpose cost; sizes are None where the batch is dynamic."""

    purpose: str
    kernels: int
    activation_bytes: int | None
    weight_bytes: int | None
    flops: int | None

    @property
    def moved_bytes(self) -> int | None:
        """Activations and weights."""
        if self.activation_bytes is None or self.weight_bytes is None:
            return None
        return self.activation_bytes + self.weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCost:
    """An engine whose runtime lists its kernels."""

    name: str
    compiler: str
    batch: tuple[int, int]
    attentions: int
    fused_attentions: int
    purposes: tuple[PurposeCost, ...]
    warnings: tuple[str, ...]


def read_costs(run: Run, gone: Sequence[str] = ()) -> tuple[tuple[EngineCost, ...], str]:
    """The engines, or none and the reason.

    Args:
        run: Whose.
        gone: Files that its manifest lists and that are not there.

    Raises:
        UnsafeError: A file of the run is not the one that was recorded.
        InputError: A listing or a graph cannot be read.
    """
    if not any(name.endswith(".kernels.json") for name in run.files):
        return (), "no engine of this run has a runtime that lists its kernels"
    if needed := [name for name in gone if name.endswith((".kernels.json", ".onnx"))]:
        return (), f"{needed[0]} is missing"
    from swin_deploy.cost.report import CostRequest, report_cost

    report = report_cost(CostRequest(path=run.path), lambda _: None)
    return tuple(
        EngineCost(
            name=engine["name"],
            compiler=engine["compiler"],
            batch=(engine["batch"]["low"], engine["batch"]["high"]),
            attentions=engine["attentions"],
            fused_attentions=engine["fused_attentions"],
            purposes=tuple(
                PurposeCost(
                    purpose=name,
                    **{
                        key: row[key]
                        for key in ("kernels", "activation_bytes", "weight_bytes", "flops")
                    },
                )
                for name in PURPOSES
                if (row := engine["purposes"].get(name)) is not None
            ),
            warnings=tuple(engine["warnings"]),
        )
        for engine in report["engines"]
    ), ""
