"""Bundles: the same bytes every time, and the whole way on a device that has next to nothing."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import edit_record, engine_of, files_of, flip, rewrite, swin_pyz, unpack
from conftest import DIGITS, pythons_3_10
from manifests import edit_manifest
from small_runs import make_run
from swin_deploy.bundle.archive import make_zipapp, runtime_closure, write_archive
from swin_deploy.bundle.make import BundleRequest, make_bundle
from swin_deploy.bundle.source import extreme_floor_of, floors_of
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    BusyError,
    ConfigError,
    EnvironmentMissingError,
    FileAccessError,
    UnsafeError,
    VerificationError,
)
from swin_deploy.core.files import sha256
from swin_deploy.core.own_files import lock_own
from swin_deploy.data.samples import find_sample, read_images
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.pipeline.run import RunResult
from swin_deploy.run.finished import require_run
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.build import build_bundle, compare_engine
from swin_deploy.runtime.record import require_engine
from swin_deploy.runtime.trust import EXTREME, open_bundle


def quiet(text: str) -> None:
    del text


@pytest.fixture
def folder(digits_archive: Path, tmp_path: Path) -> Path:
    """Unpacked, nothing built."""
    return unpack(digits_archive, tmp_path / "a bundle")


@pytest.fixture
def built(digits_folder: Path, tmp_path: Path) -> Path:
    """Unpacked and built."""
    return Path(shutil.copytree(digits_folder, tmp_path / "built"))


def test_the_whole_way_on_a_bare_device(
    folder: Path, photos: Path, device_python: Path, digits_folder: Path
) -> None:
    """Build, bench and predict with numpy, Pillow and ONNX Runtime; the classes are the same."""
    photo = str(folder / "reference" / "photo.png")
    done = swin_pyz(device_python, folder, "predict", photo)
    assert done.returncode == 3
    assert "nothing was built" in done.stderr
    done = swin_pyz(device_python, folder, "build")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  ok") == 9  # 1 to 4 images, twice each, and extremes
    assert f"published {folder}" in done.stdout
    done = swin_pyz(device_python, folder, "bench", "--seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    timing = json.loads(done.stdout)
    assert timing["engine"] == "swin_pocket cpu-fp32"
    assert timing["batch"] == 4
    files = sorted(map(str, photos.glob("mnist_*.png")))
    done = swin_pyz(device_python, folder, "predict", *files, "--format", "jsonl", "--top", "1")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["best"][0]["label"] for line in done.stdout.splitlines()]
    with SwinEngine.load(digits_folder, threads=1) as engine:
        expected = [row[0] for row in engine(files, k=1).labels]
    assert found == expected
    assert (
        sum(name == DIGITS[int(Path(p).stem[-1])] for name, p in zip(found, files, strict=True))
        > 18
    )
    done = swin_pyz(device_python, folder, "info", "--json")
    assert json.loads(done.stdout)["built"].keys() == {"fp32"}
    assert "Traceback" not in done.stderr


def test_the_bare_device_has_python_3_10(device_python: Path) -> None:
    asked = [device_python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not pythons_3_10():
        pytest.skip(f"no Python 3.10 on the PATH or of pyenv: the device had Python {version}")
    assert version == "3.10"


def test_help_and_usage_of_the_program(folder: Path) -> None:
    done = swin_pyz(sys.executable, folder, "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("build", "bench", "predict", "info"))
    for arguments in (
        (),
        ("bild",),
        ("bench", "--batch", "many"),
        ("build", "--precision", "fp16"),
    ):
        done = swin_pyz(sys.executable, folder, *arguments)
        assert done.returncode == 2
        assert re.fullmatch(r"error\[E_(USAGE|CONFIG)\]: .*; try: .*\n", done.stderr)
    done = swin_pyz(sys.executable, folder, "build", "--precision", "fp16", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "E_CONFIG"


def test_the_program_holds_just_what_it_imports() -> None:
    with zipfile.ZipFile(io.BytesIO(make_zipapp())) as program:
        names = set(program.namelist())
        assert {ast.parse(program.read(name)) is not None for name in names} == {True}
    modules = {name.removesuffix(".py").removesuffix("/__init__") for name in names}
    expected = {name.replace(".", "/") for name in runtime_closure().modules}
    assert modules == expected | {"__main__"}
    assert not any(part in modules for part in ("swin_deploy/model", "swin_deploy/cli"))


def test_the_same_run_gives_the_same_bytes(
    digits_run: Path, digits_archive: Path, tmp_path: Path
) -> None:
    request = BundleRequest(
        run=digits_run, target="cpu", precisions=("fp32",), out=tmp_path / "again.zip"
    )
    again = make_bundle(request, quiet)
    assert again.path.read_bytes() == digits_archive.read_bytes()
    assert again.sha256 == sha256(digits_archive)
    with zipfile.ZipFile(digits_archive) as archive:
        entries = archive.infolist()
        facts = json.loads(archive.read("bundle.json"))
    assert [e.filename for e in entries] == sorted(again.files)
    assert {e.filename for e in entries} == facts["files"].keys() | {"bundle.json"}
    assert {(e.date_time, e.external_attr, e.compress_type) for e in entries} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644 << 16, zipfile.ZIP_STORED)
    }
    assert facts["graphs"]["fp32"]["floors_db"] == {"logits": FLOORS_DB["fp32"]}
    assert str(digits_run) not in json.dumps(facts)


def test_an_archive_that_exists_is_not_overwritten(
    digits_run: Path, digits_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digits_archive.read_bytes()
    assert cli.run(["bundle", str(digits_run), "--target", "cpu", "--precision", "fp32"]) == 9
    assert f"{digits_archive} exists" in capsys.readouterr().err
    assert digits_archive.read_bytes() == before
    (tmp_path / "x.zip").symlink_to("nowhere")
    with pytest.raises(FileAccessError):
        write_archive(tmp_path / "x.zip", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("swin_deploy.bundle.archive._write", write)
    with pytest.raises(OSError, match=r"No space left on device .*x\.zip"):
        write_archive(tmp_path / "x.zip", {"a": b"2"})
    assert not list(tmp_path.iterdir())


def test_what_comes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "x.zip"
    monkeypatch.setattr(
        "swin_deploy.bundle.archive.require_new", lambda path: path.write_bytes(b"1")
    )
    with pytest.raises(FileAccessError, match="exists"):
        write_archive(final, {"a": b"2"})
    assert final.read_bytes() == b"1"


def test_an_archive_is_written_where_files_have_no_second_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT; and there, too, nothing is replaced that came meanwhile."""
    write_archive(tmp_path / "usual.zip", {"a": b"2"})

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("swin_deploy.bundle.archive.os.link", refuse)
    write_archive(tmp_path / "x.zip", {"a": b"2"})
    assert (tmp_path / "x.zip").read_bytes() == (tmp_path / "usual.zip").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "x.zip").unlink()
    test_what_comes_meanwhile_is_not_overwritten(tmp_path, monkeypatch)


def test_graphs_that_the_run_lacks_are_named(digits_run: Path) -> None:
    with pytest.raises(ConfigError, match=r"no graph in fp16.* for target rtx"):
        make_bundle(BundleRequest(run=digits_run, target="rtx", precisions=("fp16",)), quiet)
    with pytest.raises(ConfigError, match=r"for target cpu; try: --precision fp32,int8"):
        make_bundle(BundleRequest(run=digits_run, target="cpu", precisions=("fp16",)), quiet)
    with pytest.raises(ConfigError, match="unknown target 'jetson'; try: jetson-"):
        make_bundle(BundleRequest(run=digits_run, target="jetson"), quiet)


def test_a_graph_that_the_device_cannot_parse_is_not_shipped(
    digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "cpu", replace(TARGETS["cpu"], opset=17))
    with pytest.raises(EnvironmentMissingError, match=r"of opset 20, target cpu takes up to 17"):
        make_bundle(BundleRequest(run=digits_run, target="cpu"), quiet)


def test_a_changed_run_is_not_shipped(digits_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "run"))
    flip(run / "model.onnx")
    with pytest.raises(UnsafeError, match=r"model\.onnx was changed"):
        make_bundle(BundleRequest(run=run, target="cpu", precisions=("fp32",)), quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_int8_is_proved_on_the_images_of_its_calibration(
    digits_run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are the ones that the export used, by their hashes, or nothing is shipped."""
    out = tmp_path / "x.zip"
    request = BundleRequest(run=digits_run, target="cpu", out=out)
    with pytest.raises(ConfigError, match="--calibration with those of the export"):
        make_bundle(request, quiet)
    others = tmp_path / "others"
    shutil.copytree(photos, others)
    recorded = json.loads((digits_run / "calibration.json").read_text())["images"]
    flip(others / recorded[3]["name"])
    command = ["bundle", str(digits_run), "--target", "cpu", "--out", str(out), "--calibration"]
    assert cli.run([*command, str(others)]) == 8
    assert cli.run([*command, str(photos)]) == 0
    assert "in fp32, int8" in capsys.readouterr().out
    folder = unpack(out, tmp_path / "unpacked")
    shipped = open_bundle(folder)
    assert shipped.graphs["int8"].reference == "calibration"
    images = np.load(folder / "reference" / "calibration.npy", allow_pickle=False)
    sample = find_sample(photos, "calibration", 20).spread(8)
    read = read_images(sample, shipped.image_size, shipped.preprocessing)
    np.testing.assert_array_equal(images, np.stack([image for _, image in read]))
    fp32, int8 = build_bundle(shipped, ["fp32", "int8"], quiet)
    floors = {(row.inputs == "extremes", row.floor_db) for row in int8.verification.comparisons}
    assert floors == {(False, FLOORS_DB["int8"]), (True, None)}
    assert fp32.path.is_file()  # still: each precision has its folder
    for precision in ("fp32", "int8"):
        with SwinEngine.load(folder, precision, threads=1) as engine:
            assert engine.precision == precision
    with SwinEngine.load(folder, threads=1) as engine:
        assert engine.precision == "fp32"


def test_a_damaged_reference_publishes_nothing(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the compiler made another network of the graph; the engine of before stays whole."""
    outputs = built / "reference" / "noise.logits.npy"
    logits = np.load(outputs)
    logits[2] = logits[2, ::-1]
    np.save(outputs, logits)
    engines = files_of(built / "engines")
    done = swin_pyz(sys.executable, built, "build")
    assert done.returncode == 8  # the hash says it first
    rewrite(built, lambda facts: None)
    done = swin_pyz(sys.executable, built, "build")
    assert done.returncode == 5, done.stderr
    assert "FAILED: SQNR" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error[E_VERIFY]: engine cpu-fp32 disagrees with eager fp32")
    assert last.endswith("nothing was published")
    assert done.stdout == ""
    assert files_of(built / "engines") == engines


def test_an_engine_that_mixes_up_its_batch_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong only where a call has more than one image, which a check of single ones would miss."""
    from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
    from swin_deploy.runtime import build as check

    run = OnnxRuntimeRunner.run

    def mixed(self: OnnxRuntimeRunner, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = run(self, images)
        return {name: np.roll(array, len(array) // 2, axis=0) for name, array in outputs.items()}

    shipped = open_bundle(folder)
    rows = check.compare_engine(shipped, "fp32", folder / "model.onnx", (1, 3, 4))
    assert all(rows)
    monkeypatch.setattr(OnnxRuntimeRunner, "run", mixed)
    rows = check.compare_engine(shipped, "fp32", folder / "model.onnx", (1, 3, 4))
    assert {row.inputs for row in rows if not row} == {"noise x3", "noise x4", "extremes"}


def test_logits_are_held_to_their_own_floor_where_a_run_gives_the_best_classes(
    digits_folder: Path, tmp_path: Path
) -> None:
    def best_class(manifest: dict[str, Any]) -> None:
        manifest["interface"]["topk"] = 1
        held = manifest["stages"]["verify"]["details"]
        held["fp32_floors_db"] = {"scores": 62.0, "logits": 105.0, "stage 1": 70.0}
        held["fp32_extreme_floors_db"] = {"scores": 64.0, "logits": 103.0, "stage 1": 61.0}

    make_run(tmp_path)
    edit_manifest(tmp_path, best_class)
    run, cpu = require_run(tmp_path), TARGETS["cpu"]
    assert floors_of(run, cpu, "fp32") == {"scores": 62, "classes": 110, "logits": 105}
    assert extreme_floor_of(run, cpu, "fp32") == 64
    assert extreme_floor_of(run, cpu, "fp16") == 30
    shipped = open_bundle(digits_folder)
    for floors, expected in (({"scores": 62.0, "logits": 105.0}, 105), ({"scores": 62.0}, 110)):
        graph = replace(shipped.graphs["fp32"], floors_db=floors)
        rows = compare_engine(
            replace(shipped, graphs={"fp32": graph}), "fp32", digits_folder / graph.file, (1,)
        )
        assert {row.floor_db for row in rows if row.inputs != EXTREME} == {expected}


def test_the_floors_are_those_of_the_bundle(folder: Path) -> None:
    def demand(facts: dict) -> None:  # type: ignore[type-arg]
        facts["graphs"]["fp32"]["floors_db"]["logits"] = 200.0

    rewrite(folder, demand)
    with pytest.raises(VerificationError, match="needs 200 dB"):
        build_bundle(open_bundle(folder), ["fp32"], quiet)
    assert not (folder / "engines" / "engine.json").exists()


def test_a_pillow_that_reads_photos_differently_is_found(folder: Path) -> None:
    tensor = np.load(folder / "reference" / "photo.npy")
    tensor[0, 3, 3] = np.nextafter(tensor[0, 3, 3], np.float32(9))
    np.save(folder / "reference" / "photo.npy", tensor)
    rewrite(folder, lambda facts: None)
    done = swin_pyz(sys.executable, folder, "build")
    assert done.returncode == 5
    assert "is read differently by the Pillow of this machine, by up to" in done.stderr
    assert not list((folder / "engines").glob("[!.]*"))


@pytest.mark.fault(41)
def test_builders_take_turns_and_clean_up(built: Path) -> None:
    left = built / "engines" / ".building-killed" / "engine"
    left.mkdir(parents=True)
    shipped = open_bundle(built)
    held = lock_own(built / "engines" / ".lock", "engines", "wait")
    with held, pytest.raises(BusyError, match=f"in use by process {os.getpid()} on"):
        build_bundle(shipped, ["fp32"], quiet)
    (built / "engines" / ".lock").unlink()
    (built / "mine").write_text("mine")
    (built / "engines" / ".lock").symlink_to(built / "mine")
    with pytest.raises(UnsafeError, match="is a link"):
        build_bundle(shipped, ["fp32"], quiet)
    assert (built / "mine").read_text() == "mine"
    (built / "engines" / ".lock").unlink()
    (built / "mine").unlink()
    before = engine_of(built)
    flip(before)
    (published,) = build_bundle(shipped, ["fp32"], quiet)
    assert not left.parent.exists()
    assert engine_of(built) == published.path
    SwinEngine.load(built, threads=1).close()  # what was damaged is whole again


@pytest.mark.fault(38)
def test_a_disk_that_fills_up_leaves_the_engine_of_before(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record goes last, and until then the former one holds."""

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    before = files_of(built)
    monkeypatch.setattr("swin_deploy.runtime.build.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        build_bundle(open_bundle(built), ["fp32"], quiet)
    assert files_of(built) == before
    SwinEngine.load(built, threads=1).close()


def test_who_read_the_record_before_a_build_still_finds_its_engine(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next one, which clears it away."""
    shipped = open_bundle(built)
    _, files = require_engine(shipped, None)
    with monkeypatch.context() as patch:
        patch.setattr("swin_deploy.runtime.build.digest", lambda value: "f" * 64)  # another engine
        (published,) = build_bundle(shipped, ["fp32"], quiet)
    assert published.path.parent.name == "f" * 16
    for file in files:
        file.read()
    SwinEngine.load(built, threads=1).close()  # the new one; the former is no stranger
    build_bundle(shipped, ["fp32"], quiet)
    assert published.path.exists()
    assert sum(path.is_dir() for path in (built / "engines").iterdir()) == 2
    build_bundle(shipped, ["fp32"], quiet)
    assert not published.path.exists()


def test_a_record_that_does_not_count_is_replaced(built: Path) -> None:
    edit_record(built, lambda entry: entry.update(files={}))
    former = built / "engines" / "0123456789abcdef"
    former.mkdir()
    build_bundle(open_bundle(built), ["fp32"], quiet)
    assert former.exists()  # for the build might have failed
    build_bundle(open_bundle(built), ["fp32"], quiet)
    assert not former.exists()
    SwinEngine.load(built, threads=1).close()


@pytest.mark.skipif(not TARGETS["rtx"].installed, reason="needs the rtx extra")
def test_what_cannot_be_verified_is_not_published(pocket_run: RunResult, tmp_path: Path) -> None:
    """TensorRT-RTX compiles without a GPU; nothing here can run what it made."""
    from swin_deploy.engine.runners.cuda import device_problem

    if device_problem() is None:
        pytest.skip("there is a GPU here that can run it")
    request = BundleRequest(
        run=pocket_run.path, target="rtx", out=tmp_path / "x.zip", allow_random=True
    )
    assert make_bundle(request, quiet).precisions == ("fp16",)
    folder = unpack(tmp_path / "x.zip", tmp_path / "rtx")
    assert "Its weights are random" in (folder / "README.md").read_text()
    done = swin_pyz(sys.executable, folder, "build")
    assert done.returncode == 4, done.stderr
    assert "was compiled and cannot be verified here, so it was not published" in done.stderr
    assert not list((folder / "engines").glob("[!.]*"))
    assert not list((folder / "engines").glob(".building*"))


def test_a_bundle_for_a_device_is_built_on_that_device(
    pocket_run: RunResult, tmp_path: Path
) -> None:
    """The row of the device comes with it; elsewhere it says what is missing, before any work."""
    out = tmp_path / "x.zip"
    request = BundleRequest(run=pocket_run.path, target="jetson-orin", out=out, allow_random=True)
    made = make_bundle(request, quiet)
    assert made.target == "jetson-orin"
    assert made.precisions == ("fp16",)
    folder = unpack(out, tmp_path / "orin")
    assert json.loads((folder / "bundle.json").read_text())["recipe"]["compute_capability"] == "8.7"
    done = swin_pyz(sys.executable, folder, "build")
    assert done.returncode == 4
    assert "is for jetson-orin: tensorrt is not installed" in done.stderr
