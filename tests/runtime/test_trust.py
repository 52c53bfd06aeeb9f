"""What was changed, swapped, cut, linked, added, taken away, or made elsewhere does not load."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import manifests
from bundles import edit_record, engine_of, files_of, flip, rewrite, swin_pyz, unpack
from conftest import DIGITS
from swin_deploy.bundle.make import BundleRequest, make_bundle
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import (
    EnvironmentMissingError,
    InputError,
    SwinDeployError,
    UnsafeError,
)
from swin_deploy.core.files import sha256
from swin_deploy.engine.here import Fingerprint
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime import record as record_module
from swin_deploy.runtime.build import build_bundle
from swin_deploy.runtime.main import describe
from swin_deploy.runtime.trust import open_bundle, read_key

Damage = Callable[[Path], object]
signing = pytest.mark.skipif(
    importlib.util.find_spec("cryptography") is None, reason="needs the sign extra"
)


def quiet(text: str) -> None:
    del text


@pytest.fixture
def built(digits_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_folder, tmp_path / "built"))


@pytest.fixture
def nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is asked to open an engine fails the test: all of it is checked before."""

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("swin_deploy.engine.open.open_engine", refuse)


def replace_record(folder: Path, **values: Any) -> None:
    path = folder / "engines" / "engine.json"
    manifests.edit_record(path, lambda record: record.update(values))


def edit_by_hand(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifests.edit_record(path, edit, sealed=False)


def swap(folder: Path) -> None:
    """A good engine of another network, or the graph, in place of the one that was built."""
    shutil.copy(folder / "model.onnx", engine_of(folder))


def link(path: Path) -> None:
    """The same bytes, but elsewhere."""
    bundle = next(folder for folder in path.parents if (folder / "swin.pyz").exists())
    moved = bundle.parent / f"moved {path.name}"
    path.rename(moved)
    path.symlink_to(moved)


# What happened -> damage, the error, and what it says.
ENGINES: dict[str, tuple[Damage, type[SwinDeployError], str]] = {
    "truncated": (
        lambda f: engine_of(f).write_bytes(engine_of(f).read_bytes()[:-7]),
        UnsafeError,
        r"was changed: sha256 \w{12}, engines/engine.json says \w{12}",
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
        r"notes\.txt is listed in no engines/engine\.json",
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
        r"of another bundle: 000000000000, this one is \w{12}",
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
        r"engine\.json was changed since it was written",
    ),
    "record of a later version": (
        lambda f: replace_record(f, schema_version=3),
        InputError,
        "is no record of this version",
    ),
    "runtime older than the engine": (
        lambda f: edit_record(f, lambda e: e["built_for"].update(version="99.1")),
        EnvironmentMissingError,
        r"built for onnxruntime 99\.1 on linux-.*, here is onnxruntime 1\.",
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
    built: Path, damage: Damage, kind: type[SwinDeployError], message: str
) -> None:
    damage(built)
    with pytest.raises(kind, match=message):
        SwinEngine.load(built)


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
    built: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str], message: str
) -> None:
    """On a machine that is stood in for, as the checks see it; both values are said, exit 4."""
    from dataclasses import asdict

    def both_are(fingerprint: Fingerprint) -> None:
        edit_record(built, lambda entry: entry.update(built_for=asdict(fingerprint)))

    monkeypatch.setattr(record_module, "fingerprint_here", lambda module, distribution: HERE)
    both_are(HERE)
    with pytest.raises(AssertionError, match="an engine was opened"):
        SwinEngine.load(built)
    both_are(Fingerprint(**asdict(HERE) | other))
    flip(engine_of(built))  # not even its hash is asked for before
    with pytest.raises(EnvironmentMissingError, match=f"(?s){message}") as caught:
        SwinEngine.load(built)
    assert caught.value.exit_code == 4
    again = shlex.join([sys.executable, f"{built}/swin.pyz", "build"])
    assert caught.value.hint == f"build it again with the Python that predicts: {again}"


def test_the_command_lines_say_the_same(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 8 of the workstation's command and of the device's, with the same line."""
    flip(engine_of(built))
    photo = str(built / "reference" / "photo.png")
    assert cli.run(["predict", str(built), photo]) == 8
    line = capsys.readouterr().err
    assert line.startswith("error[E_UNSAFE]: ")
    for command in (["predict", photo], ["bench"]):
        done = swin_pyz(sys.executable, built, *command)
        assert (done.returncode, done.stderr) == (8, line)
    edit_record(built, lambda entry: entry["built_for"].update(version="99.1"))
    assert cli.run(["predict", str(built), photo]) == 4


# What happened to the files that were shipped -> damage, and what the error says.
FILES: dict[str, tuple[Damage, str]] = {
    "one bit of a graph": (lambda f: flip(f / "model.onnx"), r"model.onnx was changed: sha256 \w"),
    "a cut graph": (
        lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:-1]),
        r"model.onnx has \d+ bytes, bundle.json says \d+",
    ),
    "one bit of a reference": (lambda f: flip(f / "reference" / "noise.npy"), "noise.npy was chan"),
    "one bit of the program": (lambda f: flip(f / "swin.pyz", 99), "swin.pyz was changed"),
    "other labels": (lambda f: flip(f / "labels.json", 5), "labels.json was changed"),
    "a missing file": (lambda f: (f / "labels.json").unlink(), "labels.json is missing"),
    "an added file": (lambda f: (f / "x.py").write_text(""), "x.py is not a file of the bundle"),
    "an added file below": (
        lambda f: (f / "reference" / "x.npy").write_bytes(b""),
        "x.npy is not a file of the bundle",
    ),
    "a linked file": (lambda f: link(f / "model.onnx"), "model.onnx is a link"),
    "a linked folder": (lambda f: link(f / "reference"), "reference is a link"),
    "linked engines": (lambda f: link(f / "engines"), "engines is a link"),
    "a linked list": (lambda f: link(f / "bundle.json"), "bundle.json is a link"),
}


@pytest.mark.fault(33)
@pytest.mark.parametrize(("damage", "message"), FILES.values(), ids=FILES.keys())
@pytest.mark.usefixtures("nothing_is_opened")
def test_every_file_is_the_one_that_was_shipped(
    built: Path, tmp_path: Path, damage: Damage, message: str
) -> None:
    folder = built.rename(tmp_path.joinpath("deeper"))
    damage(folder)
    for load in (SwinEngine.load, open_bundle):
        with pytest.raises(UnsafeError, match=message):
            load(folder)


def test_what_is_built_here_is_no_part_of_it(built: Path) -> None:
    (built / "engines" / "notes.txt").write_text("mine")
    shipped = open_bundle(built)
    engines = files_of(built / "engines")
    with pytest.raises(UnsafeError, match=r"notes\.txt is listed in no .*; try: move it elsewhere"):
        build_bundle(shipped, ["fp32"], quiet)
    assert files_of(built / "engines") == engines
    with pytest.raises(UnsafeError, match="is listed in no"):
        describe(shipped)


@pytest.mark.fault(39)
def test_what_a_killed_build_left_is_never_loaded(built: Path) -> None:
    """In a folder that builds work in, or in one that no record was told of: it is cleared away."""
    names = (".building-x", ".engine.json.x", "0123456789abcdef")
    left = [built / "engines" / name for name in names]
    for folder in left:
        shutil.copytree(engine_of(built).parent, folder)
    SwinEngine.load(built, threads=1).close()
    describe(open_bundle(built))
    build_bundle(open_bundle(built), ["fp32"], quiet)
    assert not any(folder.exists() for folder in left)


def test_a_list_that_is_not_json_says_where(built: Path) -> None:
    path = built / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"network":', b'"network"', 1))
    with pytest.raises(InputError, match=r"bundle\.json is not JSON \(line \d+, column \d+\); try"):
        open_bundle(built)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested"):
        open_bundle(built)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("batch"),
        lambda facts: facts.update(schema_version=9),
        lambda facts: facts.update(schema_version=1),
        lambda facts: facts.update(target="rtx-60"),
        lambda facts: facts.update(photo=None),
        lambda facts: facts.update(classes="ten"),
        lambda facts: facts["graphs"]["fp32"].update(floors_db={}),
        lambda facts: facts["preprocessing"].update(crop=7),
        lambda facts: facts["interface"].update(io="fp8"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(built: Path, change: Any) -> None:
    rewrite(built, change)
    with pytest.raises(InputError, match=r"bundle\.json"):
        open_bundle(built)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["preprocessing"].update(mean=[5.0]),
        lambda facts: facts["graphs"]["fp32"]["floors_db"].update(logits=0.0),
        lambda facts: facts.update(classes=9),
        lambda facts: facts.update(notes=["all is well"]),
        lambda facts: facts.pop("digest"),
    ],
)
@pytest.mark.usefixtures("nothing_is_opened")
def test_a_list_that_was_edited_is_refused_without_a_signature(built: Path, change: Any) -> None:
    edit_by_hand(built / "bundle.json", change)
    with pytest.raises(UnsafeError, match=r"bundle\.json was changed since it was written"):
        SwinEngine.load(built)
    done = swin_pyz(sys.executable, built, "build")
    assert done.returncode == 8, done.stderr


@pytest.mark.fault(33)
def test_a_file_without_a_hash_is_refused(built: Path) -> None:
    def forget(facts: dict[str, Any]) -> None:
        del facts["files"]["model.onnx"]

    rewrite(built, forget)
    with pytest.raises(UnsafeError, match=r"names model\.onnx and has no hash of it"):
        open_bundle(built)


def make_key(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key, as openssl writes them."""
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def signed(digits_run: Path, digits_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A signed bundle, unpacked and with the engine that was built of it, and the public key."""
    private, public = make_key(tmp_path, "mine")
    request = BundleRequest(
        run=digits_run,
        target="cpu",
        precisions=("fp32",),
        out=tmp_path / "signed.zip",
        sign=private,
    )
    assert make_bundle(request, quiet).signed
    folder = unpack(tmp_path / "signed.zip", tmp_path / "signed")
    shutil.copytree(digits_folder / "engines", folder / "engines")
    return folder, public


@signing
def test_a_signed_bundle_loads_by_its_key(signed: tuple[Path, Path], digits_folder: Path) -> None:
    """The signature is beside the list, and changes nothing else."""
    folder, public = signed
    own = (folder / "bundle.json").read_bytes()
    assert own == (digits_folder / "bundle.json").read_bytes()
    SwinEngine.load(folder, verify_key=public, threads=1).close()
    SwinEngine.load(folder, threads=1).close()
    done = swin_pyz(sys.executable, folder, "info", "--verify-key", str(public))
    assert done.returncode in (0, 4)  # 4 where only the tests' own path has cryptography


@signing
@pytest.mark.parametrize(("damage", "message"), FILES.values(), ids=FILES.keys())
def test_a_signed_bundle_is_complete(
    signed: tuple[Path, Path], damage: Damage, message: str
) -> None:
    folder, public = signed
    damage(folder)
    with pytest.raises(UnsafeError, match=message):
        open_bundle(folder, public)


@pytest.mark.fault(33)
@signing
def test_a_list_that_was_written_anew_is_not_signed(signed: tuple[Path, Path]) -> None:
    """Hashes that match are worth nothing if anyone can write them."""
    folder, public = signed
    flip(folder / "labels.json", 5)
    rewrite(folder, lambda facts: None)
    assert open_bundle(folder).labels[0] != DIGITS[0]
    with pytest.raises(UnsafeError, match=r"is not a signature of bundle\.json by the owner"):
        open_bundle(folder, public)


@signing
def test_signatures_of_others_and_none_are_refused(
    signed: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, public = signed
    _, other = make_key(tmp_path, "theirs")
    with pytest.raises(UnsafeError, match="is not a signature"):
        open_bundle(folder, other)
    signature = folder / "bundle.json.sig"
    for content in (b"no base64!", b"", signature.read_bytes()[:40]):
        signature.write_bytes(content)
        with pytest.raises(UnsafeError, match="is not a signature"):
            open_bundle(folder, public)
    signature.unlink()
    photo = str(folder / "reference" / "photo.png")
    command = ["predict", str(folder), photo, "--verify-key"]
    assert cli.run([*command, str(public)]) == 8
    assert "is not signed: it has no bundle.json.sig" in capsys.readouterr().err
    assert cli.run([*command, str(folder / "README.md")]) == 3
    assert cli.run([*command, str(folder / "no.pub")]) == 3


@signing
def test_keys_that_are_none_are_refused(
    digits_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = make_key(tmp_path, "mine")
    command = ["bundle", str(digits_run), "--target", "cpu", "--precision", "fp32", "--sign"]
    for key in (public, tmp_path / "no.pem"):
        assert cli.run([*command, str(key), "--out", str(tmp_path / "x.zip")]) == 3
    assert "openssl genpkey -algorithm ed25519" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()


def test_without_the_library_signatures_are_asked_for_in_vain(
    digits_folder: Path, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    path = "cryptography.hazmat.primitives.asymmetric.ed25519"
    monkeypatch.setitem(sys.modules, path, None)
    with pytest.raises(EnvironmentMissingError, match="pip install cryptography"):
        open_bundle(digits_folder, tmp_path / "x.pub")
    request = BundleRequest(
        run=digits_run, target="cpu", precisions=("fp32",), out=tmp_path / "x", sign=tmp_path / "k"
    )
    with pytest.raises(EnvironmentMissingError, match="pip install cryptography"):
        make_bundle(request, quiet)
    assert files_of(tmp_path) == {}


@signing
def test_keys_of_openssl_are_read(digits_folder: Path, tmp_path: Path) -> None:
    """What the documentation has: the two commands, and what they write."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", public], check=True)
    from swin_deploy.bundle.source import sign

    folder = Path(shutil.copytree(digits_folder, tmp_path / "copy"))
    content = (folder / "bundle.json").read_bytes()
    (folder / "bundle.json.sig").write_bytes(sign(read_key(private, "private"), content))
    assert open_bundle(folder, public).sha256 == sha256(folder / "bundle.json")
