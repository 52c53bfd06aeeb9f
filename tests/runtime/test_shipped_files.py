"""Every file of a bundle is the one that was shipped, by its hash and by its signature."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundles import Damage, edit_by_hand, files_of, flip, link, quiet, rewrite, swin_pyz, unpack
from conftest import DIGITS
from swin_deploy.bundle.make import BundleRequest, make_bundle
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.core.files import sha256
from swin_deploy.runtime import SwinEngine
from swin_deploy.runtime.trust import open_bundle, read_key

signing = pytest.mark.skipif(
    importlib.util.find_spec("cryptography") is None, reason="needs the sign extra"
)


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
    built_bundle: Path, tmp_path: Path, damage: Damage, message: str
) -> None:
    folder = built_bundle.rename(tmp_path.joinpath("deeper"))
    damage(folder)
    for load in (SwinEngine.load, open_bundle):
        with pytest.raises(UnsafeError, match=message):
            load(folder)


def test_a_list_that_is_not_json_says_where(built_bundle: Path) -> None:
    path = built_bundle / "bundle.json"
    path.write_bytes(path.read_bytes().replace(b'"network":', b'"network"', 1))
    with pytest.raises(InputError, match=r"bundle\.json .*line \d+, column \d+"):
        open_bundle(built_bundle)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="nested"):
        open_bundle(built_bundle)


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
def test_a_list_that_cannot_be_read_is_refused(built_bundle: Path, change: Any) -> None:
    rewrite(built_bundle, change)
    with pytest.raises(InputError, match=r"bundle\.json"):
        open_bundle(built_bundle)


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
def test_a_list_that_was_edited_is_refused_without_a_signature(
    built_bundle: Path, change: Any
) -> None:
    edit_by_hand(built_bundle / "bundle.json", change)
    with pytest.raises(UnsafeError, match=r"bundle\.json was changed"):
        SwinEngine.load(built_bundle)
    done = swin_pyz(sys.executable, built_bundle, "build")
    assert done.returncode == 8, done.stderr


@pytest.mark.fault(33)
def test_a_file_without_a_hash_is_refused(built_bundle: Path) -> None:
    def forget(facts: dict[str, Any]) -> None:
        del facts["files"]["model.onnx"]

    rewrite(built_bundle, forget)
    with pytest.raises(UnsafeError, match=r"model\.onnx and has no hash"):
        open_bundle(built_bundle)


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
    with pytest.raises(UnsafeError, match=r"is not a signature of bundle\.json"):
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
