"""Compiles a bundle's graphs here, proves the engines, and only then gives them their names."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from swin_deploy.batches import new_seed
from swin_deploy.child import run_in_child
from swin_deploy.engine.build import TIMEOUT_S, BuiltEngine, build_engine
from swin_deploy.engine.open import why_not_here
from swin_deploy.engine.targets import find_target
from swin_deploy.errors import (
    EnvironmentMissingError,
    InputError,
    UnsafeError,
    VerificationError,
)
from swin_deploy.files import digest, require_writable, sha256, sync, write_json
from swin_deploy.own_files import lock_own, own_folder
from swin_deploy.precisions import Precision
from swin_deploy.runtime.check import check_photo, compare_engine
from swin_deploy.runtime.record import (
    LOCK,
    RECORD,
    WORK,
    Built,
    Record,
    find_former,
    find_strangers,
    no_record,
    read_record,
)
from swin_deploy.runtime.shipped import ENGINES, Shipped
from swin_deploy.verify import Verification

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
    shipped: Shipped, precisions: Sequence[Precision], started: Callable[[str], None]
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


def _clear(shipped: Shipped, engines: Path) -> None:
    """Remove what earlier builds left, and refuse what is none of ours to remove.

    Engines that were replaced go now, and not when they were: a program that had read the record
    until then has found them meanwhile. Where the record cannot be read, all stay for this build.
    """
    for path in engines.iterdir():
        if path.name.startswith(WORK) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    record = _former(shipped)
    for path in find_strangers(engines, record or no_record(shipped)):
        if path != shipped.folder / RECORD:
            raise UnsafeError(f"{path} is listed in no {RECORD}", "move it elsewhere")
    for path in () if record is None else find_former(engines, record):
        gone = engines / f"{_SCRATCH}{path.name}"  # at once, for those who load meanwhile
        shutil.rmtree(path.rename(gone))


def _build(shipped: Shipped, precision: Precision, started: Callable[[str], None]) -> Published:
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
    shipped: Shipped,
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
    if final.exists() and any(_hash(final / name) != value for name, value in hashes.items()):
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


def _hash(path: Path) -> str | None:
    return sha256(path) if path.is_file() and not path.is_symlink() else None


def _former(shipped: Shipped) -> Record | None:
    """What was built before; None where the record of it does not count, as it is replaced."""
    try:
        return read_record(shipped)
    except (InputError, UnsafeError):
        return None
