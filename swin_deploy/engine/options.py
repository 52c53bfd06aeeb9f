"""What a compiler is told beside the graph: settings that a target has, and those of a request."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from swin_deploy.errors import ConfigError

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
