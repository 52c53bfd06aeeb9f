"""``predict``: tables, pictures, lists of photos, and photos that cannot be read."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import DIGITS
from echoes import digit_photos
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError
from swin_deploy.network.interface import Interface
from swin_deploy.pipeline.run import RunResult
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.annotate import annotate
from swin_deploy.runtime.formats import format_results
from swin_deploy.runtime.images import to_prediction
from swin_deploy.runtime.predict import Guess, PhotoResult, expand_sources, predict_photos


def test_every_interface_becomes_a_prediction() -> None:
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], dtype=np.float32)
    every = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    best = {"scores": logits[:, [1, 2]], "classes": np.array([[1, 2], [0, 1]])}
    plain = to_prediction({"logits": logits}, Interface(), (), (None, None), 5)
    soft = to_prediction({"probabilities": every}, Interface(activation="softmax"), "abc", "xy", 2)
    top = to_prediction(best, Interface(topk=2), (), (None, None), 1)
    assert plain.classes.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert plain.labels[0] == ("1", "2", "0")
    np.testing.assert_allclose(plain.scores.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(plain.logits, logits)
    assert soft.labels == (("b", "c"), ("a", "b"))
    np.testing.assert_allclose(soft.scores, plain.scores[:, :2], rtol=1e-6)
    assert soft.logits is None
    assert soft.probabilities
    assert top.scores.tolist() == [[2.0], [0.0]]
    assert not top.probabilities


def test_what_is_no_built_bundle_says_what_to_do(
    tmp_path: Path, digits_archive: Path, digits_run: Path
) -> None:
    for path, hint in (
        (digits_archive, "python3 -m zipfile -e"),
        (digits_run, "swin-deploy bundle"),
        (tmp_path, "unpack it again|unpack the archive again"),
        (tmp_path / "no", "the folder of an unpacked bundle"),
    ):
        with pytest.raises(InputError, match=hint):
            SwinEngine.load(path)
    subprocess.run([sys.executable, "-m", "zipfile", "-e", digits_archive, tmp_path], check=True)
    with pytest.raises(InputError, match=r"python3 swin\.pyz build"):
        SwinEngine.load(tmp_path)


def test_predict_prints_tables_csv_and_lines(
    digits_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = digit_photos(photos)[:3]
    for path in files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    folder, names = str(tmp_path), sorted(str(tmp_path / path.name) for path in files)
    bundle = str(digits_folder)
    assert cli.run(["predict", bundle, folder, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == names
    assert [len(line.split()) for line in lines[1:3]] == [3, 3]
    assert cli.run(["predict", bundle, *names, "--top", "2", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "photo,rank,class,label,score"
    assert len(lines) == 1 + 2 * 3
    assert lines[1].startswith(f"{names[0]},1,")
    assert cli.run(["predict", bundle, folder, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["photo"] for row in rows] == names
    assert rows[0]["best"][0]["label"] == DIGITS[int(Path(names[0]).stem[-1])]
    assert len(rows[0]["best"]) == 5


def test_a_list_on_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b c.jpg").touch()  # of the others the run itself says that they are missing
    listed = io.StringIO("a.jpg\r\n\nb c.jpg\n")
    assert expand_sources(["x.png", "-"], listed) == [Path("x.png"), Path("a.jpg"), Path("b c.jpg")]
    with pytest.raises(InputError, match="there are no photos"):
        expand_sources(["-"], io.StringIO(""))


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, True), (25, True)])
def test_photos_that_cannot_be_read_are_counted(
    digits_engine: SwinEngine, photos: Path, tmp_path: Path, bad: int, refused: bool
) -> None:
    good = digit_photos(photos)[0].read_bytes()
    for index in range(25):
        (tmp_path / f"{index:02}.png").write_bytes(b"junk" if index < bad else good)
    notes: list[str] = []
    results = predict_photos(digits_engine, sorted(tmp_path.iterdir()), 1, notes.append)
    read = [next(results) for _ in range(25 - bad)]
    assert [result.photo.name for result in read] == [f"{n:02}.png" for n in range(bad, 25)]
    if refused:
        with pytest.raises(InputError, match=f"{bad} of 25"):
            next(results)
    else:
        assert list(results) == []
    assert len(notes) == bad
    assert "00.png cannot be read as a photo" in notes[0]


def test_pictures_have_their_classes_below_them(
    digits_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, out = str(digit_photos(photos)[7]), tmp_path / "pictures"
    command = ["predict", str(digits_folder), photo, photo, "--annotate"]
    assert cli.run([*command, str(out)]) == 0
    name = f"{Path(photo).name}.labels"
    assert sorted(p.name for p in out.iterdir()) == [f"{name}-2.png", f"{name}.png"]
    with Image.open(out / f"{name}.png") as picture:
        width, height = picture.size
        bars = np.asarray(picture)[width:, :, :]  # the photo itself is square
    assert height > width >= 480
    assert (bars == (37, 99, 205)).all(axis=-1).any()  # the bar of the best class
    capsys.readouterr()
    assert cli.run([*command, str(digits_folder / "pictures")]) == 2
    assert "--annotate with a folder elsewhere" in capsys.readouterr().err
    assert not (digits_folder / "pictures").exists()


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (4000, 3000)])
@pytest.mark.parametrize("probabilities", [True, False])
def test_pictures_of_any_shape_can_be_read(
    tmp_path: Path, size: tuple[int, int], probabilities: bool
) -> None:
    Image.new("RGB", size, "green").save(tmp_path / "x.png")
    best = (Guess(1, "a name that is far too long for the place that it has" * 3, 0.7),)
    best += (Guess(2, "\u732b \udcff", -3.0),) * (not probabilities)
    path = annotate(PhotoResult(tmp_path / "x.png", best, probabilities), tmp_path, set())
    with Image.open(path) as picture:
        assert 480 <= picture.width <= 1280


@pytest.mark.fault(43)
def test_names_of_any_bytes_are_printed() -> None:
    photo = Path("new\nline\udcff,\x1b[31m.jpg")
    result = PhotoResult(photo, (Guess(1, 'a "b", c', 0.5),), True)
    for form in ("table", "csv", "jsonl"):
        text = "\n".join(format_results([result], form))  # type: ignore[arg-type]
        text.encode()
    assert "\x1b" not in "\n".join(format_results([result], "table"))
    assert len(list(format_results([result], "table"))) == 2


def test_a_run_of_random_weights_predicts_when_it_was_allowed(
    pocket_run: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bundle", str(pocket_run.path), "--target", "cpu", "--out", str(tmp_path / "x.zip")]
    assert cli.run(command) == 2
    assert "are random (seed 0); try: export with --weights" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
    assert cli.run([*command, "--allow-random-weights", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["precisions"] == ["fp32"]
