"""Libraries that do not install, rebuilt after their sources: Microsoft, OpenMMLab, WZMIAOMIAO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from parity import (
    DAMAGED_DB,
    Case,
    Source,
    check,
    damaged,
    must_bite,
    open_case,
    params,
    save_as,
)
from rebuilt_sources import MICROSOFT, classifier, detector, source
from swin_deploy.core.errors import ConfigError
from swin_deploy.network.catalogue import VARIANTS
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.interface import Size

DETECTION = source(
    "microsoft detection",
    "Microsoft, backbone of a detector",
    save_as("pth", detector),
    classifies=False,
    stage_norms=True,
)
WZMIAOMIAO = source("wzmiaomiao", "WZMIAOMIAO", save_as("pth"))
MMPRETRAIN = source("mmpretrain", "OpenMMLab, classifier", save_as("pth", classifier))
MMDET = source(
    "mmdet",
    "OpenMMLab, backbone of a detector or segmenter",
    save_as("pth", detector),
    classifies=False,
    stage_norms=True,
)

# The smallest V2 as if it came from a pre-training with smaller windows.
SCALED = Case(
    source=MICROSOFT,
    variant="swinv2_t_w8",
    told=True,
    changes=(("pretrained_window_sizes", (6, 6, 6, 3)),),
)
CASES = (
    SCALED,
    Case(source=MICROSOFT, variant="swin_t"),
    Case(source=MICROSOFT, variant="swin_t", size=(224, 448)),
    Case(source=MICROSOFT, variant="swin_t", told=True, changes=(("position_bias", False),)),
    Case(source=MICROSOFT, variant="swin_s"),
    Case(source=MICROSOFT, variant="swin_b_384"),
    Case(source=MICROSOFT, variant="swin_b_384", size=(192, 384)),
    Case(source=MICROSOFT, variant="swinv2_t_w8"),
    Case(source=MICROSOFT, variant="swinv2_t_w8", size=(256, 512)),
    Case(source=MICROSOFT, variant="swinv2_t_w8", size=(128, 256)),
    Case(source=MICROSOFT, variant="swinv2_t_w16", size=(256, 512)),
    Case(source=MICROSOFT, variant="swinv2_b_w12to16"),
    Case(source=DETECTION, variant="swin_t"),
    Case(source=DETECTION, variant="swin_t", size=(230, 250)),
    Case(source=DETECTION, variant="swin_t", size=(128, 200)),
    Case(source=DETECTION, variant="swin_s", size=(230, 250)),
    Case(source=WZMIAOMIAO, variant="swin_t"),
    Case(source=WZMIAOMIAO, variant="swin_t", size=(230, 250)),
    Case(source=WZMIAOMIAO, variant="swin_t", size=(224, 250)),
    Case(source=WZMIAOMIAO, variant="swin_s", size=(230, 250)),
    Case(source=MMPRETRAIN, variant="swin_t"),
    Case(source=MMPRETRAIN, variant="swin_t", size=(230, 250)),
    Case(source=MMPRETRAIN, variant="swin_t", size=(224, 448)),
    Case(source=MMPRETRAIN, variant="swin_s", size=(230, 250)),
    Case(source=MMDET, variant="swin_t"),
    Case(source=MMDET, variant="swin_t", size=(230, 250)),
    Case(source=MMDET, variant="swin_t", size=(128, 200)),
    Case(source=MMDET, variant="swin_s", size=(230, 250)),
)
LARGE = (
    "microsoft swin_b_384 384x384",
    "microsoft swinv2_b_w12to16 256x256",
    "microsoft detection swin_s 230x250",
    "wzmiaomiao swin_s 230x250",
    "mmpretrain swin_s 230x250",
    "mmdet swin_s 230x250",
)


@pytest.mark.parametrize("case", params(CASES, LARGE))
def test_their_files_compute_what_their_code_computes(case: Case) -> None:
    check(case)


BITES = (
    (Case(source=MICROSOFT, variant="swin_t"), {"stop_shift": "never"}),
    (Case(source=MICROSOFT, variant="swin_t", size=(224, 448)), {"stop_shift": "axis"}),
    (
        Case(source=MICROSOFT, variant="swinv2_t_w8", size=(128, 256)),
        {"small_grids": "shrink_axis"},
    ),
    (SCALED, {"pretrained_window_sizes": ()}),
    (Case(source=DETECTION, variant="swin_t"), {"stop_shift": "both"}),
    (Case(source=DETECTION, variant="swin_t", size=(230, 250)), {"padding": "after_roll"}),
    (Case(source=WZMIAOMIAO, variant="swin_t"), {"stop_shift": "both"}),
    (Case(source=WZMIAOMIAO, variant="swin_t", size=(224, 250)), {"patch_remainder": "pad"}),
    (Case(source=WZMIAOMIAO, variant="swin_t", size=(230, 250)), {"padding": "after_roll"}),
    (Case(source=MMPRETRAIN, variant="swin_t"), {"merge_order": "columns"}),
    (Case(source=MMPRETRAIN, variant="swin_t"), {"merge_order": "rows"}),
    (Case(source=MMPRETRAIN, variant="swin_t"), {"stop_shift": "never"}),
    (Case(source=MMPRETRAIN, variant="swin_t", size=(224, 448)), {"stop_shift": "axis"}),
    (Case(source=MMDET, variant="swin_t"), {"stop_shift": "both"}),
    (Case(source=MMDET, variant="swin_t"), {"merge_order": "columns"}),
)


@pytest.mark.parametrize(("case", "changes"), BITES, ids=str)
def test_another_rule_computes_something_else(case: Case, changes: dict[str, Any]) -> None:
    must_bite(case, changes)


def test_a_table_of_position_biases_is_not_nothing() -> None:
    opened = open_case(Case(source=MICROSOFT, variant="swin_t"))
    tensors = {k: v for k, v in opened.checkpoint.tensors.items() if "bias_table" not in k}
    without = replace(opened, checkpoint=replace(opened.checkpoint, tensors=tensors))
    assert damaged(without, position_bias=False) < DAMAGED_DB


@pytest.mark.parametrize(
    ("library", "size", "reason"),
    [
        (MICROSOFT, (230, 250), "not a multiple of the patch size 4"),
        (MICROSOFT, (232, 232), "windows of 7 do not tile"),
        (MMPRETRAIN, (160, 160), "5 tokens along it, fewer than windows of 7 need"),
    ],
    ids=str,
)
def test_a_size_that_the_library_refuses_is_refused(
    library: Source, size: Size, reason: str, tmp_path: Path
) -> None:
    model = library.make(VARIANTS["swin_t"].config)
    with pytest.raises(AssertionError):
        model(torch.zeros(1, 3, *size))
    path = library.save(model, tmp_path)
    with pytest.raises(ConfigError, match=reason):
        load_checkpoint(path, LoadOptions(image_size=size))
