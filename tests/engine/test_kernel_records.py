"""The guard of the kernels: what is damaged fails, and its difference is printed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import ROOT
from kernel_records import CASES, FOLDER, Case, make_record, require_recorded
from swin_deploy.engine.cost.listing import Kernel, Listing
from swin_deploy.measure.cost import Subject, open_subjects

CASE = Case("pocket", "2")
WRITES = "python scripts/record_kernels.py pocket-b2"


@pytest.fixture(scope="module")
def subject(fixed_run: Path) -> Subject:
    (found,) = open_subjects(fixed_run, lambda title: None)
    return found


@pytest.fixture
def folder(subject: Subject, tmp_path: Path) -> Path:
    """Where the engine is recorded."""
    (tmp_path / f"{CASE}.txt").write_text(make_record(subject))
    return tmp_path


def changed(
    subject: Subject, change: Callable[[tuple[Kernel, ...]], tuple[Kernel, ...]]
) -> Subject:
    return replace(subject, listing=Listing(change(subject.listing.kernels)))


def failure(subject: Subject, folder: Path) -> list[str]:
    """The lines of what the guard says."""
    with pytest.raises(AssertionError) as raised:
        require_recorded(CASE, subject, folder)
    return str(raised.value).splitlines()


def first_attention(kernels: tuple[Kernel, ...]) -> int:
    return next(i for i, kernel in enumerate(kernels) if kernel.fused_attention)


def test_an_engine_is_what_its_record_says(subject: Subject, folder: Path) -> None:
    require_recorded(CASE, subject, folder)


def test_an_attention_that_is_no_longer_fused_is_named(subject: Subject, folder: Path) -> None:
    def unfuse(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
        at = first_attention(kernels)
        split = replace(kernels[at], name="__myl_MaxSubExpSumDivMul_myl0_7")
        return (*kernels[:at], split, *kernels[at + 1 :])

    assert subject.listing.fused_attentions == 6
    said = failure(changed(subject, unfuse), folder)
    assert (
        said[0]
        == "pocket-b2: the compiler made something else (new) than pocket-b2.txt says (old):"
    )
    assert {"-fused attentions: 6 of 6", "+fused attentions: 5 of 6"} <= set(said)
    old, new = (next(line for line in said if line.startswith(f"{sign}attention")) for sign in "-+")
    assert "_gemm_mha" in old
    assert "layers.0.blocks.0" in new
    assert "MaxSubExpSumDivMul" in new
    assert said[-1] == f"if that is meant, this rewrites the record: {WRITES}"


def test_a_copy_that_was_not_there_is_named(subject: Subject, folder: Path) -> None:
    moved = next(
        node.name
        for node in subject.graph.nodes.values()
        if node.module == "layers.0.blocks.0.attn" and node.role == "move"
    )

    def copy_before(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
        at = first_attention(kernels)
        queries = kernels[at].inputs[:1]
        copy = Kernel("__myl_Slic_myl0_7", "kgen", queries, (), queries, (moved,))
        return (*kernels[:at], copy, *kernels[at:])

    count = len(subject.listing.kernels)
    said = failure(changed(subject, copy_before), folder)
    assert {f"-kernels: {count}", f"+kernels: {count + 1}"} <= set(said)
    (added,) = (line for line in said if line.startswith("+") and " kgen " in line)
    assert added.split()[:4] == ["+relayout", "layers.0.blocks.0", "kgen", "Slic"]


def test_a_byte_too_many_is_named(subject: Subject, folder: Path) -> None:
    def grow(kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
        last = kernels[-1]
        return (*kernels[:-1], replace(last, outputs=(*last.outputs, last.outputs[0])))

    said = failure(changed(subject, grow), folder)
    assert any(line.startswith("+activation bytes: ") for line in said)
    assert [line.split()[0] for line in said if line[:1] in "+-"][-2:] == ["-head", "+head"]


def test_another_compiler_is_said_first_and_only_where_something_differs(
    subject: Subject, folder: Path
) -> None:
    newer = replace(subject, compiler="tensorrt_rtx 9.9")
    require_recorded(CASE, newer, folder)
    said = failure(changed(newer, lambda kernels: kernels[:-1]), folder)
    assert said[0] == (
        f"another compiler: pocket-b2.txt was recorded with '{subject.compiler}', "
        "this is 'tensorrt_rtx 9.9'"
    )


def test_a_missing_record_and_an_empty_one_name_the_command(
    subject: Subject, tmp_path: Path
) -> None:
    assert failure(subject, tmp_path) == [
        f"{tmp_path / 'pocket-b2.txt'} is missing; this writes it: {WRITES}"
    ]
    (tmp_path / "pocket-b2.txt").touch()
    assert failure(subject, tmp_path)[-1].endswith(WRITES)


def test_every_case_has_its_record_and_no_record_is_stale() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{case}.txt" for case in CASES}


@pytest.mark.slow
@pytest.mark.nightly
def test_the_script_writes_the_same_bytes_again(tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "record_kernels.py")
    done = subprocess.run(
        [sys.executable, script, "--out", str(tmp_path), "cifar10_swin-b1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    (written,) = tmp_path.iterdir()
    assert done.stdout == f"{written}: rewritten\n"
    assert written.read_bytes() == (FOLDER / written.name).read_bytes()
