"""What was tried outside attention: each changes a frozen network in place."""

from __future__ import annotations

from torch import Tensor, nn

from swin_deploy.export_form.blocks import FrozenBlock
from swin_deploy.export_form.freeze import FrozenSwin
from swin_deploy.export_form.stream import Stream


class _FourAxes(nn.Module):
    """A module on (n, k, b, c)."""

    def __init__(self, module: nn.Module, n: int) -> None:
        super().__init__()
        self.module, self.n = module, n

    def forward(self, x: Tensor) -> Tensor:
        slots, b, c = x.shape
        return self.module(x.reshape(self.n, slots // self.n, b, c)).reshape(slots, b, c)  # type: ignore[no-any-return]


def mlp_at_four_axes(network: FrozenSwin) -> None:
    """The MLP on (n, k, b, c), between reshapes.

    Bias, GELU and residual fall out of the epilogues of its products.
    """
    for block in _blocks(network):
        block.mlp = _FourAxes(block.mlp, block.attn.stage.window_tokens)


class _Decomposed(nn.Module):
    """A LayerNorm in operators that every opset has."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=-1, keepdim=True)
        deviation = (centred.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        return centred / deviation * self.weight + self.bias


def decomposed_norms(network: FrozenSwin) -> None:
    """Every LayerNorm as Sub, Mul, ReduceMean, Sqrt and Div.

    The compiler fuses them as well, but the variance is a sum of squares in FP16, which overflows.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, _Decomposed(child))


class _Closed(nn.Module):
    """A block that adds its last branch before anybody gathers."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, stream: Stream) -> Stream:
        return Stream(self.block(stream).gather(None))


def norm_before_gather(network: FrozenSwin) -> None:
    """V2: the norm and the residual Add before the tokens change their order, not after.

    Two kernels instead of one, with FP32 numbers between them.
    """
    for stage in network.layers:
        stage.blocks = nn.ModuleList(map(_Closed, stage.blocks))


def _blocks(network: FrozenSwin) -> list[FrozenBlock]:
    return [module for module in network.modules() if isinstance(module, FrozenBlock)]
