"""The Swin in larger networks of transformers: against the library's own backbone, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from libraries import randomise
from no_downloads import Downloads
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import load_source
from swin_deploy.network.checkpoints.source import with_hints
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import model_from_tensors
from swin_deploy.network.swin import SwinConfig
from timm_models import import_timm

FLOOR_DB = 110.0
# The last grid is smaller than a window, which tells backbones of detectors from classifiers.
SMALL: dict[str, Any] = {
    "image_size": 64,
    "embed_dim": 16,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]
TINY = {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}


def import_transformers() -> Any:
    """Transformers imports torchvision for these, which only ``import_timm`` can do."""
    import_timm()
    import transformers

    return transformers


def upernet() -> tuple[nn.Module, str]:
    tr = import_transformers()
    config = tr.UperNetConfig(
        backbone_config=tr.SwinConfig(**SMALL, out_features=STAGES),
        hidden_size=16,
        num_labels=3,
        use_auxiliary_head=False,
        pool_scales=[1, 2],
    )
    return tr.UperNetForSemanticSegmentation(config), "backbone"


def mask2former() -> tuple[nn.Module, str]:
    tr = import_transformers()
    config = tr.Mask2FormerConfig(
        backbone_config=tr.SwinConfig(**SMALL, out_features=STAGES),
        feature_size=32,
        hidden_dim=32,
        mask_feature_size=32,
        encoder_layers=1,
        decoder_layers=2,
        num_queries=4,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        num_attention_heads=2,
    )
    return tr.Mask2FormerForUniversalSegmentation(config), "model.pixel_level_module.encoder"


def maskformer() -> tuple[nn.Module, str]:
    tr = import_transformers()
    config = tr.MaskFormerConfig(
        backbone_config=tr.SwinConfig(**SMALL, out_features=STAGES),
        fpn_feature_size=32,
        mask_feature_size=32,
        decoder_config=tr.DetrConfig(
            d_model=32, encoder_layers=1, decoder_layers=1, num_queries=4, **TINY, **HEADS
        ),
    )
    return tr.MaskFormerForInstanceSegmentation(config), "model.pixel_level_module.encoder"


def grounding_dino() -> tuple[nn.Module, str]:
    tr = import_transformers()
    config = tr.GroundingDinoConfig(
        backbone_config=tr.SwinConfig(**SMALL, out_features=STAGES[1:]),
        text_config={
            "model_type": "bert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "vocab_size": 50,
        },
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        num_queries=4,
        num_feature_levels=4,
        **TINY,
        **HEADS,
    )
    return tr.GroundingDinoForObjectDetection(config), "model.backbone.conv_encoder.model"


LARGER: dict[str, Callable[[], tuple[nn.Module, str]]] = {
    "UperNet": upernet,
    "Mask2Former": mask2former,
    "MaskFormer": maskformer,
    "GroundingDINO": grounding_dino,
}


def stages_of(folder: Path, image: Tensor) -> tuple[SwinConfig, list[Tensor]]:
    source = resolve_source(str(folder), None, Downloads())
    found = load_source(source, with_hints(LoadOptions(), source))
    assert isinstance(found.config, SwinConfig)
    assert found.config.num_classes == 0
    model = model_from_tensors(found.config, found.tensors)
    with torch.inference_mode():
        return found.config, model.stages(image)


@pytest.mark.parametrize("name", LARGER)
def test_the_maps_are_those_of_its_own_backbone(tmp_path: Path, name: str) -> None:
    network, place = LARGER[name]()
    randomise(network)
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    config, ours = stages_of(tmp_path, image)
    with torch.inference_mode():
        theirs = network.get_submodule(place)(image).feature_maps
    wanted = STAGES[1:] if name == "GroundingDINO" else STAGES
    assert config.stage_norms == tuple(STAGES.index(stage) for stage in wanted)
    for stage, expected in zip(config.stage_norms, theirs, strict=True):
        maps = ours[stage].permute(0, 3, 1, 2)
        assert sqnr_db(expected.numpy(), maps.numpy()) >= FLOOR_DB


def test_the_encoder_of_donut(tmp_path: Path) -> None:
    tr = import_transformers()
    config = tr.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        tr.DonutSwinConfig(**SMALL | {"image_size": [128, 160]}),
        tr.MBartConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            vocab_size=60,
            max_position_embeddings=32,
            **TINY,
            **HEADS,
        ),
    )
    network = randomise(tr.VisionEncoderDecoderModel(config))
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    image = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    _, ours = stages_of(tmp_path, image)
    with torch.inference_mode():
        expected = network.encoder(image).last_hidden_state  # type: ignore[operator,union-attr]
    assert sqnr_db(expected.numpy(), ours[-1].flatten(1, 2).numpy()) >= FLOOR_DB
