"""What a run folder says about itself: stages, their inputs, and the hashes of what they wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import swin_deploy
from swin_deploy.files import digest, read_json, sha256
from swin_deploy.installed import package_version

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """One finished stage.

    Attributes:
        key: Digest of everything that its outputs depend on.
        outputs: Path inside the run folder -> sha256.
        details: What the stage found out, for people and for later stages.
        seconds: Wall-clock time that it took.
    """

    key: str
    outputs: dict[str, str]
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class Manifest:
    """The commit record of a run folder: a file that it does not list does not count.

    Attributes:
        header: Variant, weights and batch of the run.
        stages: Stage name -> record, in the order in which they ran.
    """

    header: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, StageRecord] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that ``read_manifest`` reads back."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": {"name": "swin-deploy", "version": swin_deploy.__version__},
            **self.header,
            "stages": {name: asdict(record) for name, record in self.stages.items()},
        }

    def outputs(self) -> dict[str, str]:
        """Path inside the run folder -> sha256, over all stages."""
        return {
            path: value for record in self.stages.values() for path, value in record.outputs.items()
        }


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in ``path``; None if it is missing, damaged or of another schema version."""
    data = read_json(path)
    if data is None or data.pop("schema_version", None) != SCHEMA_VERSION:
        return None
    data.pop("tool", None)
    try:
        stages = {name: StageRecord(**record) for name, record in data.pop("stages").items()}
    except (KeyError, TypeError, AttributeError):
        return None
    return Manifest(header=data, stages=stages)


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


@cache
def source_digest() -> str:
    """Digest of this package's own code: a changed stage is a stage that has to run again."""
    root = Path(swin_deploy.__file__).parent
    return digest({str(p.relative_to(root)): sha256(p) for p in sorted(root.rglob("*.py"))})
