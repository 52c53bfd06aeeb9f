"""Swin as libraries write it that do not install: their names, their forward, taken literally.

Written after their sources and without anything of swin_deploy, which is compared with it.

    microsoft            Swin-Transformer, V1 and V2: sizes are fixed, nothing is padded
    microsoft detection  Swin-Transformer-Object-Detection: pads, always shifts, norms of stages
    wzmiaomiao           deep-learning-for-image-processing: pads, always shifts
    mmpretrain           pads, merges by Unfold, refuses grids smaller than a window
    mmdet                the same as backbone of mmdet and mmseg: always shifts, norms of stages
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPENMMLAB = ("mmpretrain", "mmdet")
BACKBONES = ("microsoft detection", "mmdet")


def partition(x: Tensor, window: int) -> Tensor:
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, c)


def reverse(windows: Tensor, window: int, h: int, w: int) -> Tensor:
    c = windows.shape[-1]
    x = windows.view(-1, h // window, w // window, window, window, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, c)


def nine_region_mask(h: int, w: int, window: int, shift: int) -> Tensor:
    """-100 between tokens of different regions: (windows, n, n)."""
    image = torch.zeros(1, h, w, 1)
    slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    count = 0
    for rows in slices:
        for columns in slices:
            image[:, rows, columns, :] = count
            count += 1
    regions = partition(image, window).squeeze(-1)
    difference = regions.unsqueeze(1) - regions.unsqueeze(2)
    return difference.masked_fill(difference != 0, -100.0)


def authors_index(window: int) -> Tensor:
    side = torch.arange(window)
    coords = torch.stack(torch.meshgrid(side, side, indexing="ij")).flatten(1)  # (2, n)
    relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0).contiguous()
    relative += window - 1
    relative[:, :, 0] *= 2 * window - 1
    return relative.sum(-1)


def double_step_index(window: int) -> Tensor:
    """As OpenMMLab counts: two sequences of steps, added, turned round."""
    rows = torch.arange(0, (2 * window - 1) * window, 2 * window - 1)
    steps = (rows[:, None] + torch.arange(window)[None, :]).reshape(1, -1)
    return (steps + steps.T).flip(1).contiguous()


class WindowAttention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int, index: Tensor, table: bool) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        if table:
            rows = (2 * window - 1) ** 2
            self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
            self.register_buffer("relative_position_index", index)
        self.table = table
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = (q * self.scale) @ k.transpose(-2, -1)
        if self.table:
            bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
            logits = logits + bias.view(n, n, -1).permute(2, 0, 1).unsqueeze(0)
        return self.proj(masked_softmax(logits, mask).matmul(v).transpose(1, 2).reshape(b, n, c))


class WindowAttentionV2(nn.Module):
    def __init__(self, dim: int, heads: int, window: int, trained: int) -> None:
        super().__init__()
        self.heads = heads
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, heads, bias=False)
        )
        side = torch.arange(-(window - 1), window, dtype=torch.float32)
        coords = torch.stack(torch.meshgrid(side, side, indexing="ij")).permute(1, 2, 0)
        coords = coords.contiguous().unsqueeze(0) / ((trained or window) - 1) * 8
        coords = coords.sign() * torch.log2(coords.abs() + 1.0) / math.log2(8)
        self.register_buffer("relative_coords_table", coords)
        self.register_buffer("relative_position_index", authors_index(window))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        b, n, c = x.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        logits = logits * torch.clamp(self.logit_scale, max=math.log(1.0 / 0.01)).exp()
        table = self.cpb_mlp(self.relative_coords_table).view(-1, self.heads)
        bias = table[self.relative_position_index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        logits = logits + 16 * torch.sigmoid(bias).unsqueeze(0)
        return self.proj(masked_softmax(logits, mask).matmul(v).transpose(1, 2).reshape(b, n, c))


def masked_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        _, heads, n, _ = logits.shape
        logits = logits.view(-1, len(mask), heads, n, n) + mask.unsqueeze(1).unsqueeze(0)
        logits = logits.view(-1, heads, n, n)
    return logits.softmax(dim=-1)


class Block(nn.Module):
    def __init__(
        self,
        swin: Swin,
        dim: int,
        heads: int,
        grid: tuple[int, int],
        shifted: bool,
        trained: int,
    ) -> None:
        super().__init__()
        self.library, self.version = swin.library, swin.version
        self.window, self.shift = swin.window, swin.window // 2 if shifted else 0
        if self.library == "microsoft" and min(grid) <= self.window:
            self.shift, self.window = 0, min(grid)
        index = (double_step_index if self.library in OPENMMLAB else authors_index)(self.window)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        attention: nn.Module = (
            WindowAttention(dim, heads, self.window, index, swin.table)
            if self.version == 1
            else WindowAttentionV2(dim, heads, self.window, trained)
        )
        first, second = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        if self.library in OPENMMLAB:
            self.attn = nn.ModuleDict({"w_msa": attention})
            self.ffn = nn.ModuleDict(
                {"layers": nn.Sequential(nn.Sequential(first, nn.GELU()), second)}
            )
        else:
            self.attn = attention
            self.mlp = nn.Sequential(OrderedDict(fc1=first, act=nn.GELU(), fc2=second))
        if self.library == "microsoft":
            mask = nine_region_mask(*grid, self.window, self.shift) if self.shift else None
            self.register_buffer("attn_mask", mask)

    def attend(self, x: Tensor, h: int, w: int) -> Tensor:
        attention = self.attn["w_msa"] if self.library in OPENMMLAB else self.attn
        window, shift = self.window, self.shift
        if self.library == "microsoft":
            assert h % window == 0
            assert w % window == 0
        if self.library == "mmpretrain":
            assert min(h, w) >= window
            shift = 0 if min(h, w) == window else shift
        b, _, c = x.shape
        x = F.pad(x.view(b, h, w, c), (0, 0, 0, -w % window, 0, -h % window))
        high, wide = x.shape[1:3]
        mask = nine_region_mask(high, wide, window, shift) if shift > 0 else None
        if shift > 0:
            x = torch.roll(x, shifts=(-shift, -shift), dims=(1, 2))
        x = reverse(attention(partition(x, window), mask), window, high, wide)
        if shift > 0:
            x = torch.roll(x, shifts=(shift, shift), dims=(1, 2))
        return x[:, :h, :w, :].reshape(b, h * w, c)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        mlp = self.ffn["layers"] if self.library in OPENMMLAB else self.mlp
        if self.version == 2:
            x = x + self.norm1(self.attend(x, h, w))
            return x + self.norm2(mlp(x))
        x = x + self.attend(self.norm1(x), h, w)
        return x + mlp(self.norm2(x))


class PatchMerging(nn.Module):
    def __init__(self, library: str, version: int, dim: int) -> None:
        super().__init__()
        self.library, self.version = library, version
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim if version == 1 else 2 * dim)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        b, _, c = x.shape
        x = x.view(b, h, w, c)
        if h % 2 or w % 2:
            assert self.library != "microsoft"
            x = F.pad(x, (0, 0, 0, w % 2, 0, h % 2))
        if self.library in OPENMMLAB:
            x = nn.Unfold(kernel_size=2, stride=2)(x.permute(0, 3, 1, 2)).transpose(1, 2)
        else:
            corners = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
            x = torch.cat(corners, -1).view(b, -1, 4 * c)
        return self.norm(self.reduction(x)) if self.version == 2 else self.reduction(self.norm(x))


class PatchEmbed(nn.Module):
    def __init__(self, library: str, dim: int) -> None:
        super().__init__()
        self.library, self.name = library, "projection" if library in OPENMMLAB else "proj"
        self.add_module(self.name, nn.Conv2d(3, dim, kernel_size=4, stride=4))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        h, w = x.shape[2:]
        if self.library == "wzmiaomiao":
            if h % 4 != 0 or w % 4 != 0:
                x = F.pad(x, (0, 4 - w % 4, 0, 4 - h % 4))
        elif self.library == "microsoft":
            assert h % 4 == w % 4 == 0
        else:
            x = F.pad(x, (0, -w % 4, 0, -h % 4))
        x = getattr(self, self.name)(x)
        h, w = x.shape[2:]
        return self.norm(x.flatten(2).transpose(1, 2)), h, w


class Swin(nn.Module):
    """Returns the feature map of every stage, (b, h, w, c), and the logits; None of a backbone.

    ``trained`` are V2's windows of the pre-training, 0 for the present ones; without ``table``
    there are no position biases. Microsoft's network is made for one ``image`` size.
    """

    def __init__(
        self,
        library: str,
        image: tuple[int, int],
        dim: int,
        depths: Sequence[int],
        heads: Sequence[int],
        window: int,
        classes: int,
        version: int = 1,
        trained: Sequence[int] = (),
        table: bool = True,
    ) -> None:
        super().__init__()
        self.library, self.version, self.window, self.table = library, version, window, table
        self.patch_embed = PatchEmbed(library, dim)
        stages = []
        for i, depth in enumerate(depths):
            grid = image[0] // 4 // 2**i, image[1] // 4 // 2**i
            stage = nn.Module()
            stage.blocks = nn.ModuleList(
                Block(self, dim << i, heads[i], grid, j % 2 == 1, trained[i] if trained else 0)
                for j in range(depth)
            )
            if i + 1 < len(depths):
                stage.downsample = PatchMerging(library, version, dim << i)
            stages.append(stage)
        self.name = "stages" if library in OPENMMLAB else "layers"
        self.add_module(self.name, nn.ModuleList(stages))
        top = dim << (len(depths) - 1)
        self.last_norm = "norm3" if library == "mmpretrain" else "norm"
        if library in BACKBONES:
            for i in range(len(depths)):
                self.add_module(f"norm{i}", nn.LayerNorm(dim << i))
        else:
            self.add_module(self.last_norm, nn.LayerNorm(top))
            head = nn.Linear(top, classes)
            self.head = nn.ModuleDict({"fc": head}) if library == "mmpretrain" else head

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        x, h, w = self.patch_embed(x)
        maps = []
        for i, stage in enumerate(getattr(self, self.name)):
            for block in stage.blocks:
                x = block(x, h, w)
            normed = getattr(self, f"norm{i}")(x) if self.library in BACKBONES else x
            maps.append(normed.view(len(x), h, w, -1))
            if hasattr(stage, "downsample"):
                x = stage.downsample(x, h, w)
                h, w = (h + 1) // 2, (w + 1) // 2
        if self.library in BACKBONES:
            return maps, None
        head = self.head["fc"] if self.library == "mmpretrain" else self.head
        return maps, head(getattr(self, self.last_norm)(x).mean(dim=1))
