"""What an evaluation counts, shard by shard: journals that go on, and the statistics of pairs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Silent
from evaluations import evaluate
from swin_deploy.core.errors import BusyError, InputError
from swin_deploy.data.labelled import find_labelled
from swin_deploy.data.samples import SampledImage
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.evaluate.shards import Shard, ShardResult, cut_shards, misfit, open_journal
from swin_deploy.measure.evaluate.statistics import describe_pair, mcnemar, paired_interval
from swin_deploy.measure.evaluate.worker import best_classes
from swin_deploy.measure.journal import journal_path

# One process makes the fixtures for all of these files.
pytestmark = pytest.mark.xdist_group("test_evaluate")


def fits(result: ShardResult) -> str:
    return ""


# Three shards, of 64, 64 and 22 photos, and two artifacts that give the best two of ten classes.
THREE = [Shard(i, 64 * i, (SampledImage("x", ""),) * n) for i, n in enumerate((64, 64, 22))]
of_three = partial(misfit, shards=THREE, artifacts=2, classes=10)


def result_of(shard: Shard) -> ShardResult:
    """The first photo cannot be read."""
    own = [shard.first + at for at in range(len(shard.images))]
    return ShardResult(shard.index, own[1:], [[[9, -1]] * len(own[1:])] * 2, [(own[0], "bad")])


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A journal with all three shards."""
    report = tmp_path / "evaluate.json"
    with open_journal(report, {"of": "this"}, print, of_three) as journal:
        for shard in THREE:
            journal.add(result_of(shard))
    return report


@pytest.mark.fault(38)
def test_a_journal_that_cannot_be_written_on_keeps_its_shards(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal_path(unfinished).open("a") as stream:
        stream.write('{"index": 4, "positions": [25')  # cut off

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("swin_deploy.measure.evaluate.shards.os.fsync", full)
        again = open_journal(unfinished, {"of": "this"}, print, of_three)
        with pytest.raises(OSError, match="No space"):
            again.__enter__()
    notes: list[str] = []
    with open_journal(unfinished, {"of": "this"}, notes.append, of_three) as journal:
        assert journal.done == {shard.index: result_of(shard) for shard in THREE}
    assert notes == ["shards of an earlier run that are used again: 3"]


BAD_ROWS: dict[str, dict[str, Any] | str] = {
    "no lists": {"positions": 7, "classes": None},
    "infinite": '{"index": Infinity, "positions": [], "classes": [], "left_out": []}',
    "no object": "7",
    "cut off": '{"index": 1, ',
    "one that there is not": {"index": 3},
    "a negative one": {"index": -1},
    "true": {"index": True},
    "a photo of another": {"positions": [*range(64, 127)]},
    "a photo twice": {"positions": [65, *range(65, 127)]},
    "another order": {"positions": [*range(127, 64, -1)]},
    "too few photos": {"left_out": []},
    "an artifact is missing": {"classes": [[[9, -1]] * 63]},
    "a guess is missing": {"classes": [[[9, -1]] * 62] * 2},
    "no class": {"classes": [[[10, -1]] * 63] * 2},
    "half a class": {"classes": [[[9, 0.5]] * 63] * 2},
    "no guesses": {"classes": [[[]] * 63] * 2},
    "too many": {"classes": [[[1, 2, 3, 4, 5, 6]] * 63] * 2},
    "a ragged one": {"classes": [[[1, 2]] * 62 + [[1]]] * 2},
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_line_of_a_journal_that_fits_no_shard_is_done_again(
    unfinished: Path, bad: dict[str, Any] | str
) -> None:
    path = journal_path(unfinished)
    lines = path.read_text().splitlines()
    lines[3] = bad if isinstance(bad, str) else json.dumps(result_of(THREE[1]).as_dict() | bad)
    path.write_text("\n".join(lines) + "\n")
    notes: list[str] = []
    with open_journal(unfinished, {"of": "this"}, notes.append, of_three) as journal:
        assert sorted(journal.done) == [0, 2]
        journal.add(result_of(THREE[1]))
    assert notes[0].startswith(f"1 lines of shards are done again: {path}, line 4")
    with open_journal(unfinished, {"of": "this"}, print, of_three) as journal:
        assert sorted(journal.done) == [0, 1, 2]


def test_a_journal_with_an_edited_header_does_not_count(unfinished: Path) -> None:
    path, notes = journal_path(unfinished), list[str]()
    path.write_text(path.read_text().replace('"of":"this"', '"of":"that"'))
    with open_journal(unfinished, {"of": "that"}, notes.append, of_three) as journal:
        assert not journal.done
    assert notes == [f"{path} cannot be used: starting again"]


def test_shards_with_other_numbers_of_classes_are_refused(
    evaluation_of: Callable[..., EvaluateRequest], tmp_path: Path
) -> None:
    """Each would pass alone; of one artifact both cannot be."""
    request = evaluation_of(limit=70)
    assert request.out is not None
    report = evaluate(request)
    row = ShardResult(0, [*range(64)], [[[1]] * 64] * 3, [])
    with open_journal(request.out, report["identity"], print, fits) as journal:
        journal.add(row)
    with pytest.raises(InputError, match="other numbers of classes"):
        evaluate(request)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"batch": 8}, "settings"), ({"limit": 299}, "images"), ({"eager": True}, "artifacts")],
)
def test_shards_of_another_evaluation_do_not_count(
    change: dict[str, Any], what: str, evaluation_of: Callable[..., EvaluateRequest]
) -> None:
    request = evaluation_of()
    assert request.out is not None
    report = evaluate(request)
    with open_journal(request.out, report["identity"], print, fits) as journal:
        journal.add(ShardResult(0, [0], [[[0]]] * 3, []))
    listener = Silent()
    changed = evaluate(evaluation_of(**change), listener)
    assert any(note.endswith(f"is of another {what}: starting again") for note in listener.notes)
    if "batch" in change:
        assert changed["predictions_sha256"] == report["predictions_sha256"]


@pytest.mark.fault(41)
def test_one_process_at_a_time_writes_a_report(tmp_path: Path) -> None:
    out = tmp_path / "evaluate.json"
    second = open_journal(out, {}, print, fits)
    taken = pytest.raises(BusyError, match=f"process {os.getpid()}")
    with open_journal(out, {}, print, fits), taken:
        second.__enter__()


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (1, 0, 1.0),
        (6, 0, 2 / 64),
        (1, 9, 2 * (1 + 10) / 1024),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_mcnemar_is_the_binomial_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p)


def test_mcnemar_of_many_images_is_the_normal_one() -> None:
    """10000 coins, two standard deviations off: 4.55 % and a little, and nothing overflows."""
    assert mcnemar(5100, 4900) == pytest.approx(0.0466, abs=0.0005)


def test_pairs_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    a, b = np.array([0, 0, 1, 0, 1]), np.array([0, 1, 0, 1, 0])
    found = describe_pair(("one", "other"), a, b, labels, "vwxyz")
    assert (found.both_right, found.only_a_right, found.only_b_right, found.both_wrong) == (
        *(1, 2, 1, 1),
    )
    assert found.drop_points == pytest.approx(20)
    assert [(row.a, row.b, row.images) for row in found.confusion] == [(0, 1, 2), (1, 0, 2)]
    low, high = paired_interval(2, 1, 5)
    assert (low + high) / 2 == pytest.approx(1 / 7)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(4 - 1 / 7) / 7)
    assert [(flip.image, flip.change) for flip in found.flips] == [
        *(("w", "worse"), ("x", "worse"), ("y", "better"), ("z", "wrong"))
    ]


def test_best_classes_of_every_kind_of_output() -> None:
    logits = np.array([[0.0, 2, 1, 2, -1, 0], [0, 0, 0, np.nan, 0, 0]], dtype=np.float32)
    assert best_classes({"logits": logits}).tolist() == [[1, 3, 2, 0, 5], [-1] * 5]
    scores = np.array([[0.9, 0.1], [np.inf, 0]], dtype=np.float32)
    classes = np.array([[4, 1], [2, 3]])
    assert best_classes({"scores": scores, "classes": classes}).tolist() == [[4, 1], [-1, -1]]


def test_shards_depend_on_the_batch_alone(held_out: Path) -> None:
    sample = find_labelled(held_out, 10).sample
    for batch, size in ((1, 64), (16, 64), (24, 72), (100, 100)):
        shards = cut_shards(sample, batch)
        assert [shard.first for shard in shards] == list(range(0, 300, size))
        assert [image for shard in shards for image in shard.images] == list(sample.images)
