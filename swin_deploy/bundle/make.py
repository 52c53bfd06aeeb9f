"""One archive with all that a device needs of a run, and the README in it."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import swin_deploy
from swin_deploy.bundle.archive import make_zipapp, require_new, write_archive
from swin_deploy.bundle.source import (
    PHOTO,
    TENSOR,
    choose_graphs,
    extreme_floor_of,
    floors_of,
    form_note,
    make_photo,
    make_references,
    never_run_note,
    reference_of,
    sign,
)
from swin_deploy.core.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.data.samples import require_images
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import find_target
from swin_deploy.measure.verify.conversions import require_conversions
from swin_deploy.network.interface import EMBEDDING, LOGITS, STAGES, Outputs, Precision
from swin_deploy.run.details import LABELS
from swin_deploy.run.finished import Run, require_run
from swin_deploy.runtime.trust import (
    BUNDLE,
    PHOTO_CHANNELS,
    PREFERRED,
    SIGNATURE,
    BundledFile,
    Contents,
    Graph,
    Photo,
    Reference,
    Tool,
    read_key,
)

_TEMPLATE = Path(__file__).with_name("guide.template.md")
_NEEDS = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT with its Python module `{module}`, and the NVIDIA GPU that it is for",
}


def write_guide(run: Run, target: Target, precisions: tuple[Precision, ...]) -> bytes:
    """The text, in UTF-8.

    Args:
        run: What is shipped.
        target: What engines are built for.
        precisions: Of the graphs.
    """
    height, width = run.config.image_size
    random = "\n**Its weights are random: it is for trying the way, and predicts nothing.**\n"
    return (
        Template(_TEMPLATE.read_text(encoding="utf-8"))
        .substitute(
            network=run.config.name,
            target=target.name,
            about=target.about,
            image=f"{height}x{width}",
            batch=run.batch,
            precisions=", ".join(precisions),
            preferred=next(p for p in PREFERRED if p in precisions),
            needs=_NEEDS[target.kind].format(module=target.module),
            install=_install(target),
            weights=run.header.weights.source,
            random=random if run.random else "",
            never_run="" if (note := never_run_note(run, target)) is None else f"\n**{note}**\n",
            predict=_PREDICT if run.outputs == LOGITS else "",
            call=_CALLS[run.outputs],
            version=swin_deploy.__version__,
        )
        .encode()
    )


def _install(target: Target) -> str:
    """How all of it comes to the device, in Markdown."""
    if target.platform == "linux-aarch64":
        return (
            "All of it comes with JetPack; what is missing, "
            "`sudo apt install nvidia-jetpack python3-pil` brings."
        )
    return f"All of it: `python3 -m pip install numpy pillow {target.distribution}`."


_PREDICT = """
    python3 swin.pyz predict photo.jpg        # the five best classes; folders, or - for a list
    python3 swin.pyz predict folder --format csv --annotate /tmp/pictures
"""
_CLASSES = """    prediction = engine(["photo.jpg", array_of_pixels])
    print(prediction.labels, prediction.scores)"""
_MAPS = """    maps = engine.maps(["photo.jpg", array_of_pixels])
    print({name: array.shape for name, array in maps.items()})"""

_EMBEDDINGS = """    vectors = engine.embeddings(["photo.jpg", array_of_pixels])
    print(vectors.shape)"""
_CALLS: dict[Outputs, str] = {LOGITS: _CLASSES, STAGES: _MAPS, EMBEDDING: _EMBEDDINGS}

PROGRAM, GUIDE = "swin.pyz", "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRequest:
    """What shall be shipped; fields are the options of ``bundle``.

    Attributes:
        out: None for NETWORK-TARGET.zip beside the run.
        precisions: None for all that the run has for this target.
        sign: A PEM file with an Ed25519 private key; None to leave it unsigned.
    """

    run: Path
    target: str
    out: Path | None = None
    precisions: tuple[Precision, ...] | None = None
    calibration: Path | None = None
    sign: Path | None = None
    allow_random: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An archive that is complete.

    Attributes:
        path: The zip file.
        notes: What has to be known of it.
        bundle_sha256: Of its ``bundle.json``, which names the hash of every other file.
        files: Names of all files in it.
    """

    path: Path
    sha256: str
    size_bytes: int
    network: str
    target: str
    precisions: tuple[Precision, ...]
    notes: tuple[str, ...]
    bundle_sha256: str
    files: tuple[str, ...]
    signed: bool

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``bundle --json``."""
        return asdict(self) | {"path": str(self.path)}


def make_bundle(request: BundleRequest, started: Callable[[str], None]) -> Bundle:
    """Write the archive of a run for a target.

    Args:
        request: What shall be shipped.
        started: Told what is being done.

    Raises:
        ConfigError: The weights are random, or the run has not what was asked for.
        UnsafeError: A file of the run was changed.
        VerificationError: A graph is not the FP32 graph in its precision.
        FileAccessError: The archive exists.
    """
    raise_all(_missing(request))
    run, target = require_run(request.run), find_target(request.target)
    if run.random and not request.allow_random:
        raise ConfigError(
            f"the weights of {run.path} are random (seed {run.seed})",
            "export with --weights, or --allow-random-weights to try the way to the device",
        )
    classes = run.config.num_classes if run.outputs == LOGITS else 0
    labels = run.labels if classes else ()  # without classes there is nothing to name
    if labels and len(labels) != classes:
        raise ConfigError(f"{len(labels)} labels, and the network has {classes} classes")
    graphs = choose_graphs(run, target, request.precisions)
    name = f"{run.config.name}-{target.name}.zip"
    final = run.path.parent / name if request.out is None else request.out
    require_new(final)
    key = None if request.sign is None else read_key(request.sign, "private")
    started("comparing every graph with what it was made from")
    with tempfile.TemporaryDirectory(prefix="swin-deploy.") as scratch:
        require_conversions(run.manifest, lambda name: run.file(name).copy_to(Path(scratch)))
    started("running the eager network")
    references, contents = make_references(run, tuple(graphs), request.calibration)
    files: dict[str, bytes | Recorded] = dict(contents)
    if run.config.in_channels in PHOTO_CHANNELS:
        files |= make_photo(run)
    files |= {graph: run.file(graph) for graph in graphs.values()}
    if labels:
        files[LABELS] = run.file(LABELS)
    files[PROGRAM] = make_zipapp()
    files[GUIDE] = write_guide(run, target, tuple(graphs))
    notes = tuple(filter(None, (form_note(run, target), never_run_note(run, target))))
    started("writing the archive")
    facts = _describe(run, target, graphs, references, files, classes, notes)
    content = (json.dumps(facts.as_dict(), indent=2) + "\n").encode()
    files[BUNDLE] = content
    if key is not None:
        files[SIGNATURE] = sign(key, content)
    write_archive(final, files)
    return Bundle(
        path=final,
        sha256=sha256(final),
        size_bytes=final.stat().st_size,
        network=run.config.name,
        target=target.name,
        precisions=tuple(graphs),
        notes=notes,
        bundle_sha256=hashlib.sha256(content).hexdigest(),
        files=tuple(sorted(files)),
        signed=key is not None,
    )


def _missing(request: BundleRequest) -> Iterator[SwinDeployError]:
    """What a look finds wrong."""
    yield from caught(find_target, request.target)
    yield from caught(require_run, request.run)
    if request.out is not None:
        yield from caught(require_new, request.out)
    if request.calibration is not None:
        yield from caught(require_images, request.calibration, "calibration")
    if request.sign is not None:
        yield from caught(read_key, request.sign, "private")


def _describe(
    run: Run,
    target: Target,
    graphs: dict[Precision, str],
    references: dict[str, Reference],
    files: dict[str, bytes | Recorded],
    classes: int,
    notes: tuple[str, ...],
) -> Contents:
    return Contents(
        tool=Tool(name="swin-deploy", version=swin_deploy.__version__),
        network=run.config.name,
        weights=run.header.weights.as_dict(),
        image_size=run.config.image_size,
        batch=run.batch,
        outputs=run.outputs,
        interface=run.interface,
        preprocessing=run.preprocessing,
        classes=classes,
        labels=LABELS if LABELS in files else None,
        target=target.name,
        recipe=asdict(target),
        graphs={
            precision: Graph(
                file=name,
                reference=reference_of(precision),
                floors_db=floors_of(run, target, precision),
                extreme_floor_db=extreme_floor_of(run, target, precision),
            )
            for precision, name in graphs.items()
        },
        references=references,
        photo=Photo(file=PHOTO, tensor=TENSOR) if PHOTO in files else None,
        notes=notes,
        files={name: _fingerprint(files[name]) for name in sorted(files)},
    )


def _fingerprint(content: bytes | Recorded) -> BundledFile:
    found = content if isinstance(content, bytes) else content.read()
    return BundledFile(sha256=hashlib.sha256(found).hexdigest(), bytes=len(found))
