"""JSON files of runs -> their contents, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swin_deploy.bench.report import BenchReport
from swin_deploy.errors import InputError
from swin_deploy.evaluate.report import EvaluateReport
from swin_deploy.files import refuse_impostors
from swin_deploy.records import decode, load_json
from swin_deploy.scaling.report import ScalingReport
from swin_deploy.sensitivity.report import SensitivityReport
from swin_deploy.verify.comparison import VerifyReport
from swin_deploy.verify.report import ChecksReport


@dataclass(frozen=True, slots=True)
class Kind:
    """A file that a report reads.

    Attributes:
        name: Of the file in a run folder.
        schemas: Its versions that are read alike; another one is refused.
        keys: That tell it from the others.
        content: What becomes of it.
        command: Makes it of a run.
        wanted: What a report lacks without it; "" where few have it.
        part: Of the content, that may be empty; nothing is lacking where it has rows.
    """

    name: str
    schemas: tuple[int, ...]
    keys: tuple[str, ...]
    content: type[Any]
    command: str
    wanted: str = ""
    part: str = ""

    def lacks(self, content: object | None) -> bool:
        """Whether a content has not what is wanted of it; None is no file."""
        return content is None or (bool(self.part) and not getattr(content, self.part))


KINDS = (
    Kind(
        *("verify.json", (2, 3), ("comparisons", "reference"), VerifyReport),
        "swin-deploy export --out {run}",
    ),
    Kind(
        *("bench.json", (3, 4), ("measurements", "rounds"), BenchReport),
        *("swin-deploy bench --engine {run}", "latency and throughput"),
    ),
    Kind(
        *("evaluate.json", (1,), ("artifacts", "pairs"), EvaluateReport),
        *("swin-deploy evaluate {run} --data PHOTOS", "accuracy on labelled photos"),
    ),
    Kind(
        *("checks.json", (1, 2), ("bisections",), ChecksReport),
        *("swin-deploy verify {run} --bisect", "error along the depth", "bisections"),
    ),
    Kind(
        "scaling.json", (1,), ("points", "fits"), ScalingReport, "swin-deploy scaling --out {run}"
    ),
    Kind(
        *("sensitivity.json", (1,), ("places", "mixed"), SensitivityReport),
        "swin-deploy sensitivity {run} --calibration PHOTOS",
    ),
)


def read_content(path: Path, kind: Kind) -> Any:
    """The content of a file that should be of that kind.

    Raises:
        InputError: It is not, or is one of another version; names the key.
    """
    again = kind.command.format(run="RUN")
    found = _read(path, again)
    version = decode(int, found.get("schema_version"), path, again, "schema_version")
    if version not in kind.schemas:
        raise InputError(
            f"{path} has schema version {version}, this version of swin-deploy reads "
            f"{' or '.join(map(str, kind.schemas))}",
            f"{again}, with the same version",
        )
    return decode(kind.content, found, path, again, newer=True)


def recognise(path: Path) -> Kind:
    """Which kind a JSON file is of, told by its keys.

    Raises:
        InputError: Of none.
    """
    hint = ", ".join(kind.name for kind in KINDS) + " of any machine, or a run folder"
    found = _read(path, hint)
    for kind in KINDS:
        if all(key in found for key in kind.keys):
            return kind
    raise InputError(f"{path} is no report of swin-deploy", hint)


def _read(path: Path, hint: str) -> dict[str, Any]:
    refuse_impostors(path, "a report in JSON")
    return load_json(path, hint)
