"""``swin-deploy evaluate``: the counts are those of the network, and damage shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import TRAINED
from evaluations import evaluate
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, InputError, UnsafeError
from swin_deploy.data.labelled import find_labelled
from swin_deploy.graph.interface import apply_interface
from swin_deploy.measure.evaluate.candidates import find_candidates
from swin_deploy.measure.evaluate.report import EvaluateRequest
from swin_deploy.measure.evaluate.shards import cut_shards
from swin_deploy.measure.evaluate.worker import ShardWorker, Work
from swin_deploy.network.interface import Interface
from swin_deploy.network.judge import wilson_interval
from swin_deploy.report.evaluation_tables import draw_flips
from swin_deploy.run.finished import require_run


def test_the_counts_are_those_of_the_network(expected_evaluation: dict[str, Any]) -> None:
    engine, half, bad = expected_evaluation["artifacts"]
    assert [row["name"] for row in expected_evaluation["artifacts"]] == [
        "engine cpu-fp32",
        "model.fp16.onnx",
        "onnxruntime damaged.onnx",
    ]
    assert expected_evaluation["images"] == 300
    assert engine["top1"] == half["top1"]
    right = engine["top1"]["right"]
    assert 290 <= right < 300  # 98.7 % of all that were held out
    assert engine["top1"]["interval"] == list(wilson_interval(right, 300))
    assert engine["top5"]["right"] >= right
    same, worse = expected_evaluation["pairs"]
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
    evaluation_of: Callable[..., EvaluateRequest], expected_evaluation: dict[str, Any]
) -> None:
    report = evaluate(evaluation_of(eager=True))
    assert report["artifacts"][0]["name"] == "eager PyTorch fp32"
    assert report["artifacts"][0]["top1"] == expected_evaluation["artifacts"][0]["top1"]
    assert report["artifacts"][1:] == expected_evaluation["artifacts"]
    assert report["pairs"][0]["disagreements"] == 0


def test_pixels_in_and_the_best_classes_out(
    trained_run: Path, held_out: Path, tmp_path: Path, expected_evaluation: dict[str, Any]
) -> None:
    """A graph that says in itself how it normalises: the same top-1, and no top-5."""
    graph, interface = tmp_path / "pixels.onnx", Interface(io="uint8", topk=3)
    apply_interface(trained_run / "model.onnx", graph, interface, TRAINED.preprocessing, "fp32")
    request = EvaluateRequest(
        artifacts=(graph,), data=held_out, variant=TRAINED, out=tmp_path / "e.json"
    )
    (row,) = evaluate(request)["artifacts"]
    assert row["top1"] == expected_evaluation["artifacts"][0]["top1"]
    assert row["top5"] is None


def test_float16_in_and_out(
    trained_run: Path, held_out: Path, tmp_path: Path, expected_evaluation: dict[str, Any]
) -> None:
    """Images are rounded to what such a graph takes."""
    graph, interface = tmp_path / "half.onnx", Interface(io="fp16")
    apply_interface(
        trained_run / "model.fp16.onnx", graph, interface, TRAINED.preprocessing, "fp16"
    )
    request = EvaluateRequest(
        artifacts=(graph,), data=held_out, variant=TRAINED, out=tmp_path / "e.json"
    )
    (row,) = evaluate(request)["artifacts"]
    assert row["top1"] == expected_evaluation["artifacts"][1]["top1"]


def test_the_report_of_a_run_lies_in_it(trained_run: Path, held_out: Path) -> None:
    report = evaluate(EvaluateRequest(artifacts=(trained_run,), data=held_out, limit=20))
    assert report["report"] == str(trained_run / "evaluate.json")
    assert json.loads((trained_run / "evaluate.json").read_text()) == report


def test_unreadable_photos_are_left_out_until_they_are_many(
    trained_run: Path, held_out: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(held_out, data)
    photos = sorted(data.glob("*/*.png"))
    for photo in photos[::30]:  # one a class, 10 of 300
        photo.write_bytes(b"no photo")
    request = EvaluateRequest(artifacts=(trained_run,), data=data, out=tmp_path / "evaluate.json")
    report = evaluate(request)
    assert (report["images"], len(report["left_out"])) == (290, 10)
    assert report["left_out"][0]["image"] == photos[0].relative_to(data).as_posix()
    assert "10 photos cannot be read, and are left out" in report["notes"]
    for photo in photos[1::30]:
        photo.write_bytes(b"no photo either")
    with pytest.raises(InputError, match="of 300 photos"):
        evaluate(request)


@pytest.mark.fault(17)
def test_files_that_change_on_the_way_are_refused(
    evaluation_of: Callable[..., EvaluateRequest], held_out: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(held_out, data)
    request = evaluation_of(data=data)
    field = find_candidates(request)
    (shard, *_) = cut_shards(find_labelled(data, 10).sample, 16)
    work = Work(artifacts=field.artifacts[:1], folder=data, batch=16, classes=10, decoders=1)
    photo = data / shard.images[20].name
    Image.new("L", (28, 28)).save(photo)
    with (
        ShardWorker(work) as worker,
        pytest.raises(InputError, match="changed since"),
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
    trained_run: Path, held_out: Path, tmp_path: Path
) -> None:
    """As one that takes the place of a lost one: the bytes that were replaced are still there."""
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
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


def test_the_flips_are_drawn(expected_evaluation: dict[str, Any], tmp_path: Path) -> None:
    (path,) = draw_flips(expected_evaluation, tmp_path / "flips")
    assert path.name == "onnxruntime-damaged.onnx.png"
    flips = expected_evaluation["pairs"][1]["flips"]
    rows = -(-min(len(flips), 60) // 6)
    with Image.open(path) as sheet:
        assert sheet.size[0] == 14 + 6 * (168 + 14)
        assert sheet.size[1] > rows * 160
        frames = {sheet.convert("RGB").getpixel((15, 14 + 5 * 17 + 1))}
    assert frames == {(198, 40, 40)}  # the first is worse


def test_the_command_line(
    trained_run: Path, held_out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        *(
            "evaluate",
            str(trained_run),
            str(trained_run / "model.fp16.onnx"),
            "--data",
            str(held_out),
        ),
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
    trained_run: Path,
    held_out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "evaluate",
        str(trained_run),
        "--data",
        str(held_out),
        "--out",
        str(tmp_path / "e"),
    ]
    assert cli.run([*arguments, *change]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_artifacts_that_cannot_be_compared(
    trained_run: Path, swapped_graph: Path, held_out: Path, tmp_path: Path
) -> None:
    def fails(*artifacts: Path, match: str, **more: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            evaluate(EvaluateRequest(artifacts=artifacts, data=held_out, **more))

    seven = replace(TRAINED, config=replace(TRAINED.config, num_classes=7))
    fails(trained_run, swapped_graph, match="10 and 7", variant=seven)
    out = tmp_path / "e.json"
    fewer = replace(TRAINED, config=replace(TRAINED.config, num_classes=11))
    fails(swapped_graph, match="10 classes, not 11", variant=fewer, out=out)
    fails(
        trained_run,
        trained_run / "engines" / "cpu-fp32.onnx",
        match="cpu-fp32.onnx is named",
    )
    fails(swapped_graph, match="belongs to no run")
    fails(swapped_graph, match="no eager network", eager=True, variant=TRAINED)
    fails(swapped_graph, match="--out FILE", variant=TRAINED)
    fails(match="no artifact was named")
