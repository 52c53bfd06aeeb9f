"""The parts of a frozen network; each takes and returns the stream (n, k * b, c)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swin_deploy.architecture import StageGeometry, SwinConfig
from swin_deploy.export_form.order import invert, merge_groups
from swin_deploy.model.swin import PatchEmbed, PatchMerging, SwinBlock


class FrozenPatchEmbed(nn.Module):
    """The patch embedding as one linear layer, its patches cut out in window order.

    A convolution whose stride is its kernel is a matrix product over flattened patches. As such it
    needs no kernel that pads three channels to four, and none that moves the tokens afterwards.
    """

    def __init__(self, embed: PatchEmbed, config: SwinConfig, stage: StageGeometry) -> None:
        super().__init__()
        self.patch, self.channels, self.stage = config.patch_size, config.in_channels, stage
        self.proj = linear(embed.proj.weight.flatten(1), embed.proj.bias)
        self.norm = embed.norm

    def forward(self, image: Tensor) -> Tensor:
        """(b, channels, H, W) -> (n, k * b, c)."""
        (h, w), (p, q), side = self.stage.grid, self.stage.window, self.patch
        x = image.reshape(-1, self.channels, h // p, p, side, w // q, q, side)
        x = x.permute(3, 6, 2, 5, 0, 1, 4, 7)  # (p, q, h/p, w/q, b, channels, y, x)
        x = x.reshape(p * q, -1, self.channels * side**2)  # (n, k * b, channels * y * x)
        return self.norm(self.proj(x))  # type: ignore[no-any-return]


class FrozenMerge(nn.Module):
    """Patch merging that gathers from one stage's order straight into the next one's."""

    groups: Tensor

    def __init__(
        self, merge: PatchMerging, finer: StageGeometry, here: Tensor, there: Tensor
    ) -> None:
        super().__init__()
        self.tokens, self.channels = finer.tokens // 4, finer.channels
        groups = invert(here)[merge_groups(finer.grid, there)]  # (4, h/2 * w/2)
        self.register_buffer("groups", groups.T.reshape(-1), persistent=False)
        self.norm, self.reduction = merge.norm, merge.reduction

    def forward(self, x: Tensor) -> Tensor:
        """(n, k * b, c) of the finer grid -> (h/2 * w/2, b, 2c), in the order of the coarser."""
        t, c = self.tokens, self.channels
        x = x.reshape(4 * t, -1, c).index_select(0, self.groups)
        x = x.reshape(t, 4, -1, c).transpose(1, 2).reshape(t, -1, 4 * c)
        return self.reduction(self.norm(x))  # type: ignore[no-any-return]


class FrozenBlock(nn.Module):
    """A Swin block whose mask, position bias and query scale are constants.

    Args:
        block: The trained block.
        stage: Its grid.
        steps: Where each of its slots finds its token in the stream that arrives; None if the
            stream is already in this block's order.
    """

    steps: Tensor | None
    bias: Tensor

    def __init__(self, block: SwinBlock, stage: StageGeometry, steps: Tensor | None) -> None:
        super().__init__()
        self.stage = stage
        self.register_buffer("steps", steps, persistent=False)
        bias = block.attn.position_bias()[None, None]  # (1, 1, a, n, n)
        if block.mask is not None:
            bias = bias + block.mask[:, None, None]  # (k, 1, a, n, n)
        self.register_buffer("bias", bias.contiguous(), persistent=False)
        self.qkv = scaled_query(block.attn.qkv, stage)
        self.norm1, self.proj = block.norm1, block.attn.proj
        self.norm2, self.mlp = block.norm2, block.mlp

    def forward(self, x: Tensor) -> Tensor:
        """(n, k * b, c) -> (n, k * b, c)."""
        stage = self.stage
        n, k, a, c = stage.window_tokens, stage.windows, stage.heads, stage.channels
        if self.steps is not None:
            x = x.reshape(stage.tokens, -1, c).index_select(0, self.steps)
        x = x.reshape(n, -1, c)  # three axes into every matrix product: at four, epilogues fall out
        qkv = self.qkv(self.norm1(x)).reshape(n, k, -1, 3, a, c // a)
        q, key, v = qkv.permute(3, 1, 2, 4, 0, 5).unbind(0)  # each (k, b, a, n, d)
        weights = (q @ key.transpose(-2, -1) + self.bias).softmax(dim=-1)  # (k, b, a, n, n)
        out = (weights @ v).permute(3, 0, 1, 2, 4).reshape(n, -1, c)
        x = x + self.proj(out)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


def scaled_query(qkv: nn.Linear, stage: StageGeometry) -> nn.Linear:
    """A copy of the projection that multiplies the query rows by 1 / sqrt(d)."""
    c = stage.channels
    scale = torch.ones(3 * c)
    scale[:c] = (c // stage.heads) ** -0.5
    return linear(qkv.weight * scale[:, None], None if qkv.bias is None else qkv.bias * scale)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer around given tensors: weight (out, in), bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
