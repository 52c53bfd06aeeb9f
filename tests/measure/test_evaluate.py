"""``swin-deploy evaluate``: the same counts whoever counts, and damage that shows."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import numpy_helper
from PIL import Image

from conftest import TRAINED, Silent
from killing import kill_a_process, run_script
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    BusyError,
    ConfigError,
    EnvironmentMissingError,
    InputError,
    ResourceError,
    UnsafeError,
)
from swin_deploy.data.labelled import find_labelled
from swin_deploy.data.samples import SampledImage
from swin_deploy.graph.interface import apply_interface
from swin_deploy.measure.evaluate.candidates import find_candidates
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.evaluate.run import evaluate_candidates
from swin_deploy.measure.evaluate.shards import (
    Shard,
    ShardResult,
    cut_shards,
    misfit,
    open_journal,
)
from swin_deploy.measure.evaluate.statistics import (
    describe_pair,
    mcnemar,
    paired_interval,
)
from swin_deploy.measure.evaluate.worker import ShardWorker, Work, best_classes
from swin_deploy.measure.journal import journal_path
from swin_deploy.measure.workers.base import ATTEMPTS, software
from swin_deploy.measure.workers.cluster import WorkerActor, room_for, run_on_ray
from swin_deploy.measure.workers.processes import run_in_processes
from swin_deploy.network.interface import BatchRange, Interface
from swin_deploy.network.judge import wilson_interval
from swin_deploy.report.evaluation_tables import draw_flips
from swin_deploy.run.finished import require_run


@pytest.fixture(scope="module")
def trained(trained_once: Callable[..., Path]) -> Path:
    """A run of the trained network. Tests must not change what the manifest lists."""
    return trained_once(batch=BatchRange(low=1, high=16), targets=("cpu",))


@pytest.fixture(scope="module")
def damaged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its FP32 graph with two classes of the head swapped, in no run."""
    model = onnx.load(trained / "model.onnx")
    names = {t.name: t for t in model.graph.initializer if "head" in t.name}
    assert names
    for tensor in names.values():
        array = numpy_helper.to_array(tensor).copy()
        axis = array.shape.index(10)
        order = [0, 1, 2, 8, 4, 5, 6, 7, 3, 9]
        tensor.CopyFrom(numpy_helper.from_array(array.take(order, axis), tensor.name))
    path = tmp_path_factory.mktemp("elsewhere") / "deeper" / "and" / "deeper" / "damaged.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def request_of(
    trained: Path, damaged: Path, held_out: Path, tmp_path: Path
) -> Callable[..., EvaluateRequest]:
    def make(**changes: Any) -> EvaluateRequest:
        request = EvaluateRequest(
            artifacts=(trained, trained / "model.fp16.onnx", damaged),
            data=held_out,
            variant=TRAINED,
            out=tmp_path / "evaluate.json",
        )
        return replace(request, **changes)

    return make


def evaluate(request: EvaluateRequest, listener: Silent | None = None) -> dict[str, Any]:
    said = listener or Silent()
    return evaluate_candidates(request, said.started, said.note)


@pytest.fixture(scope="module")
def expected(
    trained: Path, damaged: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What one process finds."""
    out = tmp_path_factory.mktemp("expected") / "evaluate.json"
    artifacts = (trained, trained / "model.fp16.onnx", damaged)
    return evaluate(EvaluateRequest(artifacts=artifacts, data=held_out, variant=TRAINED, out=out))


def named(shards: list[Shard]) -> dict[str, Shard]:
    return {f"shard {shard.index}": shard for shard in shards}


def facts(report: dict[str, Any]) -> dict[str, Any]:
    """All but who did the work, where the report is, and what was said on the way."""
    return {k: v for k, v in report.items() if k not in ("work", "report", "notes")}


def test_the_counts_are_those_of_the_network(expected: dict[str, Any]) -> None:
    engine, half, bad = expected["artifacts"]
    assert [row["name"] for row in expected["artifacts"]] == [
        "engine cpu-fp32",
        "model.fp16.onnx",
        "onnxruntime damaged.onnx",
    ]
    assert expected["images"] == 300
    assert engine["top1"] == half["top1"]
    right = engine["top1"]["right"]
    assert 290 <= right < 300  # 98.7 % of all that were held out
    assert engine["top1"]["interval"] == list(wilson_interval(right, 300))
    assert engine["top5"]["right"] >= right
    same, worse = expected["pairs"]
    assert (same["disagreements"], same["p_value"], same["flips"]) == (0, 1.0, [])
    assert worse["p_value"] < 1e-9
    low, _ = worse["interval_points"]
    assert low > 10  # of 20 points that two classes of ten are
    assert bad["top1"]["right"] == (right - worse["only_a_right"] + worse["only_b_right"])
    swapped = {(row["a"], row["b"]) for row in worse["confusion"][:2]}
    assert swapped == {(3, 8), (8, 3)}
    assert len(worse["flips"]) == worse["disagreements"]
    changes = [flip["change"] for flip in worse["flips"]]
    assert changes.count("worse") == worse["only_a_right"]
    first = worse["flips"][0]
    assert first["image"].partition("/")[0] == str(first["label"]) == str(first["a"])
    assert {first["a"], first["b"]} == {3, 8}


def test_the_eager_network_comes_first(
    request_of: Callable[..., EvaluateRequest], expected: dict[str, Any]
) -> None:
    report = evaluate(request_of(eager=True))
    assert report["artifacts"][0]["name"] == "eager PyTorch fp32"
    assert report["artifacts"][0]["top1"] == expected["artifacts"][0]["top1"]
    assert report["artifacts"][1:] == expected["artifacts"]
    assert report["pairs"][0]["disagreements"] == 0


def test_two_processes_find_the_same(
    request_of: Callable[..., EvaluateRequest], expected: dict[str, Any]
) -> None:
    report = evaluate(request_of(workers=2))
    assert facts(report) == facts(expected)
    assert report["work"]["by"] == "processes"
    assert json.loads(Path(report["report"]).read_text()) == report
    assert not journal_path(Path(report["report"])).exists()


def test_a_process_that_is_killed_is_replaced(
    request_of: Callable[..., EvaluateRequest],
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill_a_process(monkeypatch)
    report = evaluate(request_of(workers=2))
    assert facts(report) == facts(expected)
    assert len(report["work"]["lost"]) == 1


class Deadly:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


def test_workers_that_keep_dying_are_given_up(
    request_of: Callable[..., EvaluateRequest], held_out: Path
) -> None:
    field = find_candidates(request_of())
    deadly = replace(field.artifacts[0], runner=Deadly())  # type: ignore[arg-type]
    work = Work(artifacts=(deadly,), folder=held_out, batch=16, classes=10, decoders=1)
    shards = named(cut_shards(find_labelled(held_out, 10).sample, 16))
    said: list[str] = []
    with pytest.raises(ResourceError, match=f"{ATTEMPTS} workers were lost"):
        list(run_in_processes(ShardWorker(work), shards, 1, said.append))
    assert len(said) == ATTEMPTS - 1


def options(request: EvaluateRequest) -> list[str]:
    return [
        *("evaluate", *map(str, request.artifacts), "--data", str(request.data)),
        *("--variant", "swin_pocket", "--out", str(request.out)),
    ]


@pytest.mark.fault(39)
def test_a_call_that_is_killed_goes_on(
    request_of: Callable[..., EvaluateRequest],
    expected: dict[str, Any],
    tmp_path: Path,
) -> None:
    request = request_of()
    killed = run_script(tmp_path, "run_in_processes", "die", *options(request), "--workers", "2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for pid in map(int, killed.stdout.split()):  # workers do not outlive who started them
        if psutil.pid_exists(pid):
            psutil.wait_procs([psutil.Process(pid)], timeout=30)
            assert not psutil.pid_exists(pid)
    assert request.out is not None
    journal = journal_path(request.out)
    header, holder, *shards = journal.read_text().splitlines()
    assert json.loads(header)["digest"]
    assert json.loads(holder).keys() == {"holder"}
    assert len(shards) >= 1
    with journal.open("a") as stream:
        stream.write('{"index": 4, "positions": [25')  # cut off
    listener = Silent()
    report = evaluate(request_of(), listener)
    assert f"shards of an earlier run that are used again: {len(shards)}" in listener.notes
    assert report["work"]["images"] == 300 - 64 * len(shards)
    assert facts(report) == facts(expected)


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
    request_of: Callable[..., EvaluateRequest], tmp_path: Path
) -> None:
    """Each would pass alone; of one artifact both cannot be."""
    request = request_of(limit=70)
    assert request.out is not None
    report = evaluate(request)
    row = ShardResult(0, [*range(64)], [[[1]] * 64] * 3, [])
    with open_journal(request.out, report["identity"], print, fits) as journal:
        journal.add(row)
    with pytest.raises(InputError, match=r"partial has other numbers of classes .*; try: remove"):
        evaluate(request)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"batch": 8}, "settings"), ({"limit": 299}, "images"), ({"eager": True}, "artifacts")],
)
def test_shards_of_another_evaluation_do_not_count(
    change: dict[str, Any], what: str, request_of: Callable[..., EvaluateRequest]
) -> None:
    request = request_of()
    assert request.out is not None
    report = evaluate(request)
    with open_journal(request.out, report["identity"], print, fits) as journal:
        journal.add(ShardResult(0, [0], [[[0]]] * 3, []))
    listener = Silent()
    changed = evaluate(request_of(**change), listener)
    assert any(note.endswith(f"is of another {what}: starting again") for note in listener.notes)
    if "batch" in change:
        assert changed["predictions_sha256"] == report["predictions_sha256"]


@pytest.mark.fault(41)
def test_one_process_at_a_time_writes_a_report(tmp_path: Path) -> None:
    out = tmp_path / "evaluate.json"
    second = open_journal(out, {}, print, fits)
    taken = pytest.raises(BusyError, match=f"in use by process {os.getpid()} on")
    with open_journal(out, {}, print, fits), taken:
        second.__enter__()


def test_ray_with_a_killed_worker_finds_the_same(
    request_of: Callable[..., EvaluateRequest], expected: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    arguments = [*options(request_of()), "--ray", "local", "--workers", "2", "--json"]
    done = run_script(tmp_path, "run_on_ray", "kill_actor", *arguments)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert facts(report) == facts(expected)
    assert report["work"]["by"] == "ray"
    assert report["work"]["workers"] == 2
    assert len(report["work"]["lost"]) == 1
    assert "note: a worker was lost with shard " in done.stderr


def test_ray_that_is_not_installed_is_said(
    request_of: Callable[..., EvaluateRequest],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.run([*options(request_of()), "--ray", "local"]) == 4
    assert "ray is not installed; try: pip install ray" in capsys.readouterr().err


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


def test_pixels_in_and_the_best_classes_out(
    trained: Path, held_out: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    """A graph that says in itself how it normalises: the same top-1, and no top-5."""
    graph, interface = tmp_path / "pixels.onnx", Interface(io="uint8", topk=3)
    apply_interface(trained / "model.onnx", graph, interface, TRAINED.preprocessing, "fp32")
    request = EvaluateRequest(
        artifacts=(graph,), data=held_out, variant=TRAINED, out=tmp_path / "e.json"
    )
    (row,) = evaluate(request)["artifacts"]
    assert row["top1"] == expected["artifacts"][0]["top1"]
    assert row["top5"] is None


def test_float16_in_and_out(
    trained: Path, held_out: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    """Images are rounded to what such a graph takes."""
    graph, interface = tmp_path / "half.onnx", Interface(io="fp16")
    apply_interface(trained / "model.fp16.onnx", graph, interface, TRAINED.preprocessing, "fp16")
    request = EvaluateRequest(
        artifacts=(graph,), data=held_out, variant=TRAINED, out=tmp_path / "e.json"
    )
    (row,) = evaluate(request)["artifacts"]
    assert row["top1"] == expected["artifacts"][1]["top1"]


def test_the_report_of_a_run_lies_in_it(trained: Path, held_out: Path) -> None:
    report = evaluate(EvaluateRequest(artifacts=(trained,), data=held_out, limit=20))
    assert report["report"] == str(trained / "evaluate.json")
    assert json.loads((trained / "evaluate.json").read_text()) == report


def test_unreadable_photos_are_left_out_until_they_are_many(
    trained: Path, held_out: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(held_out, data)
    photos = sorted(data.glob("*/*.png"))
    for photo in photos[::30]:  # one a class, 10 of 300
        photo.write_bytes(b"no photo")
    request = EvaluateRequest(artifacts=(trained,), data=data, out=tmp_path / "evaluate.json")
    report = evaluate(request)
    assert (report["images"], len(report["left_out"])) == (290, 10)
    assert report["left_out"][0]["image"] == photos[0].relative_to(data).as_posix()
    assert "10 photos cannot be read, and are left out" in report["notes"]
    for photo in photos[1::30]:
        photo.write_bytes(b"no photo either")
    with pytest.raises(InputError, match="of 300 photos cannot be read"):
        evaluate(request)


@pytest.mark.fault(17)
def test_files_that_change_on_the_way_are_refused(
    request_of: Callable[..., EvaluateRequest], held_out: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(held_out, data)
    request = request_of(data=data)
    field = find_candidates(request)
    (shard, *_) = cut_shards(find_labelled(data, 10).sample, 16)
    work = Work(artifacts=field.artifacts[:1], folder=data, batch=16, classes=10, decoders=1)
    photo = data / shard.images[20].name
    Image.new("L", (28, 28)).save(photo)
    with (
        ShardWorker(work) as worker,
        pytest.raises(InputError, match="changed since it was listed"),
    ):
        worker.do(shard)
    photo.unlink()
    with ShardWorker(work) as worker, pytest.raises(InputError, match="is not there on"):
        worker.do(shard)
    files = tuple(replace(file, sha256="0" * 64) for file in field.artifacts[0].files)
    wrong = replace(field.artifacts[0], files=files)
    with (
        pytest.raises(UnsafeError, match="not 000000000000"),
        ShardWorker(replace(work, artifacts=(wrong,))),
    ):
        pass


def test_a_worker_that_opens_after_a_publication_runs_what_was_named(
    trained: Path, held_out: Path, tmp_path: Path
) -> None:
    """As one that takes the place of a lost one: the bytes that were replaced are still there."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    engine = run / "engines" / "cpu-fp32.onnx"
    field = find_candidates(EvaluateRequest(artifacts=(run,), data=held_out, eager=True))
    work = Work(artifacts=field.artifacts, folder=held_out, batch=16, classes=10, decoders=1)
    shard = cut_shards(find_labelled(held_out, 10).sample, 16)[0]
    with ShardWorker(work) as worker:
        expected = worker.do(shard)
    for path in (engine, run / "weights.safetensors"):
        kept = require_run(run).file(path.relative_to(run).as_posix()).also[-1]
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
        path.write_bytes(b"of the next export")
    with ShardWorker(work) as worker:
        assert worker.do(shard) == expected
    shutil.rmtree(kept.parent)
    with pytest.raises(UnsafeError, match=r"has sha256 \w{12}, not"), ShardWorker(work):
        pass


def test_the_flips_are_drawn(expected: dict[str, Any], tmp_path: Path) -> None:
    (path,) = draw_flips(expected, tmp_path / "flips")
    assert path.name == "onnxruntime-damaged.onnx.png"
    flips = expected["pairs"][1]["flips"]
    rows = -(-min(len(flips), 60) // 6)
    with Image.open(path) as sheet:
        assert sheet.size[0] == 14 + 6 * (168 + 14)
        assert sheet.size[1] > rows * 160
        frames = {sheet.convert("RGB").getpixel((15, 14 + 5 * 17 + 1))}
    assert frames == {(198, 40, 40)}  # the first is worse


def test_the_command_line(
    trained: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *("evaluate", str(trained), str(trained / "model.fp16.onnx"), "--data", str(held_out)),
        *("--limit", "40", "--out", str(tmp_path / "e.json"), "--flips", str(tmp_path / "flips")),
    ]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr().out
    assert "40 images of" in printed
    assert "McNemar p" in printed
    assert "top-1 lost" in printed
    assert f"report: {tmp_path / 'e.json'}" in printed
    assert cli.run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 40


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--data", "nowhere"], 3, "nowhere does not exist"),
        (["--workers", "0"], 2, "workers = 0 is not from 1 to 1024"),
        (["--batch", "0"], 2, "batch = 0 is not from 1 to 4096"),
        (["--sorted-folders", "--class-map", "x"], 2, "both say which folder is which class"),
        (["--class-map", "nowhere.txt"], 3, "nowhere.txt does not exist"),
        (["--variant", "swin_pocket"], 2, "all artifacts belong to runs"),
        (["--limit", "0"], 2, "on 0 images"),
    ],
)
def test_bad_requests(
    change: list[str],
    code: int,
    message: str,
    trained: Path,
    held_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["evaluate", str(trained), "--data", str(held_out), "--out", str(tmp_path / "e")]
    assert cli.run([*arguments, *change]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_artifacts_that_cannot_be_compared(
    trained: Path, damaged: Path, held_out: Path, tmp_path: Path
) -> None:
    def fails(*artifacts: Path, match: str, **more: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            evaluate(EvaluateRequest(artifacts=artifacts, data=held_out, **more))

    seven = replace(TRAINED, config=replace(TRAINED.config, num_classes=7))
    fails(trained, damaged, match="not have the same classes: 10 and 7", variant=seven)
    out = tmp_path / "e.json"
    fewer = replace(TRAINED, config=replace(TRAINED.config, num_classes=11))
    fails(damaged, match="has 10 classes, not 11", variant=fewer, out=out)
    fails(
        trained,
        trained / "engines" / "cpu-fp32.onnx",
        match="cpu-fp32.onnx is named more than once",
    )
    fails(damaged, match="belongs to no run")
    fails(damaged, match="no eager network", eager=True, variant=TRAINED)
    fails(damaged, match="--out FILE for the report", variant=TRAINED)
    fails(match="no artifact was named")


class LostError(Exception):
    """An actor that died."""


class FakeRay:
    """A cluster in this process, whose actors die whenever they get shard 1."""

    exceptions = SimpleNamespace(
        RayActorError=LostError,
        WorkerCrashedError=LostError,
        NodeDiedError=LostError,
        OutOfMemoryError=LostError,
    )

    def __init__(self) -> None:
        self.killed = 0

    def remote(self, **resources: int) -> Callable[[type], Any]:
        def call(method: Callable[[Any], Any]) -> Any:
            return SimpleNamespace(remote=lambda argument: partial(self._answer, method, argument))

        def start(actor: WorkerActor) -> Any:
            return SimpleNamespace(open=call(actor.open), do=call(actor.do))

        return lambda kind: SimpleNamespace(remote=lambda worker: start(kind(pickle.loads(worker))))

    @staticmethod
    def _answer(method: Callable[[Any], Any], argument: Any) -> Any:
        if isinstance(argument, Shard) and argument.index == 1:
            raise LostError
        return method(argument)

    def put(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def wait(self, running: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        return running[:1], running[1:]

    def get(self, call: Callable[[], Any]) -> Any:
        return call()

    def kill(self, actor: Any) -> None:
        self.killed += 1


def test_a_shard_that_takes_every_actor_with_it_is_given_up(
    request_of: Callable[..., EvaluateRequest], held_out: Path
) -> None:
    field, fake = find_candidates(request_of()), FakeRay()
    work = Work(artifacts=field.artifacts[:1], folder=held_out, batch=16, classes=10, decoders=1)
    worker, shards = ShardWorker(work), named(cut_shards(find_labelled(held_out, 10).sample, 16))
    said: list[str] = []
    with pytest.raises(ResourceError, match=f"{ATTEMPTS} workers were lost with shard 1"):
        list(run_on_ray(fake, worker, shards, 2, {"num_cpus": 1}, said.append))
    assert said == ["a worker was lost with shard 1; another takes its place"] * (ATTEMPTS - 1)
    assert fake.killed == ATTEMPTS - 1
    del shards["shard 1"]
    found = dict(run_on_ray(fake, worker, shards, 2, {"num_cpus": 1}, said.append))
    assert sorted(found) == ["shard 0", "shard 2", "shard 3", "shard 4"]
    assert all(found[name].index == shard.index for name, shard in shards.items())


class HangingRay(FakeRay):
    """Shard 1 is never done by the first actor that has it, until that one is killed."""

    hangs = True

    @staticmethod
    def _answer(method: Callable[[Any], Any], argument: Any) -> Any:
        return method(argument)

    def wait(self, running: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        hung = [call for call in running if self.hangs and _is_of_shard_1(call)]
        return [call for call in running if call not in hung][:1], hung

    def get(self, call: Any) -> Any:
        if self.killed and self.hangs is False and _is_of_shard_1(call):
            self.hangs = None  # type: ignore[assignment]
            raise LostError
        return call()

    def kill(self, actor: Any) -> None:
        super().kill(actor)
        if self.hangs:
            self.hangs = False


def _is_of_shard_1(call: Any) -> bool:
    return isinstance(call.args[1], Shard) and call.args[1].index == 1


def test_a_shard_that_an_actor_never_does_goes_to_another(
    request_of: Callable[..., EvaluateRequest], held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swin_deploy.measure.workers.base.ITEM_S", 0.05)
    monkeypatch.setattr("swin_deploy.measure.workers.base.SLOWER", 1)
    field, said = find_candidates(request_of()), list[str]()
    work = Work(artifacts=field.artifacts[:1], folder=held_out, batch=16, classes=10, decoders=1)
    shards = named(cut_shards(find_labelled(held_out, 10).sample, 16))
    found = dict(
        run_on_ray(HangingRay(), ShardWorker(work), shards, 2, {"num_cpus": 1}, said.append)
    )
    assert found.keys() == shards.keys()
    assert said[0].startswith("a worker was not done with shard 1 after ")
    assert said[1:] == ["a worker was lost with shard 1; another takes its place"]


def test_a_machine_with_other_software_is_refused(held_out: Path) -> None:
    work = Work(artifacts=(), folder=held_out, batch=16, classes=10, decoders=1)
    worker = ShardWorker(work)
    error = WorkerActor(worker).open("another digest")
    assert isinstance(error, EnvironmentMissingError)
    assert "other versions of the runtimes" in str(error)
    assert WorkerActor(worker).open(software()) is None


def test_no_machine_has_room() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 5.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 2.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    ray = SimpleNamespace(nodes=lambda: nodes)
    assert [room_for(ray, threads, False) for threads in (1, 2, 3)] == [7, 3, 1]
    assert room_for(ray, 1, True) == 1
    with pytest.raises(EnvironmentMissingError, match="no machine of the cluster has 6 cores"):
        room_for(ray, 6, False)


def test_nobody_listens(
    request_of: Callable[..., EvaluateRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert cli.run([*options(request_of()), "--ray", f"127.0.0.1:{port}"]) == 4
    assert f"no Ray cluster at 127.0.0.1:{port}" in capsys.readouterr().err
