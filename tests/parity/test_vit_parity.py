"""ViT checkpoints as each library saves them compute what that library computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import VARIANTS, NetworkConfig
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.interface import Preprocessing
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import count_parameters, make_network, model_from_tensors
from swin_deploy.network.vit import VitConfig
from vit_models import TIMM, filled, older_torchvision, timm_released, timm_vit, torchvision_vit


def vit(name: str, **changes: object) -> VitConfig:
    config = VARIANTS[name].config
    assert isinstance(config, VitConfig)
    return replace(config, **changes)  # type: ignore[arg-type]


def save(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    return path


def decibels(reference: nn.Module, found: Checkpoint) -> float:
    """How near our network with the checkpoint's weights is to the library's own."""
    model = model_from_tensors(found.config, found.tensors)
    shape = (2, found.config.in_channels, *found.config.image_size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return sqnr_db(reference(images).numpy(), model(images).numpy())


def slow(*values: object, nightly: bool = False) -> object:
    marks = [pytest.mark.slow, *([pytest.mark.nightly] if nightly else [])]
    return pytest.param(*values, marks=marks)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("vit_t_16", 2),
        ("vit_t_16", 21841),
        slow("vit_s_16", 1000, nightly=True),
        slow("vit_b_16", 21841),
    ],
)
def test_timms_checkpoint_computes_what_timm_computes(
    name: str, classes: int, tmp_path: Path
) -> None:
    reference = timm_released(TIMM[name], classes)
    found = load_checkpoint(save(reference.state_dict(), tmp_path / "x.safetensors"))
    assert found.dialect == "timm"
    assert found.config == vit(name, num_classes=classes)
    assert decibels(reference, found) >= FLOORS_DB["fp32"]


@pytest.mark.parametrize("layout", [nn.Module.state_dict, older_torchvision], ids=["new", "old"])
@pytest.mark.parametrize(
    ("name", "classes"),
    [("vit_t_16", 2), ("vit_t_16", 21841), slow("vit_b_16", 1000, nightly=True)],
)
def test_torchvisions_checkpoint_computes_what_torchvision_computes(
    name: str,
    classes: int,
    layout: Callable[[nn.Module], dict[str, Tensor]],
    tmp_path: Path,
) -> None:
    config = vit(name, num_classes=classes)
    reference = torchvision_vit(config)
    found = load_checkpoint(save(dict(layout(reference)), tmp_path / "x.safetensors"))
    assert found.dialect == "torchvision"
    assert found.config == config
    assert decibels(reference, found) >= FLOORS_DB["fp32"]


@pytest.mark.slow
def test_torchvisions_own_vit_b_16_is_ours(tmp_path: Path) -> None:
    torchvision_vit(vit("vit_t_16", depth=1))  # imports it
    import torchvision

    reference = filled(torchvision.models.vit_b_16())
    assert count_parameters(reference) == VARIANTS["vit_b_16"].parameters
    found = load_checkpoint(save(reference.state_dict(), tmp_path / "x.safetensors"))
    assert found.config == VARIANTS["vit_b_16"].config
    assert decibels(reference, found) >= FLOORS_DB["fp32"]


def test_wrappers_around_the_names_are_opened(tmp_path: Path) -> None:
    reference = timm_vit(vit("vit_t_16", num_classes=3))
    wrapped = {f"module._orig_mod.{k}": v for k, v in reference.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "x.pth")
    found = load_checkpoint(tmp_path / "x.pth")
    assert found.opened == ("state_dict", "module.", "_orig_mod.")
    assert decibels(reference, found) >= FLOORS_DB["fp32"]


def test_the_image_size_is_that_of_the_positions(tmp_path: Path) -> None:
    reference = timm_released("vit_tiny_patch16_384", 5)
    found = load_checkpoint(save(reference.state_dict(), tmp_path / "x.safetensors"))
    assert found.config == vit("vit_t_16", image_size=(384, 384), num_classes=5)
    assert found.preprocessing == Preprocessing(crop=1.0, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert decibels(reference, found) >= FLOORS_DB["fp32"]


@pytest.mark.parametrize("side", [224, 384])
def test_preprocessing_is_that_of_the_library(side: int, tmp_path: Path) -> None:
    """Against what the libraries themselves say of their weights."""
    config = vit("vit_t_16", image_size=(side, side), num_classes=2)
    path = save(timm_vit(config).state_dict(), tmp_path / "t.safetensors")
    steps = load_checkpoint(path).preprocessing
    assert steps is not None
    from timm.models import get_pretrained_cfg

    theirs = get_pretrained_cfg(f"vit_tiny_patch16_{side}.augreg_in21k_ft_in1k")
    assert theirs is not None
    assert (steps.crop, steps.interpolation, steps.mean, steps.std) == (
        theirs.crop_pct,
        theirs.interpolation,
        theirs.mean,
        theirs.std,
    )
    path = save(torchvision_vit(config).state_dict(), tmp_path / "v.safetensors")
    steps = load_checkpoint(path).preprocessing
    assert steps is not None
    from torchvision.models import ViT_B_16_Weights

    weights = (
        ViT_B_16_Weights.IMAGENET1K_V1 if side == 224 else ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    )
    published = weights.transforms()
    assert (steps.crop, steps.interpolation, list(steps.mean), list(steps.std)) == (
        published.crop_size[0] / published.resize_size[0],
        published.interpolation.value,
        published.mean,
        published.std,
    )


@pytest.mark.parametrize("name", TIMM)
def test_variants_have_the_published_parameter_counts(name: str) -> None:
    config: NetworkConfig = VARIANTS[name].config
    with torch.device("meta"):
        ours = make_network(config)
    assert count_parameters(ours) == VARIANTS[name].parameters
    with torch.device("meta"):
        theirs = timm_vit(vit(name))
    assert count_parameters(theirs) == VARIANTS[name].parameters
