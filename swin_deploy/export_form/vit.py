"""Eager ViT -> frozen ViT: the form of Swin's blocks, for attention between all tokens.

The stream has the tokens slowest, (n, b, c), the class token first: as in Swin's form, that is how
fused attention kernels read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.export_form.linear import linear, scaled_query
from swin_deploy.model.vit import LANDMARK_EVERY, VisionTransformer, VitBlock
from swin_deploy.narrow import present
from swin_deploy.vit_architecture import patch_grid


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

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # type: ignore[no-any-return]
