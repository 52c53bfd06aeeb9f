"""An unpacked bundle: what ``bundle.json`` says, believed once every file is the one it names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.batches import BatchRange
from swin_deploy.engine.targets import TARGETS
from swin_deploy.errors import ConfigError, InputError
from swin_deploy.files import DIGEST, Recorded, require_digest, with_digest
from swin_deploy.interface import Interface, Outputs
from swin_deploy.precisions import PRECISIONS, Precision
from swin_deploy.preprocessing import Preprocessing, Size
from swin_deploy.records import decode, parse_json

if TYPE_CHECKING:
    from swin_deploy.data.pixels import ImageInput

SCHEMA_VERSION = 2  # 2: a digest, and images that no camera takes
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
class ShippedFile:
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
        outputs: "logits" or "stages".
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
    files: dict[str, ShippedFile]

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
        return with_digest({"schema_version": SCHEMA_VERSION, **asdict(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped(Contents):
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
        from swin_deploy.data.pixels import ImageInput  # numpy, which ``info`` does without

        steps = self.preprocessing
        return ImageInput(self.interface.io_of(precision), steps.mean, steps.std)

    def choose(self, precision: str | None) -> Precision:
        """The precision that is meant.

        Raises:
            ConfigError: The bundle has no graph in it.
        """
        wanted = PREFERRED if precision is None else (precision,)
        for one in wanted:
            if one in self.graphs:
                return PRECISIONS[PRECISIONS.index(one)]
        have = ",".join(self.graphs)
        raise ConfigError(f"{self.folder} has no graph in {precision}", f"--precision {have}")


def parse_bundle(folder: Path, content: bytes, sha256: str) -> Shipped:
    """``bundle.json`` as data; its files are checked by ``trust.open_bundle``.

    Raises:
        InputError: It is no bundle of this version; names the key.
        UnsafeError: It is not as it was written.
    """
    where, again = folder / BUNDLE, "unpack the archive again"
    data = parse_json(content, where, again)
    if not isinstance(data, dict) or (version := data.get("schema_version")) is None:
        raise InputError(f"{where} describes no bundle", again)
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}",
            "the swin.pyz that came with it",
        )
    own = {"schema_version", DIGEST}
    said = {name: value for name, value in data.items() if name not in own}
    contents = decode(Contents, said, where, again)
    require_digest(data, where, again)
    fields = {name: getattr(contents, name) for name in Contents.__dataclass_fields__}
    return Shipped(folder=folder, sha256=sha256, **fields)
