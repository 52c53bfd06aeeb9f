"""An unpacked bundle: what ``bundle.json`` says, believed once every file is the one it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swin_deploy.batches import BatchRange
from swin_deploy.errors import ConfigError, InputError
from swin_deploy.interface import OUTPUTS, Interface, Outputs
from swin_deploy.precisions import PRECISIONS, Precision
from swin_deploy.preprocessing import Preprocessing, Size, read_preprocessing
from swin_deploy.records import parse_json

if TYPE_CHECKING:
    from swin_deploy.data.pixels import ImageInput

SCHEMA_VERSION = 2  # 2: images that no camera takes, and what is asked of engines on them
BUNDLE, ENGINES = "bundle.json", "engines"  # the file, and the folder of what is built here
EXTREME = "extremes"  # the reference that engines of every precision are compared on too
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
class Shipped:
    """A bundle.

    Attributes:
        folder: Where it was unpacked.
        sha256: Of ``bundle.json``.
        tool: Version that made it.
        network: Name of the network.
        weights: Where they come from.
        image_size: (height, width), in pixels.
        batch: Batch sizes that engines are built for.
        outputs: "logits" or "stages".
        interface: What the graphs take and give.
        preprocessing: Of photos.
        classes: How many; 0 of a backbone.
        labels: Names of the classes by index; empty where they are not known.
        labels_file: That they stand in; None likewise.
        target: Name of the row of ``engine.targets`` that engines are built for.
        recipe: The settings of that row when the bundle was made, for people.
        graphs: Precision -> its graph.
        references: Name -> reference.
        photo: A photo, and the tensor that it has to become, (channels, H, W) float32 as .npy; None
            for a network that takes no photos.
        notes: What the person at the device has to know.
        files: Every file but ``bundle.json`` and its signature -> SHA-256 and size in bytes.
    """

    folder: Path
    sha256: str
    tool: str
    network: str
    weights: dict[str, Any]
    image_size: Size
    batch: BatchRange
    outputs: Outputs
    interface: Interface
    preprocessing: Preprocessing
    classes: int
    labels: tuple[str, ...]
    labels_file: str | None
    target: str
    recipe: dict[str, Any]
    graphs: dict[Precision, Graph]
    references: dict[str, Reference]
    photo: tuple[str, str] | None
    notes: tuple[str, ...]
    files: dict[str, tuple[str, int]]

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
        InputError: It is no bundle of this version.
    """
    where = folder / BUNDLE
    try:
        data = parse_json(content, where, "unpack the archive again")
        if (version := data["schema_version"]) != SCHEMA_VERSION:
            raise InputError(
                f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}",
                "the swin.pyz that came with it",
            )
        height, width = data["image_size"]
        return Shipped(
            folder=folder,
            sha256=sha256,
            tool=data["tool"]["version"],
            network=data["network"],
            weights=data["weights"],
            image_size=(int(height), int(width)),
            batch=BatchRange(**data["batch"]),
            outputs=OUTPUTS[OUTPUTS.index(data["outputs"])],
            interface=Interface(**data["interface"]),
            preprocessing=read_preprocessing(data["preprocessing"]),
            classes=int(data["classes"]),
            labels=(),
            labels_file=data["labels"],
            target=data["target"],
            recipe=data["recipe"],
            graphs={p: Graph(**data["graphs"][p]) for p in PRECISIONS if p in data["graphs"]},
            references={name: Reference(**one) for name, one in data["references"].items()},
            photo=data["photo"] and (data["photo"]["file"], data["photo"]["tensor"]),
            notes=tuple(map(str, data.get("notes", ()))),  # older bundles have none
            files={name: (one["sha256"], one["bytes"]) for name, one in data["files"].items()},
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ConfigError,
    ) as error:
        raise InputError(f"{where} describes no bundle: {error!r}", "unpack it again") from error
