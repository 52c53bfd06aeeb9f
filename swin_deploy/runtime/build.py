"""Compiles a bundle's graphs here, proves the engines by its references, and then names them."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from swin_deploy.core.errors import (
    EnvironmentMissingError,
    InputError,
    UnsafeError,
    VerificationError,
)
from swin_deploy.core.files import (
    Recorded,
    digest,
    is_intact,
    require_writable,
    sha256,
    sync,
    write_json,
)
from swin_deploy.core.own_files import lock_own, own_folder
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.build import TIMEOUT_S, BuiltEngine, build_engine
from swin_deploy.engine.open import looks_at, open_engine, why_not_here
from swin_deploy.engine.runners.base import Runner, run_all
from swin_deploy.engine.targets import find_target
from swin_deploy.measure.verify import Comparison, Verification, compare_outputs
from swin_deploy.measure.verify.comparison import NO_PHOTOS
from swin_deploy.network.interface import Precision, new_seed
from swin_deploy.network.judge import FloatArray, powers_of
from swin_deploy.runtime.record import (
    LOCK,
    RECORD,
    WORK,
    Built,
    Record,
    find_former,
    find_unlisted,
    no_record,
    read_record,
)
from swin_deploy.runtime.trust import ENGINES, EXTREME, Reference, UnpackedBundle


def check_photo(shipped: UnpackedBundle) -> str | None:
    """Prove that photos become here what they became where the bundle was made, to the bit.

    Returns:
        Why that was not done; None if it was, or if the network takes no photos.
    """
    if shipped.photo is None:
        return None
    from swin_deploy.data.images import load_photo, require_pillow

    try:
        require_pillow()
    except EnvironmentMissingError:  # such a device reads none, and engines are given arrays
        return "Pillow is not here, so photos were not compared"
    photo = shipped.folder / shipped.photo.file
    expected = read_array(shipped.file(shipped.photo.tensor))
    found = load_photo(photo, shipped.image_size, shipped.preprocessing)
    if found.shape != expected.shape or not np.array_equal(found, expected):
        worst = (
            f"by up to {np.abs(found - expected).max():.3g}"
            if found.shape == expected.shape
            else f"in shape: {found.shape}, not {expected.shape}"
        )
        raise VerificationError(
            f"{photo} is read differently by the Pillow of this machine, {worst}; nothing was "
            "published",
            "another version of Pillow",
        )
    return None


def compare_engine(
    shipped: UnpackedBundle, precision: Precision, path: Path, sizes: Sequence[int]
) -> list[Comparison]:
    """Compare an engine with eager PyTorch, at several batch sizes and with one image in each slot.

    Args:
        shipped: The bundle.
        precision: Of the engine; selects reference and floors.
        path: The engine: built here just now.
        sizes: Numbers of images, of ``BatchRange.checked_sizes``.
    """
    graph, target = shipped.graphs[precision], find_target(shipped.target)
    images, expected = _read(shipped, shipped.references[graph.reference])
    taken = shipped.image_input(precision)
    rows: list[Comparison] = []
    strange, eager = _read(shipped, shipped.references[EXTREME])
    # By the floors that the bundle records, which ship with their evidence.
    for before in looks_at(target, shipped.interface):
        with open_engine(target, precision, path, image_input=taken, before=before) as runner:
            for count in sizes:
                slots = np.arange(count) % len(images)
                for name, chosen in (
                    (f"{graph.reference} x{count}", slots),
                    (f"{graph.reference}, one x{count}", np.zeros_like(slots)),
                ):
                    part = images[chosen]
                    found = _compare(runner, name, part, expected, chosen, shipped, precision)
                    rows += [row.held_to(graph.floors_db) for row in found]
            every = np.arange(len(strange))
            found = _compare(runner, EXTREME, strange, eager, every, shipped, precision)
        if graph.extreme_floor_db is None:
            rows += [row.not_judged(NO_PHOTOS) for row in found]
        else:
            rows += [replace(row, floor_db=graph.extreme_floor_db) for row in found]
    return rows


def _read(
    shipped: UnpackedBundle, reference: Reference
) -> tuple[FloatArray, dict[str, FloatArray]]:
    images = read_array(shipped.file(reference.inputs))
    return images, {n: read_array(shipped.file(f)) for n, f in reference.outputs.items()}


def _compare(
    runner: Runner,
    name: str,
    images: FloatArray,
    expected: dict[str, FloatArray],
    slots: np.ndarray,
    shipped: UnpackedBundle,
    precision: Precision,
) -> list[Comparison]:
    return compare_outputs(
        runner.name,
        name,
        {output: array[slots] for output, array in expected.items()},
        run_all(runner, images),
        precision,
        powers_of([expected], shipped.interface),
        interface=shipped.interface,
    )


def read_array(file: Recorded) -> FloatArray:
    """An array of the bundle."""
    path, content = file.path, file.read()
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path} is no array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype != np.float32 or not len(array):
        raise InputError(f"{path} is no array of float32")
    return array


_SCRATCH = WORK[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An engine that was built and proved here.

    Attributes:
        precision: Of its graph.
        path: The engine.
        engine: What its compiler says.
        verification: How far it is from eager PyTorch.
        seconds: Wall-clock time of both.
    """

    precision: Precision
    path: Path
    engine: BuiltEngine
    verification: Verification
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``build --json`` prints."""
        return {
            "precision": self.precision,
            "path": str(self.path),
            "engine": asdict(self.engine),
            "verification": self.verification.as_dict(),
            "seconds": round(self.seconds, 2),
        }


def build_bundle(
    shipped: UnpackedBundle, precisions: Sequence[Precision], started: Callable[[str], None]
) -> list[Published]:
    """Build, verify and publish the engines of some precisions, one after the other.

    Args:
        shipped: The bundle, whose files were checked.
        precisions: Of graphs that it has.
        started: Told what is being done.

    Raises:
        VerificationError: An engine, or a photo, is not what it has to be. Nothing of it was
            published; engines that were there before are as they were.
        UnsafeError: Something lies among the engines that no build made; likewise.
        SwinDeployError: Something is missing here; likewise.
    """
    require_writable(shipped.folder, "a copy of the bundle in a folder that you own")
    engines = own_folder(shipped.folder, ENGINES)
    require_writable(engines, "a copy of the bundle in a folder that you own")
    with lock_own(engines / LOCK, str(engines), "wait for it"):
        _clear(shipped, engines)
        started("reading the reference photo")
        if (skipped := check_photo(shipped)) is not None:
            started(f"note: {skipped}")
        return [_build(shipped, precision, started) for precision in precisions]


def _clear(shipped: UnpackedBundle, engines: Path) -> None:
    """Remove what earlier builds left, and refuse what is none of ours to remove.

    Engines that were replaced go now, and not when they were: a program that had read the record
    until then has found them meanwhile. Where the record cannot be read, all stay for this build.
    """
    for path in engines.iterdir():
        if path.name.startswith(WORK) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    record = _former(shipped)
    for path in find_unlisted(engines, record or no_record(shipped)):
        if path != shipped.folder / RECORD:
            raise UnsafeError(f"{path} is listed in no {RECORD}", "move it elsewhere")
    for path in () if record is None else find_former(engines, record):
        gone = engines / f"{_SCRATCH}{path.name}"  # at once, for those who load meanwhile
        shutil.rmtree(path.rename(gone))


def _build(
    shipped: UnpackedBundle, precision: Precision, started: Callable[[str], None]
) -> Published:
    start = time.monotonic()
    target, engines = find_target(shipped.target), shipped.folder / ENGINES
    if target.one_device and (problem := why_not_here(target)) is not None:
        raise EnvironmentMissingError(
            f"{shipped.folder} is for {target.name}: {problem}", "build it on that device"
        )
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=engines) as scratch:
        final = Path(scratch) / "engine" / Path(target.engine_name(precision)).name
        started(f"compiling {precision} for {target.name}")
        source = shipped.file(shipped.graphs[precision].file).copy_to(Path(scratch))
        built = build_engine(target, source, final, shipped.batch, Path(scratch) / "build.log")
        sizes = shipped.batch.checked_sizes(new_seed())
        numbers = ", ".join(map(str, sizes))
        started(f"verifying {precision} against the reference outputs at batch {numbers}")
        try:
            rows = run_in_child(  # a compiler's mistake may crash whoever runs its engine
                compare_engine,
                Path(scratch) / "verify.log",
                TIMEOUT_S,
                shipped,
                precision,
                final,
                sizes,
            )
        except EnvironmentMissingError as error:
            raise EnvironmentMissingError(
                f"{final.name} was compiled and cannot be verified here, so it was not published: "
                f"{error.problem}",
                error.hint,
            ) from error
        verification = Verification(tuple(rows), {})
        verification.require()
        path = _publish(
            shipped, precision, final.parent, target.engine_files(precision), built, verification
        )
    return Published(
        precision=precision,
        path=path,
        engine=built,
        verification=verification,
        seconds=time.monotonic() - start,
    )


def _publish(
    shipped: UnpackedBundle,
    precision: Precision,
    folder: Path,
    files: tuple[str, ...],
    built: BuiltEngine,
    verification: Verification,
) -> Path:
    """Move a proved engine into a folder of its own, named after its content; the record goes last.

    Until the record is replaced the former engine counts, and its files stay until the next build.
    """
    engines = shipped.folder / ENGINES
    hashes = {Path(name).name: sha256(folder / Path(name).name) for name in files}
    for name, value in hashes.items():
        if built.written.files.get(Path(name).suffix) != value:
            raise VerificationError(
                f"{name} is not what its compiler wrote: something has changed it since; nothing "
                "was published",
                "build again",
            )
    final = engines / digest(hashes)[:16]
    for name in hashes:
        sync(folder / name)
    if final.is_symlink():
        final.unlink()
    if final.exists() and not all(is_intact(final / name, value) for name, value in hashes.items()):
        shutil.rmtree(final)  # the same engine, damaged since
    if not final.exists():
        folder.replace(final)
        sync(engines)
    entry = Built(
        files={f"{ENGINES}/{final.name}/{name}": value for name, value in hashes.items()},
        built_for=built.built_for,
        verification=verification.as_dict(),
    )
    former = _former(shipped) or no_record(shipped)
    record = replace(former, engines=former.engines | {precision: entry})
    write_json(shipped.folder / RECORD, record.as_dict())
    return final / next(iter(hashes))


def _former(shipped: UnpackedBundle) -> Record | None:
    """What was built before; None where the record of it does not count, as it is replaced."""
    try:
        return read_record(shipped)
    except (InputError, UnsafeError):
        return None
