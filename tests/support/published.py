"""Small checkpoints, with what their libraries write beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from libraries import randomise
from swin_deploy.network.model.build import build_model
from swin_deploy.network.swin import SwinConfig
from timm_models import build_timm, import_timm

TINY = SwinConfig(
    name="tiny",
    image_size=(32, 32),
    embed_dim=16,
    depths=(2, 2),
    num_heads=(1, 2),
    window_size=4,
    num_classes=5,
)
PROCESSOR = {  # in the form that Swin was published with
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ViTFeatureExtractor",
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
    "resample": 3,
    "size": 32,
}
PRETRAINED = {  # timm's own
    "tag": "ms_in1k",
    "custom_load": False,
    "input_size": [3, 32, 32],
    "fixed_input_size": True,
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "num_classes": 5,
}
TIMM = {
    "architecture": "swin_tiny_patch4_window4_32",
    "num_classes": 5,
    "num_features": 32,
    "global_pool": "avg",
    "pretrained_cfg": PRETRAINED,
}


def save_transformers(folder: Path) -> Path:
    """A folder as transformers writes it."""
    import_timm()
    from transformers import SwinConfig as TheirConfig
    from transformers import SwinForImageClassification

    config = TheirConfig(
        image_size=32,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=4,
        id2label={index: f"class {index}" for index in range(5)},
    )
    randomise(SwinForImageClassification(config)).save_pretrained(folder)  # type: ignore[operator]
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return folder


def save_timm(folder: Path) -> Path:
    """A repository as timm writes it: one JSON file, and weights in two forms."""
    folder.mkdir()
    tensors = build_timm(TINY, build_model(TINY)).state_dict()
    save_file(tensors, folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(TIMM))
    (folder / "README.md").write_text("not needed")
    return folder


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes them away."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
