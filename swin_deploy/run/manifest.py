"""What a run folder says about itself: its network, and the stages with the hashes of their files.

A manifest is read by the classes that write it, and lies under its own digest: one that was edited
is refused, whatever was changed in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import swin_deploy
from swin_deploy.core.errors import ConfigError, InputError, UnsafeError
from swin_deploy.core.files import (
    digest,
    open_sealed,
    package_version,
    require_digest,
    seal,
    source_digest,
    write_json,
)
from swin_deploy.core.records import decode, load_json
from swin_deploy.network.catalogue import NetworkConfig, family_of
from swin_deploy.network.interface import (
    EMBEDDING,
    LOGITS,
    NO_EMBEDDING,
    BatchRange,
    Interface,
    Outputs,
    Preprocessing,
)
from swin_deploy.network.swin import SwinConfig
from swin_deploy.run.details import INT8_GRAPHS, MANIFEST, Details, Int8Details, decode_details
from swin_deploy.run.versions import require_listed

D = TypeVar("D", bound=Details)

SCHEMA_VERSION = 3  # 3: ``interface`` has an activation and a task
_TOOL = "swin-deploy"
_AGAIN = "export again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights of a run come from.

    Attributes:
        source: "random", or as of ``checkpoints.source.Source``, whose keys the others are.
        seed: Of random ones.
        file: Name of the checkpoint; of all others.
        sha256: Of the checkpoint.
        dialect: Whose names its tensors have.
    """

    source: str
    seed: int | None = None
    file: str | None = None
    sha256: str | None = None
    dialect: str | None = None
    repository: str | None = None
    revision: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        needed = ("seed",) if self.random else ("file", "sha256", "dialect")
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise ConfigError(f"weights of source {self.source!r} without {', '.join(missing)}")

    @property
    def random(self) -> bool:
        """Whether they predict nothing."""
        return self.source == "random"

    def as_dict(self) -> dict[str, Any]:
        """The JSON object, without what there is not."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """The photos that a run was verified on."""

    used: int
    found: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a run is of.

    Attributes:
        family: Key of ``network.catalogue.FAMILIES``.
        variant: The network.
        preprocessing: Of its photos.
        parameters: How many it has.
        weights: Where they come from.
        batch: That its graphs are for.
        outputs: What the network gives.
        interface: What the deployed graphs take and give.
        photos: That it was verified on, if any.
        never_run: Engine -> why the machine of the export could not run it.
        notes: What the user has to know.
    """

    family: str
    variant: NetworkConfig
    preprocessing: Preprocessing
    parameters: int
    weights: Weights
    batch: BatchRange
    outputs: Outputs
    interface: Interface
    photos: Photos | None
    never_run: dict[str, str]
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        if (found := family_of(self.variant)) != self.family:
            raise ConfigError(f"family = {self.family!r}, and the variant is of {found}")
        means, channels = len(self.preprocessing.mean), self.variant.in_channels
        if means != channels:
            raise ConfigError(f"preprocessing.mean has {means} values for {channels} channels")
        if self.outputs == LOGITS and not self.variant.num_classes:
            raise ConfigError("outputs = 'logits', and variant.num_classes = 0: it has no head")
        bare = isinstance(self.variant, SwinConfig) and not self.variant.has_norm
        if self.outputs == EMBEDDING and bare:
            raise ConfigError(f"outputs = 'embedding', and the variant {NO_EMBEDDING}")

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self) | {"weights": self.weights.as_dict()}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One finished stage.

    Attributes:
        key: Digest of everything that its outputs depend on.
        outputs: Path inside the run folder -> sha256.
        details: What the stage found out, for people and for later stages: JSON of the class that
            ``details.DETAILS`` has for it.
        seconds: Wall-clock time that it took.
    """

    key: str
    outputs: dict[str, str]
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Finished stages.

    Attributes:
        stages: Stage name -> record, in the order in which they ran.
    """

    stages: dict[str, StageRecord] = field(default_factory=dict)

    def outputs(self) -> dict[str, str]:
        """Path inside the run folder -> sha256, over all stages."""
        return {
            path: sha for record in self.stages.values() for path, sha in record.outputs.items()
        }

    def details(self, kind: type[D]) -> dict[str, D]:
        """What all stages of one kind found out, by their names."""
        read = {name: decode_details(name, r.details, MANIFEST) for name, r in self.stages.items()}
        return {name: found for name, found in read.items() if isinstance(found, kind)}

    def int8_floors_db(self) -> dict[str, float]:
        """INT8 graph -> what it and its engines have to reach on photos, in dB."""
        made = self.details(Int8Details)
        stages = {file: f"int8:{kind}" for kind, file in INT8_GRAPHS.items()}
        return {file: made[stage].floor_db for file, stage in stages.items() if stage in made}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(Stages):
    """The commit record of a run folder: a file that it does not list does not count.

    Attributes:
        header: What the run is of.
    """

    header: Header

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``parse_manifest`` reads back."""
        stages = {name: asdict(record) for name, record in self.stages.items()}
        head = this_tool() | self.header.as_dict()
        return seal(SCHEMA_VERSION, head | {"stages": stages})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content(Header):
    """A manifest as JSON has it."""

    stages: dict[str, StageRecord]


def this_tool() -> dict[str, Any]:
    """By which the manifest of a run, or the report of a fine-tuning, is told from any other."""
    return {"tool": {"name": _TOOL, "version": swin_deploy.__version__}}


def is_manifest(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object calls itself of this tool."""
    tool = data.get("tool")
    return isinstance(tool, dict) and tool.get("name") == _TOOL


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        InputError: There is none, or it is of another version, or does not fit; names the key.
        UnsafeError: It is not as it was written.
    """
    return parse_manifest(load_json(path, _AGAIN, finite=False), path)


def parse_manifest(data: dict[str, Any], where: Path) -> Manifest:
    """A manifest from JSON; errors as of ``read_manifest``."""
    if (version := data.get("schema_version")) != SCHEMA_VERSION:
        by = "an earlier version of this tool" if version == 1 else "another version of this tool"
        raise InputError(
            f"{where} has schema version {version!r}, written by {by}; this one reads "
            f"{SCHEMA_VERSION}",
            f"{_AGAIN}, with the same options: swin-deploy export",
        )
    content = open_sealed(_Content, data, where, _AGAIN, own=("tool",))
    for stage, record in content.stages.items():
        decode_details(stage, record.details, where)
        require_listed(record.outputs, where, _AGAIN)
    header = {name: getattr(content, name) for name in Header.__dataclass_fields__}
    return Manifest(header=Header(**header), stages=content.stages)


def write_stages(path: Path, stages: Stages) -> None:
    """Keep the stages of a run that is not finished."""
    listed = {name: asdict(record) for name, record in stages.stages.items()}
    write_json(path, seal(SCHEMA_VERSION, {"stages": listed}))


def read_stages(path: Path) -> Stages:
    """What ``write_stages`` kept; nothing where that cannot be read, and is done again then."""
    try:
        data = load_json(path, finite=False)
        require_digest(data, path, "")
        stages = decode(dict[str, StageRecord], data.get("stages"), path)
        for record in stages.values():
            require_listed(record.outputs, path, "")
        return Stages(stages=stages)
    except (InputError, UnsafeError):
        return Stages()


def plain_details(stage: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Details as JSON has them, once their class has read them."""
    plain: dict[str, Any] = json.loads(json.dumps(details))
    decode_details(stage, plain, f"stage {stage}")
    return plain


def stage_key(stage: str, spec: object, inputs: dict[str, str], packages: tuple[str, ...]) -> str:
    """Digest of what a stage's outputs depend on.

    Args:
        stage: Its name.
        spec: Its settings, JSON-able.
        inputs: Name -> sha256 of the files that it reads.
        packages: Distributions whose version may change its outputs.
    """
    return digest(
        {
            "stage": stage,
            "spec": spec,
            "inputs": inputs,
            "packages": {name: package_version(name) for name in packages},
            "source": source_digest(),
        }
    )
