"""What a compiler is told beside the graph, what it said while it built, and what it wrote."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from swin_deploy.core.errors import ConfigError
from swin_deploy.core.files import sha256

HardwareCompatible = Literal["none", "ampere_plus", "same_compute_capability"]
HARDWARE_COMPATIBLE: tuple[HardwareCompatible, ...] = get_args(HardwareCompatible)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderSettings:
    """How hard to search and in how much memory; None for what the library does by itself.

    Attributes:
        workspace_bytes: Device memory that a kernel may use beside its inputs and outputs.
        max_tactics: Kernels to time for one layer.
    """

    optimisation_level: int | None = None
    workspace_bytes: int | None = None
    aux_streams: int | None = None
    max_tactics: int | None = None

    def __post_init__(self) -> None:
        level = self.optimisation_level
        if level is not None and not 0 <= level <= 5:
            raise ConfigError(f"optimisation level {level} is not from 0 to 5", "--opt-level 3")
        for name, least in (("workspace_bytes", 1), ("aux_streams", 0), ("max_tactics", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} = {value}", f"{least} or more")


LIBRARY_DEFAULTS = BuilderSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions(BuilderSettings):
    """What a request says of its engines; fields are options of ``export``.

    Attributes:
        strip_weights: Implies ``refittable``.
        timing_cache: None for none.
    """

    version_compatible: bool = False
    hardware_compatible: HardwareCompatible = "none"
    strip_weights: bool = False
    refittable: bool = False
    timing_cache: Path | None = None

    @property
    def refits(self) -> bool:
        """Whether the plan can be refitted."""
        return self.refittable or self.strip_weights

    def __post_init__(self) -> None:
        BuilderSettings.__post_init__(self)
        if self.hardware_compatible not in HARDWARE_COMPATIBLE:
            raise ConfigError(
                f"hardware_compatible = {self.hardware_compatible!r}",
                " or ".join(HARDWARE_COMPATIBLE),
            )
        if self.version_compatible and self.refits:
            raise ConfigError(
                "a version-compatible plan cannot be refitted: the lean runtime that loads it has "
                "no refitter",
                "--version-compatible, or --refittable and --strip-weights",
            )

    def over(self, row: BuilderSettings) -> BuildOptions:
        """These, and those of a target where these say nothing."""
        names = [field.name for field in fields(BuilderSettings)]
        missing = {name: getattr(row, name) for name in names if getattr(self, name) is None}
        return replace(self, **missing)

    def given(self) -> dict[str, Any]:
        """What a request says, by the names of the fields; not where the timings lie."""
        values = {f.name: (getattr(self, f.name), f.default) for f in fields(self)}
        del values["timing_cache"]
        return {name: value for name, (value, default) in values.items() if value != default}

    def as_spec(self) -> dict[str, object]:
        """What the plan depends on, JSON-able; timings are looked up faster with a cache."""
        names = [field.name for field in fields(self) if field.name != "timing_cache"]
        return {name: getattr(self, name) for name in names}


DEFAULT_OPTIONS = BuildOptions()

_EVERY_S = 0.1  # progress is told this often; new phases always
_WORDS = re.compile(r"[^\s\[\],;:()']+")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is.

    Attributes:
        phases: Names of the phases that are open, outermost first.
        done: Steps of the innermost one that are done.
        total: Of so many.
        node: The last node of the graph that the compiler named; empty if it named none.
    """

    phases: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    node: str = ""

    def __str__(self) -> str:
        """Where the build is, or was when it ended, in words."""
        where = " > ".join(self.phases) or "the start"
        steps = f", step {self.done} of {self.total}" if self.total else ""
        node = f"; the last node that it named is {self.node}" if self.node else ""
        return f"{where}{steps}{node}"


class BuildRecord:
    """Keeps what a logger and a monitor hear, and reports progress.

    Args:
        report: Gets every ``Progress`` worth telling.
    """

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.messages: list[str] = []
        self.nodes: frozenset[str] = frozenset()  # of the graph, to know them by
        self._report = report
        self._errors: list[str] = []
        self._open: list[tuple[str, int]] = []
        self._node = ""
        self._done = 0
        self._told_at = 0.0
        self.latest = Progress()  # phases end as a build fails: where it was when it last went on

    @property
    def progress(self) -> Progress:
        """How far it is."""
        phases = tuple(name for name, _ in self._open)
        return Progress(phases, self._done, self._open[-1][1] if self._open else 0, self._node)

    @property
    def errors(self) -> str:
        """The last errors, on one line."""
        return "; ".join(self._errors[-3:])

    def heard(self, severity: str, message: str) -> None:
        """Take a message; print it into the log of the build, unless it is chatter."""
        self.messages.append(message)
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(message)
        if severity != "VERBOSE":
            print(f"{severity}: {message}", flush=True)
        named = next((word for word in _WORDS.findall(message[:400]) if word in self.nodes), "")
        if named and named != self._node:
            self._node = named
            self._tell(urgent=False)

    def started(self, phase: str, steps: int) -> None:
        """A phase begins, inside of those that are open."""
        self._open.append((phase, steps))
        self._done = 0
        self._tell(urgent=True)

    def stepped(self, phase: str, step: int) -> None:
        """A step of a phase, counted from 0, is done."""
        if self._open and self._open[-1][0] == phase:
            self._done = step + 1
            self._tell(urgent=False)

    def finished(self, phase: str) -> None:
        """A phase ends, and so does whatever was left open inside of it."""
        names = [name for name, _ in self._open]
        if phase in names:
            del self._open[len(names) - 1 - names[::-1].index(phase) :]
        self._done = 0

    def _tell(self, urgent: bool) -> None:
        self.latest = self.progress
        now = time.monotonic()
        if urgent or now - self._told_at >= _EVERY_S:
            self._told_at = now
            self._report(self.latest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Hashes that the compiler's own process has taken: whoever reads the files compares them.

    Two builds of one graph need not give the same bytes, so that only the process that made a file
    knows what it has to be.

    Attributes:
        graph: SHA-256 of the ONNX file that was compiled.
        files: Suffix of a file of the engine -> its SHA-256.
    """

    graph: str
    files: dict[str, str]


def written(source: Path, *finals: Path) -> Written:
    """Of files that this process has just written."""
    return Written(graph=sha256(source), files={f.suffix: sha256(f) for f in finals})
