"""What the compiler makes of the real networks, as text files that are checked in.

A record has a few sums and then the ``kernel_lines`` of an engine. The tests hold every engine to
its record; scripts/record_kernels.py rewrites them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import EVERY, ROOT
from fusion.rows import batch_range
from swin_deploy.data.images import make_noise
from swin_deploy.engine.cost.kernels import cost_listing, diff_listings, kernel_lines
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half, find_large
from swin_deploy.graph.simplify import simplify_graph
from swin_deploy.measure.cost import COMPILER, Subject, open_subjects
from swin_deploy.network.export_form import choose_form
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.model.build import build_model

FOLDER = ROOT / "tests" / "kernels"
COMMAND = "python scripts/record_kernels.py"


@dataclass(frozen=True, slots=True)
class Case:
    """A network at a batch.

    Attributes:
        network: A key of ``conftest.EVERY``.
        batch: A size, or LOW:HIGH.
        quick: Whether its test is of the quick ones.
        nightly: Whether its test is.
        whole_run: Whether its test exports and verifies it; otherwise it is compiled only, and not
            simplified, as simplification runs both graphs: of large ones half of the time.
    """

    network: str
    batch: str
    quick: bool = False
    nightly: bool = False
    whole_run: bool = True

    @property
    def batches(self) -> BatchRange:
        """The batch as ``export_graph`` wants it."""
        return batch_range(self.batch)

    def __str__(self) -> str:
        network = re.sub(r"\W+", "_", self.network)
        return f"{network}-b{self.batch.replace(':', '-')}"


CASES = (
    Case("swin_t", "1", quick=True),
    Case("swin_t", "16", nightly=True, whole_run=False),
    Case("swin_t", "1:16"),
    Case("swin_s", "1", nightly=True),
    Case("swin_b_384", "1", nightly=True, whole_run=False),
    Case("cifar10_swin", "1", quick=True),
    Case("swinv2_t_w8", "1"),
    Case("swinv2_s_w16", "1", nightly=True, whole_run=False),
    Case("swin_t, padded after the roll", "1", nightly=True),
    Case("swinv2_t_w8, padded after the roll", "1", nightly=True),
    Case("vit_t_16", "1"),
    Case("vit_b_16", "1", nightly=True, whole_run=False),
    Case("swin_b", "16", nightly=True, whole_run=False),
    Case("swin_b_384", "8", nightly=True, whole_run=False),
    Case("swinv2_t_w8", "16", nightly=True, whole_run=False),
    Case("swinv2_s_w16", "8", nightly=True, whole_run=False),
)


def group_of(network: str, batch: str) -> str:
    """What tests of one full-size export share, so that one worker runs them."""
    return f"{network} {batch}"


def params(cases: Iterable[Case]) -> list[Any]:
    """Cases as parameters of a test."""
    return [pytest.param(case, id=str(case), marks=_marks(case)) for case in cases]


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    if case.quick:
        return []
    nightly = [pytest.mark.nightly] if case.nightly else []
    return [*nightly, pytest.mark.slow, pytest.mark.xdist_group(group_of(case.network, case.batch))]


def compile_case(case: Case) -> Subject:
    """Its FP16 engine for target rtx, by the stages of an export but without its verification."""
    config, batch = EVERY[case.network].config, case.batches
    with tempfile.TemporaryDirectory() as folder:
        graph, log = Path(folder) / "model.onnx", Path(folder) / "log"
        frozen = freeze(build_model(config), choose_form({COMPILER.kind}, batch.static))
        export_graph(frozen, config, batch, graph)
        kept: Collection[str] = ()
        if case.whole_run:
            largest = make_noise(batch.high, config.in_channels, config.image_size).images
            simplify_graph(graph, graph, largest, log, strict=True)
            kept = find_large(graph, [largest])
        convert_to_half(graph, graph, "fp16", kept)
        (subject,) = open_subjects(graph, lambda title: None)
    if subject.batch != batch:
        raise AssertionError(f"{case} was compiled for batch {subject.batch}")
    return subject


def make_record(subject: Subject) -> str:
    """The text of a record: the compiler on the first line, then what it is held to."""
    return "\n".join([f"compiler: {subject.compiler}", *_facts(subject), ""])


def require_recorded(case: Case, subject: Subject, folder: Path = FOLDER) -> None:
    """Check that an engine is what its record says, kernel by kernel and byte by byte.

    Raises:
        AssertionError: It is not, or there is no record. Has the difference, and the command that
            rewrites the record.
    """
    path = folder / f"{case}.txt"
    if not path.is_file():
        raise AssertionError(f"{path} is missing; this writes it: {COMMAND} {case}")
    first, *expected = path.read_text().splitlines() or [""]
    difference = diff_listings(expected, _facts(subject))
    if not difference:
        return
    recorded = first.removeprefix("compiler: ")
    other = (
        f"another compiler: {path.name} was recorded with {recorded!r}, this is "
        f"{subject.compiler!r}\n"
        if recorded != subject.compiler
        else ""
    )
    raise AssertionError(
        f"{other}{case}: the compiler made something else (new) than {path.name} says (old):\n"
        f"{difference}\n"
        f"if that is meant, this rewrites the record: {COMMAND} {case}"
    )


def _facts(subject: Subject) -> list[str]:
    cost = cost_listing(subject.listing, subject.graph)
    sums = cost.totals
    return [
        f"kernels: {sums.kernels}",
        f"fused attentions: {cost.fused_attentions} of {cost.attentions}",
        f"activation bytes: {_known(sums.activation_bytes)}",
        f"weight bytes: {_known(sums.weight_bytes)}",
        "",
        *kernel_lines(cost),
    ]


def _known(size: int | None) -> str:
    return "dynamic" if size is None else str(size)
