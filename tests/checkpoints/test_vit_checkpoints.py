"""A ViT that is not the plain one, or is for another size, is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from conftest import Quiet, Silent
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError
from swin_deploy.network.catalogue import VARIANTS, VIT_PREPROCESSING, Variant
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.load import load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import resolve_variant
from swin_deploy.network.checkpoints.source import Source, with_hints
from swin_deploy.network.model.build import build_model
from swin_deploy.network.vit import VitConfig
from timm_models import import_timm
from vit_models import filled, timm_vit, torchvision_vit


def resolve(path: Path, wanted: Variant | None) -> Variant:
    options = LoadOptions(wanted=None if wanted is None else wanted.config)
    return resolve_variant(Source(path=path, provenance={}), wanted, options, Silent())


SHALLOW = VitConfig(name="shallow", image_size=(64, 64), embed_dim=192, depth=1, num_heads=3)


def distilled() -> nn.Module:
    import_timm()
    from timm.models.deit import VisionTransformerDistilled

    return filled(
        VisionTransformerDistilled(img_size=64, embed_dim=192, depth=1, num_heads=3, num_classes=2)
    )


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "layer scale": (lambda: timm_vit(SHALLOW, init_values=1e-5), "is a ViT with layer scale"),
    "registers": (lambda: timm_vit(SHALLOW, reg_tokens=4), "is a ViT with register tokens"),
    "norm_pre": (lambda: timm_vit(SHALLOW, pre_norm=True), "with a norm before its blocks"),
    "fc_norm": (lambda: timm_vit(SHALLOW, global_pool="avg"), "with a norm after pooling"),
    "qk_norm": (lambda: timm_vit(SHALLOW, qk_norm=True), "with norms of query and key"),
    "no class token": (
        lambda: timm_vit(SHALLOW, class_token=False, global_pool="avg", fc_norm=False),
        "is a ViT without class token",
    ),
    "no position for the class": (
        lambda: timm_vit(SHALLOW, no_embed_class=True),
        "pos_embed has 16 rows",
    ),
    "no qkv bias": (lambda: timm_vit(SHALLOW, depth=12, qkv_bias=False), "qkv.bias is missing"),
    "no head": (lambda: timm_vit(SHALLOW, depth=12, num_classes=0), "lacks 'head.weight'"),
    "a norm in attention": (
        lambda: timm_vit(SHALLOW, scale_attn_norm=True),
        "2 tensors that no ViT of timm has: blocks.0.attn.norm",
    ),
    "distillation": (distilled, "is a ViT with a distillation token"),
    "pre_logits": (
        lambda: torchvision_vit(SHALLOW, representation_size=8),
        "is a ViT with a layer before its head",
    ),
    "unknown depth": (lambda: timm_vit(SHALLOW), "192 channels with 1 blocks, and no file says"),
}


@pytest.mark.parametrize(("make", "message"), OTHERS.values(), ids=OTHERS.keys())
def test_another_vit_is_refused_by_what_it_has(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    torch.save(make().state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("pre_logits.fc.weight", "is a ViT with a layer before its head"),
        ("vit.encoder.layer.0.attention.attention.query.weight", "is a Hugging Face ViT"),
    ],
)
def test_layouts_that_are_no_longer_made_are_known(key: str, message: str, tmp_path: Path) -> None:
    torch.save({key: torch.ones(2, 2)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        load_checkpoint(tmp_path / "x.pth")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole vit_t_16 in timm's names."""
    path = tmp_path_factory.mktemp("vit") / "tiny.safetensors"
    save_file(dict(build_model(VARIANTS["vit_t_16"].config).named_parameters()), path)
    return path


@pytest.mark.fault(8)
def test_another_image_size_is_refused_with_the_reason(tiny: Path) -> None:
    for size in ((384, 384), (112, 448)):  # the second has as many patches
        with pytest.raises(InputError, match="positions for 14x14 patches of 16") as caught:
            load_checkpoint(tiny, LoadOptions(image_size=size))
        assert "--image 224" in caught.value.hint
    own = load_checkpoint(tiny, LoadOptions(image_size=(224, 224)))
    assert own.config == VARIANTS["vit_t_16"].config


@pytest.mark.fault(10)
def test_a_missing_tensor_is_named(tiny: Path, tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = torch.load(_as_pickle(tiny, tmp_path), weights_only=True)
    del tensors["blocks.3.mlp.fc1.bias"]
    torch.save(tensors, tmp_path / "y.pth")
    with pytest.raises(InputError, match=r"blocks\.3\.mlp\.fc1\.bias is missing"):
        load_checkpoint(tmp_path / "y.pth")


def _as_pickle(path: Path, folder: Path) -> Path:
    torch.save(load_checkpoint(path).tensors, folder / "x.pth")
    return folder / "x.pth"


@pytest.mark.fault(8)
def test_the_variant_that_the_user_names_has_to_be_that_of_the_file(tiny: Path) -> None:
    found = resolve(tiny, VARIANTS["vit_t_16"])
    assert found.config == VARIANTS["vit_t_16"].config
    assert found.preprocessing == VIT_PREPROCESSING
    with pytest.raises(InputError, match="is no vit_b_16: it has embed_dim 192, not 768") as caught:
        resolve(tiny, VARIANTS["vit_b_16"])
    assert caught.value.hint == "--variant vit_t_16"
    with pytest.raises(InputError, match="is no swin_t: it has the parts of a ViT"):
        resolve(tiny, VARIANTS["swin_t"])


def test_preprocessing_follows_the_file_even_where_the_variant_is_named(tmp_path: Path) -> None:
    config = VARIANTS["vit_t_16"].config
    assert isinstance(config, VitConfig)
    save_file(torchvision_vit(config).state_dict(), tmp_path / "x.safetensors")
    for wanted in (None, VARIANTS["vit_t_16"]):
        steps = resolve(tmp_path / "x.safetensors", wanted).preprocessing
        assert (steps.crop, steps.interpolation) == (0.875, "bilinear")
        assert steps.mean == (0.485, 0.456, 0.406)


def test_a_folder_of_timm_brings_its_own_preprocessing(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tiny)
    steps = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.8}
    said = {"architecture": "vit_tiny_patch16_224", "global_pool": "token"}
    said |= {"pretrained_cfg": steps | {"input_size": [3, 224, 224], "num_classes": 1000}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    source = resolve_source(str(tmp_path), None, Quiet())
    options = with_hints(LoadOptions(), source)
    found = resolve_variant(source, None, options, Quiet())
    assert found.config == VARIANTS["vit_t_16"].config
    assert (found.preprocessing.crop, found.preprocessing.mean) == (0.8, (0.1, 0.2, 0.3))


def test_inspect_says_what_it_is_and_what_the_file_leaves_open(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["inspect", str(tiny)]) == 0
    text = capsys.readouterr().out
    for part in ("timm", "vit_t_16", "224x224", "global", "how many heads", "DeiT"):
        assert part in text
    assert cli.run(["inspect", str(tiny), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["num_heads"] == 3
