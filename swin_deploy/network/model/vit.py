"""Vision Transformer, eager: class token, learned positions, global attention.

Parameter names are timm's, so that its checkpoints need no renaming. Of the axis letters, n stands
here for all tokens of an image: the class token and the patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_deploy.network.model.swin import Mlp
from swin_deploy.network.vit import VitConfig, patch_grid

EPSILON = 1e-6  # of every LayerNorm, in timm and in torchvision
LANDMARK_EVERY = 3  # blocks


class VitPatchEmbed(nn.Module):
    """A strided convolution over patches: (b, channels, H, W) -> (b, h * w, c)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(
            config.in_channels, config.embed_dim, config.patch_size, stride=config.patch_size
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class GlobalAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v between all tokens of an image: (b, n, c) -> (b, n, c)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads)
        q, key, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (b, a, n, d)
        out = F.scaled_dot_product_attention(q, key, v)  # scales by 1/sqrt(d)
        return self.proj(out.transpose(1, 2).reshape(b, n, c))  # type: ignore[no-any-return]


class VitBlock(nn.Module):
    """Attention and an MLP, each behind a LayerNorm, each residual: (b, n, c) -> (b, n, c)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        c = config.embed_dim
        self.norm1 = nn.LayerNorm(c, eps=EPSILON)
        self.attn = GlobalAttention(c, config.num_heads)
        self.norm2 = nn.LayerNorm(c, eps=EPSILON)
        self.mlp = Mlp(c, int(c * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Image (b, channels, H, W), float32, normalised -> logits (b, classes)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        patch_grid(config)
        c = config.embed_dim
        self.config = config
        self.patch_embed = VitPatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, c))
        self.blocks = nn.ModuleList(VitBlock(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(c, eps=EPSILON)
        self.head = nn.Linear(c, config.num_classes)

    def embed(self, image: Tensor) -> Tensor:
        """(b, channels, H, W) -> (b, n, c): the class token first, positions added."""
        patches = self.patch_embed(image)
        first = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1) + self.pos_embed

    def landmarks(self, image: Tensor) -> dict[str, Tensor]:
        """Values on the way: after every third block (b, n, c), and the last class token (b, c)."""
        x, found = self.embed(image), {}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number % LANDMARK_EVERY == 0 and number < self.config.depth:
                found[f"block {number}"] = x
        return found | {"class token": x[:, 0]}

    def embedding(self, image: Tensor) -> Tensor:
        """What the head reads: the class token, (b, c), after the last norm."""
        x = self.embed(image)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.embedding(image))  # type: ignore[no-any-return]
