"""What ``verify`` is asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swin_deploy.data.inputs import require_photos
from swin_deploy.errors import ConfigError, SwinDeployError, caught, raise_all
from swin_deploy.kept_reports import require_report
from swin_deploy.run.finished import require_run
from swin_deploy.verify.names import require_side
from swin_deploy.verify.report import KIND
from swin_deploy.verify.saved import require_npz, require_saved

_EARLIER = ("checks", "bisections")  # what reports have that do not say their kind


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """A run, and what of it is compared with what.

    Fields are the options of ``verify``; here is what its help does not say.

    Attributes:
        between: Reference first; empty for eager with everything that runs here.
        limit: None for all photos.
        batches: None for those of the run.
        out: None for ``checks.json`` in the run folder.

    Raises:
        ConfigError: Two of them contradict each other.
    """

    run: Path
    between: tuple[tuple[str, str], ...] = ()
    images: Path | None = None
    limit: int | None = None
    batches: tuple[int, ...] | None = None
    bisect: bool = False
    save: Path | None = None
    against: Path | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        raise_all(self.problems())

    def problems(self) -> Iterator[SwinDeployError]:
        """All that is wrong with it."""
        if self.limit is not None and self.limit < 1:
            yield ConfigError(f"limit = {self.limit} must be at least 1")
        if self.limit is not None and self.images is None:
            yield ConfigError("--limit is for photos, and none are named", "--images DIR")
        if self.batches is not None and min(self.batches) < 1:
            yield ConfigError(f"batches {self.batches}: each must be at least 1")
        others = {
            "--between": self.between,
            "--images": self.images,
            "--batches": self.batches,
            "--bisect": self.bisect,
            "--save": self.save,
        }
        if self.against is not None and (named := [name for name, v in others.items() if v]):
            yield ConfigError(
                f"--against takes inputs and names from its file, not {', '.join(named)}",
                "two commands",
            )
        for pair in self.between:
            if pair[0] == pair[1]:
                yield ConfigError(f"{pair[0]} is compared with itself", "--between eager,onnx")
        if self.save is not None:
            yield from caught(require_npz, self.save)

    def missing(self) -> Iterator[SwinDeployError]:
        """What a look finds wrong with the run, the photos, and what another machine saved."""
        try:
            run = require_run(self.run)
        except SwinDeployError as error:
            yield error
        else:
            for name in dict.fromkeys(name for pair in self.between for name in pair):
                yield from caught(require_side, run, name)
        if self.images is not None:
            yield from caught(require_photos, self.images)
        if self.against is not None:
            yield from caught(require_saved, self.against)
        yield from caught(self.require_place)

    def require_place(self) -> None:
        """Check that the report takes the place of nothing else.

        Raises:
            FileAccessError: It would.
        """
        require_report(self.report, KIND, _EARLIER)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.run / "checks.json" if self.out is None else self.out
