"""One archive with all that a device needs of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import swin_deploy
from swin_deploy.artifacts.reader import require_run
from swin_deploy.bundle.archive import make_zipapp, require_new, write_archive
from swin_deploy.bundle.guide import write_guide
from swin_deploy.bundle.references import (
    PHOTO,
    TENSOR,
    make_photo,
    make_references,
    reference_of,
)
from swin_deploy.bundle.signing import read_private_key, sign
from swin_deploy.bundle.source import Source, choose_graphs, form_note, never_run_note, read_source
from swin_deploy.data.sample import require_images
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import find_target
from swin_deploy.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.files import sha256
from swin_deploy.pipeline.context import LABELS
from swin_deploy.precisions import Precision
from swin_deploy.runtime.shipped import BUNDLE, SCHEMA_VERSION, Graph, Reference
from swin_deploy.runtime.trust import SIGNATURE

PROGRAM, GUIDE = "swin.pyz", "README.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleRequest:
    """What shall be shipped.

    Attributes:
        run: The folder of a finished run.
        target: What engines will be built for, on the device.
        out: The archive; None for NETWORK-TARGET.zip beside the run.
        precisions: Of the graphs; None for all that the run has for this target.
        calibration: Where the images lie that INT8 was calibrated on.
        sign: A PEM file with an Ed25519 private key; None to leave it unsigned.
        allow_random: Ship random weights.
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
        sha256: Of it.
        size_bytes: Of it.
        network: Name of the network.
        target: As asked for.
        precisions: Of the graphs in it.
        notes: What has to be known of it.
        bundle_sha256: Of its ``bundle.json``, which names the hash of every other file.
        files: Names of all files in it.
        signed: Whether it carries a signature.
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
        FileAccessError: The archive exists.
        SwinDeployError: As ``read_source``, ``make_references`` and ``read_private_key``.
    """
    raise_all(_missing(request))
    source, target = read_source(request.run), find_target(request.target)
    if source.random and not request.allow_random:
        raise ConfigError(
            f"the weights of {source.run.path} are random (seed {source.seed})",
            "export with --weights, or --allow-random-weights to try the way to the device",
        )
    classes = source.config.num_classes if source.outputs == "logits" else 0
    if source.labels and len(source.labels) != classes:
        raise ConfigError(f"{len(source.labels)} labels, and the network has {classes} classes")
    graphs = choose_graphs(source, target, request.precisions)
    name = f"{source.config.name}-{target.name}.zip"
    final = source.run.path.parent / name if request.out is None else request.out
    require_new(final)
    key = None if request.sign is None else read_private_key(request.sign)
    started("running the eager network")
    references, contents = make_references(source, tuple(graphs), request.calibration)
    files: dict[str, bytes | Path] = dict(contents)
    if source.config.in_channels in (1, 3):
        files |= make_photo(source)
    files |= {graph: source.run.checked(graph) for graph in graphs.values()}
    if source.labels:
        files[LABELS] = source.run.checked(LABELS)
    files[PROGRAM] = make_zipapp()
    files[GUIDE] = write_guide(source, target, tuple(graphs))
    notes = tuple(filter(None, (form_note(source, target), never_run_note(source, target))))
    started("writing the archive")
    facts = _describe(source, target, graphs, references, files, classes, notes)
    content = (json.dumps(facts, indent=2) + "\n").encode()
    files[BUNDLE] = content
    if key is not None:
        files[SIGNATURE] = sign(key, content)
    write_archive(final, files)
    return Bundle(
        path=final,
        sha256=sha256(final),
        size_bytes=final.stat().st_size,
        network=source.config.name,
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
        yield from caught(read_private_key, request.sign)


def _describe(
    source: Source,
    target: Target,
    graphs: dict[Precision, str],
    references: dict[str, Reference],
    files: dict[str, bytes | Path],
    classes: int,
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """The content of ``bundle.json``; ``runtime.shipped`` has what it means."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "swin-deploy", "version": swin_deploy.__version__},
        "network": source.config.name,
        "weights": source.weights,
        "image_size": list(source.config.image_size),
        "batch": asdict(source.batch),
        "outputs": source.outputs,
        "interface": asdict(source.interface),
        "preprocessing": asdict(source.preprocessing),
        "classes": classes,
        "labels": LABELS if source.labels else None,
        "target": target.name,
        "recipe": asdict(target),
        "graphs": {
            precision: asdict(
                Graph(
                    file=name,
                    reference=reference_of(precision),
                    floors_db=source.floors_db(target, precision),
                    extreme_floor_db=source.extreme_floor_db(target, precision),
                )
            )
            for precision, name in graphs.items()
        },
        "references": {name: asdict(reference) for name, reference in references.items()},
        "notes": list(notes),
        "photo": {"file": PHOTO, "tensor": TENSOR} if PHOTO in files else None,
        "files": {name: _fingerprint(files[name]) for name in sorted(files)},
    }


def _fingerprint(content: bytes | Path) -> dict[str, Any]:
    if isinstance(content, bytes):
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"sha256": sha256(content), "bytes": content.stat().st_size}
