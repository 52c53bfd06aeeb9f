"""A run of a network whose windows shift in every stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import POCKET, Silent
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline.request import ExportRequest
from swin_deploy.pipeline.run import run_export
from swin_deploy.run.finished import Run, require_run

# Windows shift, and so have a mask, in every stage: grids 32x32, 16x16 and 8x8 in windows of 4.
MASKED = replace(POCKET, config=replace(POCKET.config, name="masked", patch_size=2))


@pytest.fixture(scope="session")
def masked_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of it in FP32 and FP16, batch 1 to 4. Tests must not change it."""
    request = ExportRequest(
        variant=MASKED,
        out=tmp_path_factory.mktemp("masked run"),
        batch=BatchRange(low=1, high=4),
        precisions=("fp32", "fp16"),
        targets=("cpu",),
    )
    return require_run(run_export(request, Silent()).path)
