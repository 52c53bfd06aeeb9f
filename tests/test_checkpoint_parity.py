"""Checkpoints as each library saves them compute what that library computes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from libraries import (
    TIMM,
    authors_layout,
    hugging_face_model,
    timm_model,
    torchvision_model,
)
from swin_deploy.checkpoints.load import load_checkpoint
from swin_deploy.metrics import sqnr_db
from swin_deploy.model.build import model_from_tensors
from swin_deploy.variants import VARIANTS
from swin_deploy.verify import FLOORS_DB


def save_hf(model: nn.Module, path: Path) -> Path:
    model.save_pretrained(path)  # type: ignore[operator]
    return path


def save_as(suffix: str, pick: Callable[[nn.Module], Any]) -> Callable[[nn.Module, Path], Path]:
    def save(model: nn.Module, path: Path) -> Path:
        file = path / f"checkpoint.{suffix}"
        if suffix == "safetensors":
            save_file(pick(model), file)
        else:
            torch.save(pick(model), file)
        return file

    return save


def training_checkpoint(model: nn.Module) -> dict[str, Any]:
    """What the authors' training script writes."""
    return {
        "model": authors_layout(model),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "config": argparse.Namespace(lr=1e-3),
        "epoch": 299,
    }


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return model.state_dict()


def compiled_and_parallel(model: nn.Module) -> dict[str, Any]:
    return {"state_dict": {f"module._orig_mod.{k}": v for k, v in model.state_dict().items()}}


# Library, what makes its model, what saves it, the dialect that has to be found.
SOURCES: dict[str, tuple[Callable[..., nn.Module], Callable[[nn.Module, Path], Path], str]] = {
    "timm": (timm_model, save_as("safetensors", tensors_of), "timm"),
    "timm in wrappers": (timm_model, save_as("pth", compiled_and_parallel), "timm"),
    "authors": (timm_model, save_as("pth", training_checkpoint), "Microsoft"),
    "torchvision": (torchvision_model, save_as("pth", tensors_of), "torchvision"),
    "hugging face folder": (hugging_face_model, save_hf, "Hugging Face"),
    "hugging face module": (hugging_face_model, save_as("bin", tensors_of), "Hugging Face"),
}
CASES = [(source, "swin_t") for source in SOURCES] + [
    pytest.param(source, variant, marks=pytest.mark.slow)
    for source, variants in {
        "timm": [name for name in TIMM if name not in ("swin_t", "swin_l_384")],
        "authors": ["swin_s", "swin_b_384"],
        "torchvision": ["swin_s", "swin_b"],
        "hugging face folder": ["swin_s", "swin_b"],
    }.items()
    for variant in variants
]


@pytest.mark.parametrize(("source", "variant"), CASES)
def test_a_checkpoint_computes_what_its_library_computes(
    source: str, variant: str, tmp_path: Path
) -> None:
    make, save, dialect = SOURCES[source]
    classes = 2 if variant == "swin_t" else 21841
    reference = make(variant, classes=classes)
    found = load_checkpoint(save(reference, tmp_path))
    assert found.dialect.startswith(dialect)
    expected_config = replace(
        VARIANTS[variant].config, num_classes=classes, semantics=found.config.semantics
    )
    assert found.config == expected_config
    model = model_from_tensors(found.config, found.tensors)
    images = torch.randn(
        (2, 3, *found.config.image_size), generator=torch.Generator().manual_seed(1)
    )
    with torch.inference_mode():
        expected = reference(images)
        logits = model(images)
    expected = getattr(expected, "logits", expected)
    assert sqnr_db(expected.numpy(), logits.numpy()) >= FLOORS_DB["fp32"]
