"""Forms of V1's attention with a product each for query, key and value."""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.parts import Tried, layer


class Separate(Tried):
    """Three MatMuls on the same input.

    The compiler merges them into one packed product, and copies the three parts out of it by
    three kernels.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        layers = [layer(*pair) for pair in zip(weight, bias, strict=True)]
        self.q, self.k, self.v = layers

    def split(self, x: Tensor) -> list[Tensor]:
        return self.rank_five(self.q(x), self.k(x), self.v(x))


class Unmerged(Separate):
    """Three MatMuls on x, 2 x and 4 x with the weights halved and quartered: not merged.

    Three products that read the input three times, and their results are copied all the same.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        super().prepare(weight / torch.tensor([1.0, 2, 4])[:, None, None], bias)

    def split(self, x: Tensor) -> list[Tensor]:
        return self.rank_five(*self.products(x))

    def products(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value as (n * k, b, c)."""
        return self.q(x), self.k(2 * x), self.v(4 * x)


class UnmergedThree(Unmerged):
    """The same with three axes in attention: as long as the bias is added, nothing changes."""

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.rank_three(*self.products(x))
        return self.attend_three(self.windows(q @ key.transpose(1, 2)) + self.bias, v)


class UnmergedSubtracted(Unmerged):
    """Three MatMuls that are not merged, the query negated, and bias - (-q) k^T.

    Nor does this change anything by itself, at five axes.
    """

    def prepare(self, weight: Tensor, bias: Tensor) -> None:
        negated = torch.tensor([-1.0, 1, 1])
        super().prepare(weight * negated[:, None, None], bias * negated[:, None])

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.split(x)
        return self.attend(self.bias - q @ key.transpose(-2, -1), v)


class UnmergedSubtractedThree(UnmergedSubtracted):
    """The same with three axes in attention.

    Nothing is copied: both changes together do it. What is left to save are two products and the
    two inputs that are scaled for them.
    """

    def forward(self, x: Tensor) -> Tensor:
        q, key, v = self.rank_three(*self.products(x))
        return self.attend_three(self.bias - self.windows(q @ key.transpose(1, 2)), v)
