"""The program of a bundle on devices that lack something, and what it says to people there."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bundles import edit_record, swin_pyz, unpack
from conftest import ROOT
from manifests import edit_manifest
from swin_deploy.bundle.make import BundleRequest, make_bundle, write_guide
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import FileAccessError, from_os_error
from swin_deploy.core.files import sha256
from swin_deploy.engine.targets import TARGETS
from swin_deploy.pipeline.run import RunResult
from swin_deploy.run.finished import require_run
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.main import describe, summary_lines
from swin_deploy.runtime.trust import open_bundle


def test_a_device_without_pillow_builds_and_measures(
    unpacked_bundle: Path, device_python: Path
) -> None:
    """Arrays are compared as ever; only what reads a photo asks for it."""
    (unpacked_bundle.parent / "x.png").write_bytes(b"")
    done = swin_pyz(device_python, unpacked_bundle, "build", without=("PIL",))
    assert done.returncode == 0, done.stderr
    assert "note: Pillow is not here, so photos were not compared\n" in done.stderr
    assert done.stdout.count("  ok") == 9  # 1 to 4 images, twice each, and extremes
    done = swin_pyz(device_python, unpacked_bundle, "bench", "--seconds", "0.1", without=("PIL",))
    assert done.returncode == 0, done.stderr
    done = swin_pyz(device_python, unpacked_bundle, "predict", "x.png", without=("PIL",))
    assert done.returncode == 4
    assert done.stderr.startswith("error[E_ENVIRONMENT]: photos are read with Pillow")
    assert "sudo apt install python3-pil" in done.stderr
    done = swin_pyz(device_python, unpacked_bundle, "build")
    assert done.returncode == 0
    assert "Pillow is not here" not in done.stderr


def test_a_device_without_numpy_can_ask_what_it_has(built_bundle: Path) -> None:
    nothing = ("numpy", "PIL", "onnxruntime")
    done = swin_pyz(sys.executable, built_bundle, "info", without=nothing)
    assert done.returncode == 0, done.stderr
    for command in ("build", "bench", "predict x.png"):
        done = swin_pyz(sys.executable, built_bundle, *command.split(), without=nothing)
        assert done.returncode == 4
        assert done.stderr.startswith("error[E_ENVIRONMENT]: numpy is not here")
        assert "pip install numpy, or sudo apt install python3-numpy" in done.stderr


def test_a_photo_that_is_not_there_is_one_line(built_bundle: Path, photos: Path) -> None:
    done = swin_pyz(sys.executable, built_bundle, "predict", "missing.jpg")
    assert done.returncode == 3
    hint = "; try: files that exist"
    assert done.stderr == f"error[E_INPUT]: missing.jpg does not exist{hint}\n"
    photo = str(next(iter(sorted(photos.glob("mnist_*.png")))))
    done = swin_pyz(
        sys.executable, built_bundle, "predict", "missing.jpg", photo, "--format", "jsonl"
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["photo"] == photo
    assert done.stderr.splitlines() == [
        "note: left out: missing.jpg does not exist",
        "error[E_INPUT]: 1 of 2 photos cannot be read; try: leave them out",
    ]


def test_hints_name_options_that_there_are(built_bundle: Path, photos: Path) -> None:
    photo = str(next(photos.glob("mnist_*.png")))
    done = swin_pyz(sys.executable, built_bundle, "predict", photo, "--annotate", "/proc/x")
    assert done.returncode == 9
    assert done.stderr.startswith("error[E_ACCESS]: cannot write in /proc/x: ")
    assert done.stderr.endswith("; try: --annotate with a folder that you own\n")
    assert done.stdout == ""
    read_only = replace(open_bundle(built_bundle), folder=Path("/proc"))
    with pytest.raises(
        FileAccessError, match="; try: a copy of the bundle in a folder that you own"
    ):
        build_bundle(read_only, ["fp32"], print)
    for number in (errno.EROFS, errno.EACCES, errno.ENOSPC):
        error = from_os_error(OSError(number, "no", "x"))
        assert error is not None
        assert "--" not in error.hint


def test_another_version_names_the_python_and_the_folder(built_bundle: Path) -> None:
    """In words that a shell takes, wherever they are typed."""
    folder = built_bundle.rename(built_bundle.with_name("my bundle"))
    edit_record(folder, lambda entry: entry["built_for"].update(version="99.1"))
    done = swin_pyz(sys.executable, folder, "predict", str(folder / "reference" / "photo.png"))
    assert done.returncode == 4
    command = shlex.join([sys.executable, f"{folder}/swin.pyz", "build"])
    assert done.stderr.endswith(f"build it again with the Python that predicts: {command}\n")
    subprocess.run(command, shell=True, check=True, capture_output=True, cwd=folder.parent)
    assert swin_pyz(sys.executable, folder, "bench", "--seconds", "0.1").returncode == 0


def test_the_program_refuses_what_the_command_refuses(built_bundle: Path) -> None:
    for option in (("--threads", "0"), ("--threads", "-1"), ("--top", "0")):
        done = swin_pyz(sys.executable, built_bundle, "predict", "x.png", *option)
        assert done.returncode == cli.run(["predict", str(built_bundle), "x.png", *option]) == 2
        assert f"argument {option[0]}" in done.stderr
    done = swin_pyz(sys.executable, built_bundle, "--version")
    assert (done.returncode, done.stdout) == (0, "swin-deploy 0.1.0\n")
    assert "``" not in swin_pyz(sys.executable, built_bundle, "--help").stdout


def test_info_is_for_people(built_bundle: Path, pocket_run: RunResult, tmp_path: Path) -> None:
    lines = swin_pyz(sys.executable, built_bundle, "info").stdout.splitlines()
    facts = {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}
    assert facts["network"] == "swin_pocket for cpu, made by swin-deploy 0.1.0"
    assert facts["weights"].startswith("source file")
    assert facts["batch"] == "1:4"
    assert facts["precision"].startswith("fp32: logits at least ")
    assert facts["labels"] == "10"
    assert facts["signed"] == "no"
    assert facts["sha256"].startswith(sha256(built_bundle / "bundle.json"))
    assert facts["engine"].startswith("fp32: onnxruntime 1.")
    done = swin_pyz(sys.executable, built_bundle, "info", "--json")
    assert json.loads(done.stdout)["weights"]["source"] == "file"
    request = BundleRequest(
        run=pocket_run.path, target="cpu", out=tmp_path / "x.zip", allow_random=True
    )
    make_bundle(request, print)
    shipped = open_bundle(unpack(tmp_path / "x.zip", tmp_path / "random"))
    lines = summary_lines(describe(shipped))
    found = [" ".join(line.split()) for line in lines]
    assert "weights RANDOM: it predicts nothing" in found
    assert "labels none" in found
    assert "engine none was built here" in found


def test_build_prints_the_hash_that_bundle_printed(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.zip"
    command = ["bundle", str(digits_run), "--target", "cpu", "--precision", "fp32"]
    assert cli.run([*command, "--out", str(out)]) == 0
    folder = unpack(out, tmp_path / "x")
    value = sha256(folder / "bundle.json")
    assert f"sha256 {value} of its bundle.json" in capsys.readouterr().out
    done = swin_pyz(sys.executable, folder, "build")
    assert f"bundle.json has sha256 {value}" in done.stderr


def test_the_form_for_cpus_is_not_shipped_to_a_gpu_unsaid(
    digits_run: Path, fixed_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A static graph for CPUs; the one that was exported for a GPU needs no note."""
    note = "the form for CPUs, which NVIDIA's compiler fuses less: swin-deploy export --target"
    run = Path(shutil.copytree(fixed_run, tmp_path / "run"))
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["stages"]["export"]["details"]["form"] == "slabs"
    edit_manifest(run, lambda m: m["stages"]["export"]["details"].update(form="packed"))
    command = ["--target", "jetson-orin", "--allow-random-weights", "--out"]
    for path, said in ((fixed_run, False), (run, True)):
        out = tmp_path / f"{path.name}.zip"
        assert cli.run(["bundle", str(path), *command, str(out)]) == 0
        assert (note in capsys.readouterr().err) == said
        facts = json.loads((unpack(out, tmp_path / f"of {path.name}") / "bundle.json").read_text())
        assert sum(note in text for text in facts["notes"]) == said


@pytest.mark.parametrize(
    ("target", "has"),
    [
        ("cpu", "`python3 -m pip install numpy pillow onnxruntime`"),
        ("cpu-openvino", "`python3 -m pip install numpy pillow openvino`"),
        ("l4", "`python3 -m pip install numpy pillow tensorrt`"),
        ("jetson-orin", "All of it comes with JetPack"),
    ],
)
def test_the_guide_is_for_the_device(digits_run: Path, target: str, has: str) -> None:
    text = write_guide(require_run(digits_run), TARGETS[target], ("fp32",)).decode()
    assert has in text
    assert ("JetPack" in text.partition("## Steps")[0].partition("needs")[2]) == (
        target == "jetson-orin"
    )
    assert ".zip" not in text


def test_onnx_runtime_leaves_no_identifier_behind(tmp_path: Path, digits_folder: Path) -> None:
    """In an empty home folder, by the package and not by the environment of the tests."""
    code = (
        "from sys import argv; from swin_deploy.runtime import SwinEngine; SwinEngine.load(argv[1])"
    )
    environment = {n: v for n, v in os.environ.items() if n not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("XDG_CACHE_HOME", None)
    command = [sys.executable, "-c", code, str(digits_folder)]
    subprocess.run(command, check=True, env=environment, timeout=120)
    assert not list(tmp_path.rglob("*"))
