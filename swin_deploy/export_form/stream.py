"""The residual stream between two parts of a frozen network."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


def _as_it_is(x: Tensor) -> Tensor:
    return x


class Stream(NamedTuple):
    """Tokens in some order, and what is still to be added to them.

    V2 normalises what leaves a branch before it adds it. If the tokens change their order after
    that, compilers make two kernels of it, with FP32 numbers between them. So a block hands both
    on, and whoever reads them gathers first, then normalises and adds, which is one kernel.

    Attributes:
        tokens: (slots, b, c).
        branch: Likewise, not normalised; None where nothing is open.
        norm: Of the branch.
    """

    tokens: Tensor
    branch: Tensor | None = None
    norm: nn.Module | None = None

    def gather(
        self, rows: Tensor | None, arrange: Callable[[Tensor], Tensor] = _as_it_is
    ) -> Tensor:
        """The sum in another order: (slots, b, c) -> (rows, b, c), or as ``arrange`` leaves it.

        Args:
            rows: Which slots to read, in which order; None for all as they are.
            arrange: Moves axes, but leaves c the last.
        """
        parts = [self.tokens] if self.branch is None else [self.tokens, self.branch]
        if rows is not None:
            parts = [part.index_select(0, rows) for part in parts]
        tokens, *branch = (arrange(part) for part in parts)
        if self.norm is None:
            return tokens
        total: Tensor = tokens + self.norm(*branch)
        return total
