"""A bundle is built where it runs, with next to nothing there; only what agrees is published."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import edit_record, engine_of, files_of, flip, quiet, rewrite, swin_pyz
from conftest import DIGITS, pythons_3_10
from manifests import edit_manifest
from small_runs import make_run
from swin_deploy.bundle.source import extreme_floor_of, floors_of
from swin_deploy.core.errors import BusyError, UnsafeError, VerificationError
from swin_deploy.core.own_files import lock_own
from swin_deploy.engine.targets import TARGETS
from swin_deploy.run.finished import require_run
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.build import build_bundle, compare_engine
from swin_deploy.runtime.record import require_engine
from swin_deploy.runtime.trust import EXTREME, open_bundle


def test_the_whole_way_on_a_bare_device(
    unpacked_bundle: Path, photos: Path, device_python: Path, digits_folder: Path
) -> None:
    """Build, bench and predict with numpy, Pillow and ONNX Runtime; the classes are the same."""
    photo = str(unpacked_bundle / "reference" / "photo.png")
    done = swin_pyz(device_python, unpacked_bundle, "predict", photo)
    assert done.returncode == 3
    assert "nothing was built" in done.stderr
    done = swin_pyz(device_python, unpacked_bundle, "build")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  ok") == 9  # 1 to 4 images, twice each, and extremes
    assert f"published {unpacked_bundle}" in done.stdout
    done = swin_pyz(device_python, unpacked_bundle, "bench", "--seconds", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    timing = json.loads(done.stdout)
    assert timing["engine"] == "swin_pocket cpu-fp32"
    assert timing["batch"] == 4
    files = sorted(map(str, photos.glob("mnist_*.png")))
    done = swin_pyz(
        device_python, unpacked_bundle, "predict", *files, "--format", "jsonl", "--top", "1"
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line)["best"][0]["label"] for line in done.stdout.splitlines()]
    with SwinEngine.load(digits_folder, threads=1) as engine:
        expected = [row[0] for row in engine(files, k=1).labels]
    assert found == expected
    assert (
        sum(name == DIGITS[int(Path(p).stem[-1])] for name, p in zip(found, files, strict=True))
        > 18
    )
    done = swin_pyz(device_python, unpacked_bundle, "info", "--json")
    assert json.loads(done.stdout)["built"].keys() == {"fp32"}
    assert "Traceback" not in done.stderr


def test_the_bare_device_has_python_3_10(device_python: Path) -> None:
    asked = [device_python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not pythons_3_10():
        pytest.skip(f"no Python 3.10 on the PATH or of pyenv: the device had Python {version}")
    assert version == "3.10"


def test_help_and_usage_of_the_program(unpacked_bundle: Path) -> None:
    done = swin_pyz(sys.executable, unpacked_bundle, "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("build", "bench", "predict", "info"))
    for arguments in (
        (),
        ("bild",),
        ("bench", "--batch", "many"),
        ("build", "--precision", "fp16"),
    ):
        done = swin_pyz(sys.executable, unpacked_bundle, *arguments)
        assert done.returncode == 2
        assert re.fullmatch(r"error\[E_(USAGE|CONFIG)\]: .*; try: .*\n", done.stderr)
    done = swin_pyz(sys.executable, unpacked_bundle, "build", "--precision", "fp16", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "E_CONFIG"


def test_a_damaged_reference_publishes_nothing(
    built_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the compiler made another network of the graph; the engine of before stays whole."""
    outputs = built_bundle / "reference" / "noise.logits.npy"
    logits = np.load(outputs)
    logits[2] = logits[2, ::-1]
    np.save(outputs, logits)
    engines = files_of(built_bundle / "engines")
    done = swin_pyz(sys.executable, built_bundle, "build")
    assert done.returncode == 8  # the hash says it first
    rewrite(built_bundle, lambda facts: None)
    done = swin_pyz(sys.executable, built_bundle, "build")
    assert done.returncode == 5, done.stderr
    assert "FAILED: SQNR" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error[E_VERIFY]: engine cpu-fp32 disagrees with eager fp32")
    assert last.endswith("nothing was published")
    assert done.stdout == ""
    assert files_of(built_bundle / "engines") == engines


def test_an_engine_that_mixes_up_its_batch_is_refused(
    unpacked_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong only where a call has more than one image, which a check of single ones would miss."""
    from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
    from swin_deploy.runtime import build as check

    run = OnnxRuntimeRunner.run

    def mixed(self: OnnxRuntimeRunner, images: np.ndarray) -> dict[str, np.ndarray]:
        outputs = run(self, images)
        return {name: np.roll(array, len(array) // 2, axis=0) for name, array in outputs.items()}

    shipped = open_bundle(unpacked_bundle)
    rows = check.compare_engine(shipped, "fp32", unpacked_bundle / "model.onnx", (1, 3, 4))
    assert all(rows)
    monkeypatch.setattr(OnnxRuntimeRunner, "run", mixed)
    rows = check.compare_engine(shipped, "fp32", unpacked_bundle / "model.onnx", (1, 3, 4))
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


def test_the_floors_are_those_of_the_bundle(unpacked_bundle: Path) -> None:
    def demand(facts: dict) -> None:  # type: ignore[type-arg]
        facts["graphs"]["fp32"]["floors_db"]["logits"] = 200.0

    rewrite(unpacked_bundle, demand)
    with pytest.raises(VerificationError, match="needs 200 dB"):
        build_bundle(open_bundle(unpacked_bundle), ["fp32"], quiet)
    assert not (unpacked_bundle / "engines" / "engine.json").exists()


def test_a_pillow_that_reads_photos_differently_is_found(unpacked_bundle: Path) -> None:
    tensor = np.load(unpacked_bundle / "reference" / "photo.npy")
    tensor[0, 3, 3] = np.nextafter(tensor[0, 3, 3], np.float32(9))
    np.save(unpacked_bundle / "reference" / "photo.npy", tensor)
    rewrite(unpacked_bundle, lambda facts: None)
    done = swin_pyz(sys.executable, unpacked_bundle, "build")
    assert done.returncode == 5
    assert "is read differently by the Pillow of this machine, by up to" in done.stderr
    assert not list((unpacked_bundle / "engines").glob("[!.]*"))


@pytest.mark.fault(41)
def test_builders_take_turns_and_clean_up(built_bundle: Path) -> None:
    left = built_bundle / "engines" / ".building-killed" / "engine"
    left.mkdir(parents=True)
    shipped = open_bundle(built_bundle)
    held = lock_own(built_bundle / "engines" / ".lock", "engines", "wait")
    with held, pytest.raises(BusyError, match=f"process {os.getpid()}"):
        build_bundle(shipped, ["fp32"], quiet)
    (built_bundle / "engines" / ".lock").unlink()
    (built_bundle / "mine").write_text("mine")
    (built_bundle / "engines" / ".lock").symlink_to(built_bundle / "mine")
    with pytest.raises(UnsafeError, match="is a link"):
        build_bundle(shipped, ["fp32"], quiet)
    assert (built_bundle / "mine").read_text() == "mine"
    (built_bundle / "engines" / ".lock").unlink()
    (built_bundle / "mine").unlink()
    before = engine_of(built_bundle)
    flip(before)
    (published,) = build_bundle(shipped, ["fp32"], quiet)
    assert not left.parent.exists()
    assert engine_of(built_bundle) == published.path
    SwinEngine.load(built_bundle, threads=1).close()  # what was damaged is whole again


@pytest.mark.fault(38)
def test_a_disk_that_fills_up_leaves_the_engine_of_before(
    built_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record goes last, and until then the former one holds."""

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    before = files_of(built_bundle)
    monkeypatch.setattr("swin_deploy.runtime.build.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        build_bundle(open_bundle(built_bundle), ["fp32"], quiet)
    assert files_of(built_bundle) == before
    SwinEngine.load(built_bundle, threads=1).close()


def test_who_read_the_record_before_a_build_still_finds_its_engine(
    built_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next one, which clears it away."""
    shipped = open_bundle(built_bundle)
    _, files = require_engine(shipped, None)
    with monkeypatch.context() as patch:
        patch.setattr("swin_deploy.runtime.build.digest", lambda value: "f" * 64)  # another engine
        (published,) = build_bundle(shipped, ["fp32"], quiet)
    assert published.path.parent.name == "f" * 16
    for file in files:
        file.read()
    SwinEngine.load(built_bundle, threads=1).close()  # the new one; the former is no stranger
    build_bundle(shipped, ["fp32"], quiet)
    assert published.path.exists()
    assert sum(path.is_dir() for path in (built_bundle / "engines").iterdir()) == 2
    build_bundle(shipped, ["fp32"], quiet)
    assert not published.path.exists()


def test_a_record_that_does_not_count_is_replaced(built_bundle: Path) -> None:
    edit_record(built_bundle, lambda entry: entry.update(files={}))
    former = built_bundle / "engines" / "0123456789abcdef"
    former.mkdir()
    build_bundle(open_bundle(built_bundle), ["fp32"], quiet)
    assert former.exists()  # for the build might have failed
    build_bundle(open_bundle(built_bundle), ["fp32"], quiet)
    assert not former.exists()
    SwinEngine.load(built_bundle, threads=1).close()
