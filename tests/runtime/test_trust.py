"""An engine that was changed, swapped, cut, linked, or made elsewhere does not load."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import manifests
from bundles import (
    Damage,
    edit_by_hand,
    edit_record,
    engine_of,
    files_of,
    flip,
    link,
    quiet,
    swin_pyz,
)
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    EnvironmentMissingError,
    InputError,
    SwinDeployError,
    UnsafeError,
)
from swin_deploy.engine.here import Fingerprint
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime import record as record_module
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.main import describe
from swin_deploy.runtime.trust import open_bundle


def replace_record(folder: Path, **values: Any) -> None:
    path = folder / "engines" / "engine.json"
    manifests.edit_record(path, lambda record: record.update(values))


def swap(folder: Path) -> None:
    """A good engine of another network, or the graph, in place of the one that was built."""
    shutil.copy(folder / "model.onnx", engine_of(folder))


# What happened -> damage, the error, and what it says.
ENGINES: dict[str, tuple[Damage, type[SwinDeployError], str]] = {
    "truncated": (
        lambda f: engine_of(f).write_bytes(engine_of(f).read_bytes()[:-7]),
        UnsafeError,
        r"sha256 \w{12}, engines/engine\.json says \w{12}",
    ),
    "one bit": (lambda f: flip(engine_of(f)), UnsafeError, "was changed"),
    "empty": (lambda f: engine_of(f).write_bytes(b""), UnsafeError, "was changed"),
    "foreign": (swap, UnsafeError, "was changed"),
    "gone": (lambda f: engine_of(f).unlink(), UnsafeError, "is missing"),
    "linked": (lambda f: link(engine_of(f)), UnsafeError, "is a link"),
    "linked folder": (lambda f: link(engine_of(f).parent), UnsafeError, "is a link"),
    "without a record": (
        lambda f: (f / "engines" / "engine.json").unlink(),
        InputError,
        "nothing was built in",
    ),
    "an added file": (
        lambda f: (f / "engines" / "notes.txt").write_text("mine"),
        UnsafeError,
        r"notes\.txt is listed in no",
    ),
    "an empty folder": (
        lambda f: (f / "engines" / "another").mkdir(),
        UnsafeError,
        "another is listed in no",
    ),
    "a hidden folder": (
        lambda f: (f / "engines" / ".another").mkdir(),
        UnsafeError,
        "another is listed in no",
    ),
    "a file named like an engine's folder": (
        lambda f: (f / "engines" / "0123456789abcdef").write_bytes(b""),
        UnsafeError,
        "0123456789abcdef is listed in no",
    ),
    "a link named like it": (
        lambda f: (f / "engines" / "0123456789abcdef").symlink_to(engine_of(f).parent),
        UnsafeError,
        "0123456789abcdef is listed in no",
    ),
    "a link": (
        lambda f: (f / "engines" / ".building-x").symlink_to(f),
        UnsafeError,
        "building-x is listed in no",
    ),
    "a file beside the engine": (
        lambda f: (engine_of(f).parent / "x.so").write_bytes(b""),
        UnsafeError,
        r"x\.so is listed in no",
    ),
    "linked record": (lambda f: link(f / "engines" / "engine.json"), UnsafeError, "is a link"),
    "record of another bundle": (
        lambda f: replace_record(f, bundle_sha256="0" * 64),
        UnsafeError,
        r"000000000000, this one is \w{12}",
    ),
    "record points outside": (
        lambda f: edit_record(f, lambda e: e.update(files={"engines/../../x.onnx": "0" * 64})),
        UnsafeError,
        "is not a file that was built here",
    ),
    "record without files": (
        lambda f: edit_record(f, lambda e: e.update(files={})),
        InputError,
        r"engines\.fp32 is .* files = {}",
    ),
    "record of text": (
        lambda f: (f / "engines" / "engine.json").write_text("no"),
        InputError,
        "is not JSON",
    ),
    "a target that nobody knows": (
        lambda f: edit_record(f, lambda e: e.update(built_for="Orin")),
        InputError,
        r'engines\.fp32\.built_for is "Orin", not an object',
    ),
    "record that was edited": (
        lambda f: edit_by_hand(
            f / "engines" / "engine.json",
            lambda r: r["engines"]["fp32"]["built_for"].update(version="0.1"),
        ),
        UnsafeError,
        r"engine\.json was changed",
    ),
    "record of a later version": (
        lambda f: replace_record(f, schema_version=3),
        InputError,
        "is no record of this version",
    ),
    "runtime older than the engine": (
        lambda f: edit_record(f, lambda e: e["built_for"].update(version="99.1")),
        EnvironmentMissingError,
        r"onnxruntime 99\.1 .* onnxruntime 1\.",
    ),
    "another runtime": (
        lambda f: edit_record(f, lambda e: e["built_for"].update(module="openvino")),
        EnvironmentMissingError,
        "it needs openvino, this is onnxruntime",
    ),
}


@pytest.mark.fault(32)
@pytest.mark.parametrize(("damage", "kind", "message"), ENGINES.values(), ids=ENGINES.keys())
@pytest.mark.usefixtures("nothing_is_opened")
def test_an_engine_is_what_was_built_here(
    built_bundle: Path, damage: Damage, kind: type[SwinDeployError], message: str
) -> None:
    damage(built_bundle)
    with pytest.raises(kind, match=message):
        SwinEngine.load(built_bundle)


HERE = Fingerprint(
    module="tensorrt",
    version="10.3.0",
    platform="linux-aarch64",
    compute_capability="8.7",
    device="Orin",
)


# What an engine was built for, that is not this -> what the error says.
ELSEWHERE = {
    "version": ({"version": "10.4.0"}, "sm_87 TensorRT 10.4.0 .* here is sm_87 TensorRT 10.3.0"),
    "GPU": ({"compute_capability": "8.6"}, "built for sm_86 .* here is sm_87 .* another compute"),
    "platform": ({"platform": "linux-x86_64"}, "on linux-x86_64, here is .* on linux-aarch64"),
    "library": ({"module": "tensorrt_rtx"}, "it needs tensorrt_rtx, this is tensorrt"),
}


@pytest.mark.fault(32)
@pytest.mark.parametrize(("other", "message"), ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.usefixtures("nothing_is_opened")
def test_a_plan_is_for_this_machine(
    built_bundle: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str], message: str
) -> None:
    """On a machine that is stood in for, as the checks see it; both values are said, exit 4."""
    from dataclasses import asdict

    def both_are(fingerprint: Fingerprint) -> None:
        edit_record(built_bundle, lambda entry: entry.update(built_for=asdict(fingerprint)))

    monkeypatch.setattr(record_module, "fingerprint_here", lambda module, distribution: HERE)
    both_are(HERE)
    with pytest.raises(AssertionError, match="an engine was opened"):
        SwinEngine.load(built_bundle)
    both_are(Fingerprint(**asdict(HERE) | other))
    flip(engine_of(built_bundle))  # not even its hash is asked for before
    with pytest.raises(EnvironmentMissingError, match=f"(?s){message}") as caught:
        SwinEngine.load(built_bundle)
    assert caught.value.exit_code == 4
    again = shlex.join([sys.executable, f"{built_bundle}/swin.pyz", "build"])
    assert caught.value.hint == f"build it again with the Python that predicts: {again}"


def test_the_command_lines_say_the_same(
    built_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 8 of the workstation's command and of the device's, with the same line."""
    flip(engine_of(built_bundle))
    photo = str(built_bundle / "reference" / "photo.png")
    assert cli.run(["predict", str(built_bundle), photo]) == 8
    line = capsys.readouterr().err
    assert line.startswith("error[E_UNSAFE]: ")
    for command in (["predict", photo], ["bench"]):
        done = swin_pyz(sys.executable, built_bundle, *command)
        assert (done.returncode, done.stderr) == (8, line)
    edit_record(built_bundle, lambda entry: entry["built_for"].update(version="99.1"))
    assert cli.run(["predict", str(built_bundle), photo]) == 4


def test_what_is_built_here_is_no_part_of_it(built_bundle: Path) -> None:
    (built_bundle / "engines" / "notes.txt").write_text("mine")
    shipped = open_bundle(built_bundle)
    engines = files_of(built_bundle / "engines")
    with pytest.raises(UnsafeError, match=r"notes\.txt is listed in no"):
        build_bundle(shipped, ["fp32"], quiet)
    assert files_of(built_bundle / "engines") == engines
    with pytest.raises(UnsafeError, match="is listed in no"):
        describe(shipped)


@pytest.mark.fault(39)
def test_what_a_killed_build_left_is_never_loaded(built_bundle: Path) -> None:
    """In a folder that builds work in, or in one that no record was told of: it is cleared away."""
    names = (".building-x", ".engine.json.x", "0123456789abcdef")
    left = [built_bundle / "engines" / name for name in names]
    for folder in left:
        shutil.copytree(engine_of(built_bundle).parent, folder)
    SwinEngine.load(built_bundle, threads=1).close()
    describe(open_bundle(built_bundle))
    build_bundle(open_bundle(built_bundle), ["fp32"], quiet)
    assert not any(folder.exists() for folder in left)
