"""An unpacked bundle, believed once every file is the one that was made, and whose it is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.core.files import Recorded, open_sealed, seal
from swin_deploy.core.own_files import read_plain
from swin_deploy.core.records import VERSION, parse_json, require_version
from swin_deploy.data.classes import parse_class_names
from swin_deploy.engine.targets import TARGETS
from swin_deploy.network.interface import (
    PRECISIONS,
    BatchRange,
    Interface,
    Outputs,
    Precision,
    Preprocessing,
    Size,
)

if TYPE_CHECKING:
    from swin_deploy.data.images import ImageInput


SCHEMA_VERSION = 3  # 3: ``interface`` has an activation and a task
BUNDLE, ENGINES = "bundle.json", "engines"  # the file, and the folder of what is built here
EXTREME = "extremes"  # the reference that engines of every precision are compared on too
PHOTO_CHANNELS = (1, 3)  # of networks that take photos
# Which of several precisions is meant where none is named: the first of these that is there.
PREFERRED: tuple[Precision, ...] = ("fp16", "fp32", "bf16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One ONNX file, and what engines made of it are held to.

    Attributes:
        file: Path in the bundle, as all paths here.
        reference: Which of the references engines are compared on.
        floors_db: Output -> the lowest SQNR that it may have, in dB.
        extreme_floor_db: The same on the reference ``EXTREME``, of every output; None where it only
            has to be finite there.
    """

    file: str
    reference: str
    floors_db: dict[str, float]
    extreme_floor_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Images and what eager PyTorch gave for them.

    Attributes:
        inputs: (n, channels, H, W) float32, normalised, as .npy.
        outputs: Name -> (n, ...) float32, as .npy.
    """

    inputs: str
    outputs: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What made a bundle."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A photo, and the tensor that it has to become: (channels, H, W) float32 as .npy."""

    file: str
    tensor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledFile:
    """A file of a bundle; its size is in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """``bundle.json``, written and read by this class.

    Attributes:
        tool: That made it.
        network: Name of the network.
        weights: Where they come from.
        image_size: (height, width), in pixels.
        batch: Batch sizes that engines are built for.
        outputs: As of ``interface.OUTPUTS``.
        interface: What the graphs take and give.
        preprocessing: Of photos.
        classes: How many; 0 of a backbone.
        labels: The file with their names; None where they are not known.
        target: Name of the row of ``engine.targets`` that engines are built for.
        recipe: The settings of that row when the bundle was made, for people.
        graphs: Precision -> its graph.
        references: Name -> reference.
        photo: None for a network that takes no photos.
        notes: What the person at the device has to know.
        files: Every file but ``bundle.json`` and its signature.
    """

    tool: Tool
    network: str
    weights: dict[str, Any]
    image_size: Size
    batch: BatchRange
    outputs: Outputs
    interface: Interface
    preprocessing: Preprocessing
    classes: int
    labels: str | None
    target: str
    recipe: dict[str, Any]
    graphs: dict[Precision, Graph]
    references: dict[str, Reference]
    photo: Photo | None
    notes: tuple[str, ...]
    files: dict[str, BundledFile]

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ConfigError(f"target = {self.target!r} is none of {', '.join(TARGETS)}")
        if not self.graphs:
            raise ConfigError("graphs = {}: at least one")
        for graph in self.graphs.values():
            if graph.reference not in self.references or not graph.floors_db:
                raise ConfigError(f"{graph.file} has no reference or no floors")
        if (channels := len(self.preprocessing.mean)) in PHOTO_CHANNELS and self.photo is None:
            raise ConfigError(f"photo = null, and networks of {channels} channels take photos")

    def named(self) -> set[str]:
        """The files that it names."""
        named = {graph.file for graph in self.graphs.values()}
        named |= {self.labels} if self.labels is not None else set()
        named |= {self.photo.file, self.photo.tensor} if self.photo is not None else set()
        for reference in self.references.values():
            named |= {reference.inputs, *reference.outputs.values()}
        return named

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``parse_bundle`` reads back."""
        return seal(SCHEMA_VERSION, asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackedBundle(Contents):
    """A bundle that was unpacked.

    Attributes:
        folder: Where.
        sha256: Of ``bundle.json``.
        label_names: Names of the classes by index; empty where they are not known.
    """

    folder: Path
    sha256: str
    label_names: tuple[str, ...] = ()

    def file(self, name: str) -> Recorded:
        """A file with its recorded hash, to be read."""
        return Recorded(
            path=self.folder / name,
            sha256=self.files[name].sha256,
            record=BUNDLE,
            again="unpack the archive again",
        )

    def image_input(self, precision: Precision) -> ImageInput:
        """What the graph of a precision takes."""
        from swin_deploy.data.images import ImageInput  # numpy, which ``info`` does without

        return ImageInput.of(self.interface.io_of(precision), self.preprocessing)

    def choose(self, precision: str | None) -> Precision:
        """The precision that is meant."""
        wanted = PREFERRED if precision is None else (precision,)
        for one in wanted:
            if one in self.graphs:
                return PRECISIONS[PRECISIONS.index(one)]
        have = ",".join(self.graphs)
        raise ConfigError(f"{self.folder} has no graph in {precision}", f"--precision {have}")


def parse_bundle(folder: Path, content: bytes, sha256: str) -> UnpackedBundle:
    """``bundle.json`` as data; its files are checked by ``trust.open_bundle``."""
    where, again = folder / BUNDLE, "unpack the archive again"
    data = parse_json(content, where, again)
    if not isinstance(data, dict) or VERSION not in data:
        raise InputError(f"{where} describes no bundle", again)
    require_version(data, (SCHEMA_VERSION,), where, "the swin.pyz that came with it")
    contents = open_sealed(Contents, data, where, again)
    fields = {name: getattr(contents, name) for name in Contents.__dataclass_fields__}
    return UnpackedBundle(folder=folder, sha256=sha256, **fields)


SIGNATURE = f"{BUNDLE}.sig"
_AGAIN = "unpack the archive again"


def open_bundle(folder: Path, verify_key: Path | None = None) -> UnpackedBundle:
    """Read the bundle in ``folder`` after comparing every file of it with its recorded hash.

    What is built here, in the folder ``engines``, is not part of it and has its own record.

    Args:
        folder: Where the archive was unpacked.
        verify_key: A PEM file with an Ed25519 public key that must have signed it; None to ask for
            no signature.
    """
    path = folder / BUNDLE
    require_bundle(folder)
    if path.is_symlink():
        raise UnsafeError(f"{path} is a link", _AGAIN)
    content = read_plain(path)
    if verify_key is not None:
        require_signature(folder, content, verify_key)
    shipped = parse_bundle(folder, content, hashlib.sha256(content).hexdigest())
    _require_files(shipped)
    if shipped.labels is None:
        return shipped
    names = shipped.file(shipped.labels)
    return replace(shipped, label_names=parse_class_names(names.read(), names.path))


def require_bundle(folder: Path) -> None:
    """Check that there is a bundle in ``folder``, as far as a look tells.

    Raises:
        InputError: There is none.
    """
    if (folder / BUNDLE).is_file():
        return
    if folder.is_file():
        raise InputError(
            f"{folder} is a file, not the folder of a bundle",
            f"python3 -m zipfile -e {folder} {folder.with_suffix('')}, and that folder",
        )
    if (folder / "manifest.json").is_file():
        raise InputError(
            f"{folder} is a run, not a bundle", f"swin-deploy bundle {folder} --target cpu"
        )
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist", "the folder of an unpacked bundle")
    raise InputError(f"{folder} holds no bundle: it has no {BUNDLE}", _AGAIN)


def _require_files(shipped: UnpackedBundle) -> None:
    if unlisted := sorted(shipped.named() - shipped.files.keys()):
        raise UnsafeError(f"{shipped.folder / BUNDLE} names {unlisted[0]} and has no hash of it")
    present = _walk(shipped.folder)
    if added := sorted(present - shipped.files.keys() - {BUNDLE, SIGNATURE}):
        raise UnsafeError(
            f"{shipped.folder / added[0]} is not a file of the bundle", "move it elsewhere"
        )
    for name, recorded in sorted(shipped.files.items()):
        path = shipped.folder / name
        if name not in present:
            raise UnsafeError(f"{path} is missing", _AGAIN)
        if (found := path.stat().st_size) != recorded.bytes:
            raise UnsafeError(f"{path} has {found} bytes, {BUNDLE} says {recorded.bytes}", _AGAIN)
        shipped.file(name).read()


def _walk(folder: Path) -> set[str]:
    """All files of a bundle, relative to its folder, with "/" between names."""
    found: set[str] = set()
    for root, folders, names in os.walk(folder):
        here = Path(root)
        for name in (*folders, *names):
            path = here / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UnsafeError(f"{path} is a link, or no file at all", _AGAIN)
        if here == folder and ENGINES in folders:
            folders.remove(ENGINES)
        found |= {(here / name).relative_to(folder).as_posix() for name in names}
    return found


def require_signature(folder: Path, content: bytes, key: Path) -> None:
    """Check that ``content`` was signed by the owner of ``key``, a PEM file (Ed25519)."""
    public = read_key(key)
    from cryptography.exceptions import InvalidSignature

    path = folder / SIGNATURE
    if path.is_symlink() or not path.is_file():
        raise UnsafeError(f"{folder} is not signed: it has no {SIGNATURE}", "the signed bundle")
    try:
        public.verify(base64.b64decode(read_plain(path).strip(), validate=True), content)
    except (InvalidSignature, binascii.Error) as error:
        raise UnsafeError(
            f"{path} is not a signature of {BUNDLE} by the owner of {key}",
            "the right key, or the bundle as its maker has it",
        ) from error


def read_key(path: Path, half: Literal["public", "private"] = "public") -> Any:
    """The Ed25519 key in a PEM file.

    Args:
        path: As ``openssl genpkey -algorithm ed25519`` writes a private one, and ``openssl pkey
            -pubout`` the public one of it.
        half: Which of the two it has to be.

    Raises:
        EnvironmentMissingError: ``cryptography`` is not installed.
        InputError: It is no such key, or is locked with a password.
    """
    private = half == "private"
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise EnvironmentMissingError(
            f"a {'bundle cannot be signed' if private else 'signature cannot be checked'}: {error}",
            "pip install cryptography; on a Jetson: sudo apt install python3-cryptography",
        ) from error
    kind: Any = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    make = "openssl genpkey -algorithm ed25519" if private else ""
    try:
        content = read_plain(path)
        key: Any = (
            serialization.load_pem_private_key(content, password=None)
            if private
            else serialization.load_pem_public_key(content)
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", make and f"{make} -out {path}") from error
    except TypeError as error:  # it wants a password
        raise InputError(f"{path} cannot be read: {error}", "a key without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no {half} key in PEM: {error}") from error
    if not isinstance(key, kind):
        raise InputError(f"{path} is a key of another kind than Ed25519", make)
    return key
