"""Manifests and records that were damaged or edited, and every command that reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from manifests import Edit, drop, edit_manifest, edit_record, put, tree, tune
from small_runs import fill, make_run, read_text
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError, UnsafeError
from swin_deploy.pipeline.qat.folder import REPORT, open_folder
from swin_deploy.run.details import MANIFEST
from swin_deploy.run.finished import require_run
from swin_deploy.run.folder import open_run
from swin_deploy.run.manifest import read_stages

ENGINE_STAGE = ("stages", "engine:cpu-fp32")


KEYS = (
    *("family", "variant", "preprocessing", "parameters", "weights", "batch", "outputs"),
    *("interface", "photos", "notes", "stages"),
)


DAMAGE: dict[str, tuple[Edit, str]] = {
    **{f"no {key}": (drop(key), f'{key} is "missing"') for key in KEYS},
    **{f"{key} 7": (put(7, key), f"{key} is 7, not") for key in KEYS if key != "parameters"},
    "a batch of x": (put({"x": 1}, "batch"), "batch.x is 1"),
    "an empty batch": (put({"low": 4, "high": 1}, "batch"), "batch 4:1 is not a range"),
    "no mean": (drop("preprocessing", "mean"), "mean has 3 values"),
    "another family": (put("vit", "family"), "family = 'vit'"),
    "weights of nobody": (put({}, "weights"), "weights.source is"),
    "a target of another version": (
        put("rtx-60", *ENGINE_STAGE, "details", "target"),
        "target = 'rtx-60' is none of cpu",
    ),
    "no details": (put({}, *ENGINE_STAGE, "details"), "details.target is"),
    "no outputs": (put({}, *ENGINE_STAGE, "outputs"), "lists nothing"),
    "an unknown stage": (put({"key": "", "outputs": {}}, "stages", "x"), "stages.x is no stage"),
    "a second export": (
        lambda m: m["stages"].update({"export:2": m["stages"]["export"]}),
        "no stage",
    ),
    "an unknown key": (put(1, "more"), "more is 1, not a key"),
    "no gate": (drop("stages", "verify"), "no stage verify"),
    **{
        f"{key} x of the network": (put("x", "variant", key), f'variant.{key} is "x", not')
        for key in ("embed_dim", "patch_size", "window_size", "num_heads", "depths")
    },
    "a network called 5": (put(5, "variant", "name"), "variant.name is 5, not a string"),
    "an unknown key of the network": (put(1, "variant", "depth"), "variant.depth is 1, not a key"),
    "fewer than no classes": (put(-1, "variant", "num_classes"), "num_classes = -1 must not be"),
    "logits without a head": (put(0, "variant", "num_classes"), "num_classes = 0: it has no head"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_record_that_does_not_fit_names_the_key_and_both_values(
    tmp_path: Path, name: str
) -> None:
    make_run(tmp_path)
    edit, message = DAMAGE[name]
    edit_manifest(tmp_path, edit)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        require_run(tmp_path)
    assert str(tmp_path / MANIFEST) in caught.value.problem
    assert "export again" in caught.value.hint


HASH = "0" * 64


LISTED: dict[str, tuple[str, str, int]] = {
    **{
        repr(name): (name, HASH, 8)
        for name in (
            *("../x", "/x", "engines/../../x", "", "a//b", "a/", ".", "a/./b", "x\0y"),
            *("manifest.json", ".lock", ".staging/x", ".versions/next/x", "engines/.x"),
        )
    },
    "a path for a hash": ("model.onnx", "../../../v/a", 3),
    "a path of that length": ("model.onnx", "../../../" + "0" * 55, 3),
    "NUL in a hash": ("model.onnx", "\0" * 64, 3),
    "no hash": ("model.onnx", "", 3),
    "capitals": ("model.onnx", "A" * 64, 3),
    "a line more": ("model.onnx", HASH + "\n", 3),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize(("name", "sha", "code"), LISTED.values(), ids=LISTED)
def test_what_a_manifest_lists_becomes_no_path_outside_the_run(
    tmp_path: Path, name: str, sha: str, code: int
) -> None:
    run, canary = tmp_path / "a" / "b" / "run", tmp_path / "v" / "a-model.onnx"
    canary.parent.mkdir()
    canary.write_text("mine")
    make_run(run, "old")
    edit_manifest(run, put(sha, "stages", "simplify", "outputs", name))
    with pytest.raises((InputError, UnsafeError)) as caught:
        require_run(run)
    assert caught.value.exit_code == code
    before = tree(tmp_path)
    make_run(run, "new")  # an export takes its place
    assert read_text(run) == "new"
    outside = {place: content for place, content in before.items() if not place.startswith("a/b/")}
    assert {p: c for p, c in tree(tmp_path).items() if not p.startswith("a/b/")} == outside


@pytest.mark.parametrize("name", ["../x", ".lock", "x\0y"])
def test_what_a_killed_run_lists_is_not_published_under_such_a_name(
    tmp_path: Path, name: str
) -> None:
    with open_run(tmp_path) as run:
        fill(run, "one")
    staged = tmp_path / ".staging" / MANIFEST
    edit_record(staged, put(HASH, "stages", "simplify", "outputs", name))
    assert read_stages(staged).stages == {}


def test_a_report_of_a_fine_tuning_that_was_edited_is_not_believed(tmp_path: Path) -> None:
    with open_folder(tmp_path) as folder:
        tune(folder, "one")
        folder.publish("one", {"losses": [0.5]})
    good = (tmp_path / REPORT).read_bytes()
    for edit, sealed in (
        (put([0.1], "losses"), False),
        (put("../../../v/a", "files", "model.onnx"), True),
        (put("\0" * 64, "files", "model.onnx"), True),
        (put(HASH, "files", "../x"), True),
        (put(1, "schema_version"), True),
    ):
        edit_record(tmp_path / REPORT, edit, sealed=sealed)
        with open_folder(tmp_path) as folder:
            assert folder.published("one") is None
        (tmp_path / REPORT).write_bytes(good)
    with open_folder(tmp_path) as folder:
        assert folder.published("one") is not None


EDITED: dict[str, Edit] = {
    "mean": put([5.0], "preprocessing", "mean"),
    "crop": put(0.5, "preprocessing", "crop"),
    "classes": put(9, "variant", "num_classes"),
    "seed": put(1, "weights", "seed"),
    "batch": put({"low": 1, "high": 8}, "batch"),
    "floors": put({"logits": 0.0}, "stages", "verify", "details", "fp32_floors_db"),
    "photos": put({"used": 1, "found": 1, "sha256": ""}, "photos"),
    "notes": put([], "notes"),
    "tool": put("9.9.9", "tool", "version"),
    "digest": put("0" * 64, "digest"),
    "no digest": drop("digest"),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize("name", EDITED)
def test_a_manifest_that_was_edited_is_refused(tmp_path: Path, name: str) -> None:
    make_run(tmp_path)
    edit_manifest(tmp_path, EDITED[name], sealed=False)
    with pytest.raises(UnsafeError, match="was changed since it was written"):
        require_run(tmp_path)


COMMANDS = {
    "verify": ("verify", "{run}", "--out", "{out}/x.json"),
    "bench": ("bench", "--engine", "{run}"),
    "bench an engine": ("bench", "--engine", "{run}/engines/cpu-fp32.onnx"),
    "evaluate": ("evaluate", "{run}", "--data", "{out}", "--out", "{out}/x.json"),
    "sensitivity": ("sensitivity", "{run}", "--calibration", "{out}", "--out", "{out}/x.json"),
    "bundle": ("bundle", "{run}", "--target", "cpu", "--out", "{out}/x.zip"),
    "refit": ("refit", "{run}/engines/cpu-fp32.onnx", "--weights", "{run}/model.onnx"),
    "cost": ("cost", "{run}"),
    "report": ("report", "{run}", "--out", "{out}/report"),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_every_damaged_manifest(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    make_run(run)
    good = (run / MANIFEST).read_bytes()
    command = [part.format(run=run, out=tmp_path) for part in COMMANDS[name]]
    cases = [(case, edit, True, 3) for case, (edit, _) in DAMAGE.items()]
    cases += [(case, edit, False, 8) for case, edit in EDITED.items()]
    cases.append(("schema 1", put(1, "schema_version"), True, 3))
    for case, edit, sealed, code in cases:
        (run / MANIFEST).write_bytes(good)
        edit_manifest(run, edit, sealed=sealed)
        assert cli.run(command) == code, case
        assert str(run / MANIFEST) in capsys.readouterr().err, case
