"""How timm and torchvision name the tensors of a Vision Transformer; and the ViTs that are refused.

Our own names are timm's. What is not in a file, the heads and the preprocessing, is in its notes.
"""

from __future__ import annotations

from swin_deploy.network.catalogue import VIT_PREPROCESSING, NetworkConfig
from swin_deploy.network.checkpoints.dialect import Dialect, Rename
from swin_deploy.network.interface import Preprocessing

WHOLE_IMAGE = 384  # from this size on, both libraries evaluate without a margin around the crop

_KIND = r"(?P<kind>weight|bias)"
_IN_BLOCK = r"blocks\.(?P<block>\d+)\."
_IN_LAYER = r"encoder\.layers\.encoder_layer_(?P<block>\d+)\."
_PLAIN = "only the plain ViT of timm and torchvision is supported so far"
_HEADS = (
    "a file does not say how many heads a ViT has: taken from the released ones of its channels "
    "and blocks"
)


def timm_preprocessing(config: NetworkConfig) -> Preprocessing:
    """As ``timm.models.vision_transformer`` has it for its own (augreg and original) weights."""
    whole = max(config.image_size) >= WHOLE_IMAGE
    return Preprocessing(
        crop=1.0 if whole else VIT_PREPROCESSING.crop,
        mean=VIT_PREPROCESSING.mean,
        std=VIT_PREPROCESSING.std,
    )


def torchvision_preprocessing(config: NetworkConfig) -> Preprocessing:
    """As ``torchvision.models.ViT_B_16_Weights`` has it: IMAGENET1K_V1, and SWAG_E2E at 384."""
    if max(config.image_size) >= WHOLE_IMAGE:
        return Preprocessing(crop=1.0)
    return Preprocessing(crop=224 / 256, interpolation="bilinear")


_OTHER_PARTS = {
    "a layer before its head": r"(pre_logits\.fc|heads\.pre_logits)\.weight",
    "a distillation token": r"dist_token|head_dist\.weight",
    "a norm before its blocks": r"norm_pre\.weight",
    "a norm after pooling": r"fc_norm\.weight",
    "register tokens": r"reg_token|register_tokens",
    "layer scale": r"blocks\.\d+\.ls[12]\.gamma",
    "norms of query and key": r"blocks\.\d+\.attn\.[qk]_norm\.weight",
}

VIT_DIALECTS: tuple[Dialect, ...] = (
    *(
        Dialect(family="ViT", name=f"ViT with {part}", mark=mark, refusal=_PLAIN)
        for part, mark in _OTHER_PARTS.items()
    ),
    Dialect(
        family="ViT",
        name="ViT without class token",
        mark=rf"{_IN_BLOCK}attn\.qkv\.weight",
        lacks="cls_token",
        refusal=_PLAIN,
    ),
    Dialect(
        family="ViT",
        name="Hugging Face ViT",
        mark=r"(.*\.)?encoder\.layer\.\d+\.attention\.attention\.query\.weight",
        refusal=_PLAIN,
    ),
    Dialect(
        family="ViT",
        name="timm",
        mark=rf"{_IN_BLOCK}attn\.qkv\.weight",
        renames=(
            Rename(r"(?P<part>cls_token|pos_embed)", "{part}"),
            Rename(rf"(?P<part>patch_embed\.proj|norm|head)\.{_KIND}", "{part}.{kind}"),
            Rename(
                rf"{_IN_BLOCK}(?P<part>norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.{_KIND}",
                "blocks.{block}.{part}.{kind}",
            ),
        ),
        preprocessing=timm_preprocessing,
        note=f"{_HEADS}; photos are scaled with timm's mean and std of 0.5, while DeiT, whose "
        "files look the same, has ImageNet's",
    ),
    Dialect(
        family="ViT",
        name="torchvision",
        mark=rf"{_IN_LAYER}self_attention\.in_proj_weight",
        renames=(
            Rename("class_token", "cls_token"),
            Rename(r"encoder\.pos_embedding", "pos_embed"),
            Rename(rf"conv_proj\.{_KIND}", "patch_embed.proj.{kind}"),
            *(
                Rename(_IN_LAYER + theirs, "blocks.{block}." + ours + ".{kind}")
                for theirs, ours in (
                    (rf"ln_1\.{_KIND}", "norm1"),
                    (rf"self_attention\.in_proj_{_KIND}", "attn.qkv"),
                    (rf"self_attention\.out_proj\.{_KIND}", "attn.proj"),
                    (rf"ln_2\.{_KIND}", "norm2"),
                    (rf"mlp\.(0|linear_1)\.{_KIND}", "mlp.fc1"),
                    (rf"mlp\.(3|linear_2)\.{_KIND}", "mlp.fc2"),
                )
            ),
            Rename(rf"encoder\.ln\.{_KIND}", "norm.{kind}"),
            Rename(rf"heads\.head\.{_KIND}", "head.{kind}"),
        ),
        preprocessing=torchvision_preprocessing,
        note=f"{_HEADS}; photos are prepared as for torchvision's IMAGENET1K_V1 weights",
    ),
)
