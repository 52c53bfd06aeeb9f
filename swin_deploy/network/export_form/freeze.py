"""Eager Swin or ViT -> its export form: same outputs, no roll, no mask, no table lookup.

The stream has the tokens slowest, (n, b, c), the class token first: as in Swin's form, that is how
fused attention kernels read it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.core.errors import present
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.attention import (
    FrozenAttention,
    PackedAttention,
    PackedCosineAttention,
    linear,
    scaled_query,
)
from swin_deploy.network.export_form.blocks import (
    FrozenBlock,
    FrozenPatchEmbed,
    Stream,
    frozen_merge,
)
from swin_deploy.network.export_form.slabs import SlabAttention, invert, steps_between, window_order
from swin_deploy.network.model.build import Network
from swin_deploy.network.model.swin import SwinBlock, SwinStage, SwinTransformer
from swin_deploy.network.model.vit import LANDMARK_EVERY, VisionTransformer, VitBlock
from swin_deploy.network.swin import StageGeometry, stage_geometry
from swin_deploy.network.vit import patch_grid


@dataclass(frozen=True, slots=True)
class Form:
    """A form.

    Attributes:
        v1: Trained block of V1 -> its frozen attention.
        v2: Likewise of V2.
    """

    v1: Callable[[SwinBlock], FrozenAttention]
    v2: Callable[[SwinBlock], FrozenAttention]

    def attention(self, block: SwinBlock) -> FrozenAttention:
        """The attention of a trained block in this form."""
        return (self.v1 if block.version == 1 else self.v2)(block)


# In V2 the lengths of query and key are taken between projection and attention, so that a kernel
# reads and writes them anyway; it may as well copy.
FORMS: dict[FormName, Form] = {
    "packed": Form(PackedAttention, PackedCosineAttention),
    "slabs": Form(SlabAttention, PackedCosineAttention),
}


class FrozenStage(nn.Module):
    """One stage: how the stream enters it, and its blocks.

    Args:
        enter: From the image, or from the stage before, into the order of the first block.
        stage: The trained stage.
        geometry: Its grid.
        rolls_first: Whether its grid rolls before it is padded.
        norm: Of its feature map; None if that has none.
        form: Of its attentions.
    """

    back: Tensor | None

    def __init__(
        self,
        enter: nn.Module,
        stage: SwinStage,
        geometry: StageGeometry,
        rolls_first: bool,
        norm: nn.Module | None,
        form: Form,
    ) -> None:
        super().__init__()
        self.enter = enter
        self.geometry = geometry
        here = window_order(geometry, (0, 0), rolls_first)
        blocks = []
        for block in cast("Sequence[SwinBlock]", stage.blocks):
            there = window_order(geometry, block.shift, rolls_first)
            steps = None if torch.equal(here, there) else steps_between(here, there)
            blocks.append(FrozenBlock(block, form.attention(block), there, steps))
            here = there
        self.blocks = nn.ModuleList(blocks)
        self.order = here  # of the stream that leaves the stage
        moved = not torch.equal(here, torch.arange(len(here)))
        self.register_buffer("back", invert(here) if moved else None, persistent=False)
        self.map_norm = norm

    def forward(self, stream: Stream | Tensor) -> Stream:
        """The stream of the stage before, or the image -> the stream that leaves."""
        entered: Stream = self.enter(stream)
        for block in self.blocks:
            entered = block(entered)
        return entered

    def feature_map(self, stream: Stream) -> Tensor:
        """The stream that leaves, in image order -> (b, h, w, c)."""
        h, w = self.geometry.grid
        x = stream.gather(self.back)
        if self.map_norm is not None:
            x = self.map_norm(x)
        return x.reshape(h, w, -1, self.geometry.channels).permute(2, 0, 1, 3)


class FrozenSwin(nn.Module):
    """Image (b, 3, H, W), float32, normalised -> logits (b, classes). Made by ``freeze_swin``."""

    tokens: Tensor | None

    def __init__(self, model: SwinTransformer, form: Form) -> None:
        super().__init__()
        geometry = stage_geometry(model.config)
        rolls_first = model.config.semantics.padding == "after_roll"
        enter: nn.Module = FrozenPatchEmbed(model.patch_embed, geometry[0])
        stages: list[FrozenStage] = []
        layers = cast("Sequence[SwinStage]", model.layers)
        for index, (layer, grid) in enumerate(zip(layers, geometry, strict=True)):
            merge = layers[index - 1].downsample if index else None
            if merge is not None:
                there = window_order(grid, (0, 0), rolls_first)
                enter = frozen_merge(merge, geometry[index - 1], stages[-1].order, there)
            norm = dict(model.stage_norms.items()).get(str(index))
            stages.append(FrozenStage(enter, layer, grid, rolls_first, norm, form))
        self.layers = nn.ModuleList(stages)
        tokens = invert(stages[-1].order) if geometry[-1].is_padded else None
        self.register_buffer("tokens", tokens, persistent=False)
        if model.config.has_norm:
            self.norm, self.fc_norm = model.norm, model.fc_norm
        if model.config.num_classes:
            self.head = model.head

    def stages(self, image: Tensor) -> list[Tensor]:
        """The output of every stage, in image order as the eager network has it: (b, h, w, c)."""
        stream: Any = image  # of the image the first stage makes a stream
        outputs = []
        for layer in cast("Sequence[FrozenStage]", self.layers):
            stream = layer(stream)
            outputs.append(layer.feature_map(stream))
        return outputs

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """Values on the way that the eager network has too: ``stages``, by name."""
        return {f"stage {n}": x for n, x in enumerate(self.stages(image), start=1)}

    def embedding(self, image: Tensor) -> Tensor:
        """What the head reads: (b, c)."""
        stream: Any = image
        for layer in self.layers:
            stream = layer(stream)
        x = stream.gather(self.tokens)
        pooled = self.norm(x).mean(dim=0)  # (b, c)
        return self.fc_norm(pooled)  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.embedding(image))  # type: ignore[no-any-return]


def freeze_swin(model: SwinTransformer, form: Form) -> FrozenSwin:
    """Bring ``model`` into export form.

    Args:
        model: In eval mode. Untouched; the result shares all its weights but those that its
            attentions change, so that a large network is not held twice.
        form: Of its attentions.
    """
    with torch.no_grad():
        return FrozenSwin(model, form).eval().requires_grad_(False)


class FrozenVitEmbed(nn.Module):
    """Patches, class token and positions as one linear layer and one constant.

    A convolution whose stride is its kernel is a matrix product over flattened patches. The slot of
    the class token passes through as zeros; the constant holds what it starts from, and for
    every other token its position with the bias of the layer.
    """

    start: Tensor

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        config = model.config
        self.patch, self.channels = config.patch_size, config.in_channels
        self.grid = patch_grid(config)
        embed = model.patch_embed.proj
        self.proj = linear(embed.weight.flatten(1), None)
        start = model.pos_embed[0] + torch.cat(
            [model.cls_token[0], present(embed.bias).expand(config.tokens - 1, -1)]
        )
        self.register_buffer("start", start[:, None], persistent=False)  # (n, 1, c)

    def forward(self, image: Tensor) -> Tensor:
        """(b, channels, H, W) -> (n, b, c)."""
        (h, w), side = self.grid, self.patch
        x = image.reshape(-1, self.channels, h, side, w, side)
        x = x.permute(2, 4, 0, 1, 3, 5)  # (h, w, b, channels, y, x)
        x = x.reshape(h * w, -1, self.channels * side**2)  # (h * w, b, channels * y * x)
        return F.pad(self.proj(x), (0, 0, 0, 0, 1, 0)) + self.start


class FrozenVitBlock(nn.Module):
    """A ViT block whose query scale is folded into its weights: (n, b, c) -> (n, b, c)."""

    def __init__(self, block: VitBlock) -> None:
        super().__init__()
        self.heads = block.attn.heads
        self.qkv = scaled_query(block.attn.qkv, block.attn.heads)
        self.norm1, self.proj = block.norm1, block.attn.proj
        self.norm2, self.mlp = block.norm2, block.mlp
        # What INT8 rounds, as in the attentions of Swin.
        self.at_query, self.at_key = nn.Identity(), nn.Identity()
        self.at_weights, self.at_value = nn.Identity(), nn.Identity()

    def heads_of(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of the stream: (n, b, c) -> (b, a, n, d) each."""
        n, _, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, -1, 3, self.heads, c // self.heads)
        q, key, v = qkv.permute(2, 1, 3, 0, 4).unbind(0)
        return q, key, v

    def weights_of(self, q: Tensor, key: Tensor) -> Tensor:
        """(b, a, m, d) and (b, a, n, d) -> (b, a, m, n)."""
        logits = self.at_query(q) @ self.at_key(key).transpose(-2, -1)
        return self.at_weights(logits.softmax(dim=-1))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        n, _, c = x.shape
        q, key, v = self.heads_of(x)
        weights = self.weights_of(q, key)  # (b, a, n, n)
        x = x + self.proj((weights @ self.at_value(v)).permute(2, 0, 1, 3).reshape(n, -1, c))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class FrozenVitLast(FrozenVitBlock):
    """The last block, for the class token alone: all that the head sees. (n, b, c) -> (b, c).

    Keys and values come from all tokens; attention, projection and MLP have one query. The queries
    of the others are computed and dropped: a product of its own for the one took two kernels more.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.heads_of(x)
        weights = self.weights_of(q[:, :, :1], key)  # (b, a, 1, n)
        first = x[0] + self.proj((weights @ self.at_value(v)).reshape(-1, x.shape[-1]))
        return first + self.mlp(self.norm2(first))  # type: ignore[no-any-return]


class FrozenVit(nn.Module):
    """Image (b, channels, H, W), float32, normalised -> logits (b, classes).

    Made by ``export_form.freeze``.
    """

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        *blocks, last = cast("Sequence[VitBlock]", model.blocks)
        self.patch_embed = FrozenVitEmbed(model)
        self.blocks = nn.ModuleList([*map(FrozenVitBlock, blocks), FrozenVitLast(last)])
        self.norm, self.head = model.norm, model.head

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """As of the eager network: after every third block (b, n, c), and the last class token."""
        x, found = self.patch_embed(image), {}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number % LANDMARK_EVERY == 0 and number < len(self.blocks):
                found[f"block {number}"] = x.transpose(0, 1)
        return found | {"class token": x}

    def embedding(self, image: Tensor) -> Tensor:
        """What the head reads: (b, c)."""
        x = self.patch_embed(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.embedding(image))  # type: ignore[no-any-return]


FrozenNetwork = FrozenSwin | FrozenVit


def freeze(model: Network, form: FormName) -> FrozenNetwork:
    """Bring ``model`` into export form.

    Args:
        model: In eval mode. Untouched; the result shares all its weights but those that its
            attentions change, so that a large network is not held twice.
        form: Of the attentions of a Swin; a Vision Transformer has one form only.
    """
    if isinstance(model, VisionTransformer):
        with torch.no_grad():
            return FrozenVit(model).eval().requires_grad_(False)
    return freeze_swin(model, FORMS[form])


def frozen_tensors(model: Network, form: FormName) -> dict[str, Tensor]:
    """What ``freeze`` would hold, by name: parameters, and buffers of any dtype.

    Where autograd is on it can follow each from the parameters of ``model``, which is how they are
    trained for what the export form makes of them.

    Args:
        model: Untouched.
        form: As of ``freeze``.
    """
    frozen: FrozenNetwork
    if isinstance(model, VisionTransformer):
        frozen = FrozenVit(model)
    else:
        frozen = FrozenSwin(model, FORMS[form])
    return dict(frozen.named_parameters()) | dict(frozen.named_buffers())
