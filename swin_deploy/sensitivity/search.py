"""The search for a small set of places whose leaving out makes the rest good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def find_fewest(ranking: Sequence[str], passes: Callable[[tuple[str, ...]], bool]) -> list[str]:
    """A small set of places that passes, by greed: not proven to be the smallest.

    1. If leaving out none passes, that is the answer.
    2. Binary search for the fewest of the most sensitive places that pass together, taken from
       the front of the ranking. All of them pass, because then nothing is quantised.
    3. Backwards through those, from the least sensitive: each is put back, and stays so where the
       rest passes still.

    Where step 2 ends with n of p places, that is 1 + ceil(log2 p) + n evaluations at most; those
    that repeat are for the caller to remember.

    Args:
        ranking: Different places, the most sensitive first.
        passes: Whether the network is good enough with these places left out, always the same for
            the same ones.

    Returns:
        Places to leave out, in the order of the ranking.
    """
    if passes(()):
        return []
    too_few, enough = 0, len(ranking)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if passes(tuple(ranking[:middle])):
            enough = middle
        else:
            too_few = middle
    left = list(ranking[:enough])
    for place in reversed(ranking[:enough]):
        fewer = [name for name in left if name != place]
        if passes(tuple(fewer)):
            left = fewer
    return left
