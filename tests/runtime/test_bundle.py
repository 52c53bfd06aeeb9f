"""Bundles: the same bytes every time, and nothing that is not as the run has it."""

from __future__ import annotations

import ast
import errno
import io
import json
import os
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundles import flip, quiet, swin_pyz, unpack
from swin_deploy.bundle.archive import make_zipapp, runtime_closure, write_archive
from swin_deploy.bundle.make import BundleRequest, make_bundle
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    FileAccessError,
    UnsafeError,
)
from swin_deploy.core.files import sha256
from swin_deploy.data.samples import find_sample, read_images
from swin_deploy.engine.targets import TARGETS
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.pipeline.run import RunResult
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.trust import open_bundle


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
    with pytest.raises(OSError, match=r"No space left .*x\.zip"):
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
    with pytest.raises(ConfigError, match=r"fp16.* target rtx"):
        make_bundle(BundleRequest(run=digits_run, target="rtx", precisions=("fp16",)), quiet)
    with pytest.raises(ConfigError, match=r"target cpu; .* fp32,int8"):
        make_bundle(BundleRequest(run=digits_run, target="cpu", precisions=("fp16",)), quiet)
    with pytest.raises(ConfigError, match="'jetson'; try: jetson-"):
        make_bundle(BundleRequest(run=digits_run, target="jetson"), quiet)


def test_a_graph_that_the_device_cannot_parse_is_not_shipped(
    digits_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "cpu", replace(TARGETS["cpu"], opset=17))
    with pytest.raises(EnvironmentMissingError, match=r"opset 20, .* 17"):
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
    with pytest.raises(ConfigError, match="--calibration"):
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
