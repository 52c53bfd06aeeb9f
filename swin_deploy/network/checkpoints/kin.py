"""What a file is that holds no network which is known here, told by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Kin:
    """A kind of network, or of file, that is sometimes taken for a Swin.

    Attributes:
        pattern: That some name has to match, from its start or after a dot.
        what: It is, for an error.
        hint: What to do instead.
        ndim: Axes of the tensor of that name; None for any.
    """

    pattern: str
    what: str
    hint: str
    ndim: int | None = None

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether these may be its tensors."""
        known = re.compile(rf"(.*\.)?({self.pattern})")
        return any(
            known.fullmatch(name) is not None and self.ndim in (None, tensor.ndim)
            for name, tensor in tensors.items()
        )


_OTHER = "a checkpoint of a Swin Transformer; other networks have no graph here"
_SOLID = "a Swin of images: one of volumes or videos has windows in three dimensions"
_IN_DISGUISE = (  # beside the names of a Swin
    Kin(
        r"(lora_[AB]|lora_(embedding_[AB]|magnitude_vector)|hada_w\d_[ab]|lokr_w\d)(\..*)?",
        "a network with adapters (LoRA) that are not merged into its weights",
        "model = model.merge_and_unload(), and its state_dict saved",
    ),
    Kin(
        r"(SCB|weight_format|absmax|quant_map|quant_state\..*|qweight|qzeros|zero_point"
        r"|_packed_params\..*|weight_quantizer\..*)",
        "a quantised network, whose weights are integers",
        "the weights from before it was quantised: INT8 is made here, with --precision int8",
    ),
    Kin(
        r"swinViT\.patch_embed\.proj\.weight|encoder10\.layer\.conv1\.conv\.weight",
        "a SwinUNETR of MONAI, a segmenter of volumes",
        _SOLID,
    ),
    Kin(
        r"patch_embed\.proj(ection)?\.weight",
        "a video Swin, whose patches have three dimensions",
        _SOLID,
        5,
    ),
    Kin(
        r"layers\.\d+\.residual_group\..*",
        "a SwinIR or one of its kin, which restores images",
        _OTHER,
    ),
)
_OTHERS = (
    Kin(r"layers\.\d+\.blocks\.\d+\.modulation\..*", "a FocalNet, no Swin", _OTHER),
    Kin(r"stage1_conv_embed\..*", "a CSWin, no Swin: its windows are stripes", _OTHER),
    Kin(r"stages\.\d+\.blocks\.\d+\.attn_(block|grid)\..*", "a MaxViT, no Swin", _OTHER),
    Kin(r"block\d\.\d+\.attn\.(kv|sr)\..*", "a Pyramid Vision Transformer, no Swin", _OTHER),
    Kin(r"encoder\.block\.\d+\.\d+\.attention\..*", "a SegFormer, no Swin", _OTHER),
    Kin(
        r"(stages\.\d+\.blocks\.\d+\.conv_dw|downsample_layers\.\d+\.\d+|convnextv?2?"
        r"\.encoder\.stages\.\d+\.layers\.\d+\.dwconv)\..*",
        "a ConvNeXt, no Swin",
        _OTHER,
    ),
    Kin(
        r"(?<!\d\.)blocks\.\d+\.(attn\.relative_position_bias_table|gamma_[12])",
        "a BEiT, no Swin",
        _OTHER,
    ),
    Kin(r"visual\..*|vision_model\..*", "a CLIP or one of its kin, no Swin", _OTHER),
    Kin(r"layer1\.0\.conv1\.weight", "a ResNet, no Swin", _OTHER),
    Kin(
        r"conv_stem\.weight|features\.\d+\.(\d+\.)?(conv|block)\..*",
        "an EfficientNet or MobileNet, no Swin",
        _OTHER,
    ),
    Kin(r"features\.denseblock1\..*", "a DenseNet, no Swin", _OTHER),
    Kin(r"features\.\d+\.weight", "a VGG or AlexNet, no Swin", _OTHER),
    Kin(
        r"(bert|roberta|gpt_neox|transformer\.h\.\d+|model\.layers\.\d+\.self_attn)\..*",
        "a network of texts, no Swin",
        _OTHER,
    ),
)


def disguised(tensors: Mapping[str, Tensor]) -> Kin | None:
    """What is no plain Swin although its tensors have the names of one; None if nothing tells."""
    return next((kin for kin in _IN_DISGUISE if kin.fits(tensors)), None)


def kin_of(tensors: Mapping[str, Tensor]) -> Kin | None:
    """What else is known by such names; None if nothing is."""
    return next((kin for kin in (*_IN_DISGUISE, *_OTHERS) if kin.fits(tensors)), None)
