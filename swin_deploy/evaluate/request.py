"""What an evaluation is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swin_deploy.errors import ConfigError
from swin_deploy.variants import Variant
from swin_deploy.workers.crew import require_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """One evaluation.

    Attributes:
        artifacts: Run folders, files in one, or ONNX files; others are compared with the first.
        data: Labelled photos, as of ``find_labelled``.
        labels: A list of photos in the folder ``data``, with their labels.
        class_map: What those labels are called, as ``read_class_map`` reads it.
        sorted_folders: Class folders count in sorted order.
        eager: Evaluate the eager network of the first artifact's run too, before all others.
        limit: At most so many photos, drawn by ``seed``; None for all.
        seed: Of that sample.
        batch: Images that an artifact gets at a time, where it takes as many.
        threads: Of a runtime on the CPU, in every worker.
        workers: Processes, or actors on Ray; None for one, or as many as the cluster has room for.
        ray: Address of a Ray cluster, or "local" to start one here; None for none.
        variant: The network of ONNX files that belong to no run.
        out: The report; None for ``evaluate.json`` in the first run.

    Raises:
        ConfigError: A setting means nothing, or two of them contradict each other.
    """

    artifacts: tuple[Path, ...]
    data: Path
    labels: Path | None = None
    class_map: Path | None = None
    sorted_folders: bool = False
    eager: bool = False
    limit: int | None = None
    seed: int = 0
    batch: int = 16
    threads: int = 1
    workers: int | None = None
    ray: str | None = None
    variant: Variant | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise ConfigError("no artifact was named", "swin-deploy evaluate RUN --data PHOTOS")
        require_counts(batch=self.batch, threads=self.threads, workers=self.workers)
        if self.sorted_folders and self.class_map is not None:
            raise ConfigError(
                "--sorted-folders and --class-map both say which folder is which class",
                "one of them",
            )
