"""torchvision's Swin V1 and V2: what its files compute here is what it computes."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn

from libraries import outputs_of, torchvision_model
from parity import Case, Source, check, must_bite, params, save_as


def run(model: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    stages = [model.features[number] for number in (1, 3, 5, 7)]  # type: ignore[index]
    return outputs_of(model, stages, images)


TORCHVISION = Source(
    name="torchvision",
    dialect="torchvision",
    make=torchvision_model,
    save=save_as("pth"),
    run=run,
)

CASES = (
    Case(source=TORCHVISION, variant="swin_t"),
    Case(source=TORCHVISION, variant="swin_t", size=(230, 250)),
    Case(source=TORCHVISION, variant="swin_t", size=(224, 448)),
    Case(source=TORCHVISION, variant="swin_t", size=(112, 224)),
    Case(source=TORCHVISION, variant="swin_s"),
    Case(source=TORCHVISION, variant="swin_b"),
    Case(source=TORCHVISION, variant="swin_b", size=(230, 250)),
    Case(source=TORCHVISION, variant="swinv2_t_w8"),
    Case(source=TORCHVISION, variant="swinv2_t_w8", size=(230, 250)),
    Case(source=TORCHVISION, variant="swinv2_t_w8", size=(128, 256)),
    Case(source=TORCHVISION, variant="swinv2_s_w8"),
    Case(source=TORCHVISION, variant="swinv2_b_w8"),
    Case(source=TORCHVISION, variant="swinv2_b_w8", size=(230, 250)),
)
LARGE = (
    "torchvision swin_b 224x224",
    "torchvision swinv2_b_w8 256x256",
)


@pytest.mark.parametrize("case", params(CASES, LARGE))
def test_files_of_torchvision_compute_what_it_computes(case: Case) -> None:
    check(case)


BITES = (
    (Case(source=TORCHVISION, variant="swin_t", size=(230, 250)), {"padding": "after_roll"}),
    (Case(source=TORCHVISION, variant="swin_t", size=(230, 250)), {"patch_remainder": "pad"}),
    (Case(source=TORCHVISION, variant="swin_t", size=(224, 448)), {"stop_shift": "both"}),
    (Case(source=TORCHVISION, variant="swin_t"), {"stop_shift": "never"}),
    (Case(source=TORCHVISION, variant="swin_t"), {"merge_order": "rows"}),
    (
        Case(source=TORCHVISION, variant="swinv2_t_w8", size=(128, 256)),
        {"small_grids": "shrink_axis"},
    ),
)


@pytest.mark.parametrize(("case", "changes"), BITES, ids=str)
def test_another_rule_computes_something_else(case: Case, changes: dict[str, Any]) -> None:
    must_bite(case, changes)
