"""What stands beside a head in a file and is no layer of it: norms, temperatures, losses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from swin_deploy.network.checkpoints.dialect import Tensors

# Parts of training alone, and layers whose scores are cosines.
_OF_A_LOSS = re.compile(r"(.*[._])?(loss\w*|criterion\w*|metrics?|\w*loss)([._].*)?", re.IGNORECASE)
OF_COSINES = re.compile(r"(.*[._])?(arc|cos|sphere|margin|proxy|metric)[a-z]*\d*([._].*)?", re.I)
HIDDEN_WEIGHT = re.compile(r".*\b(parametrizations\.\w+\.original\d?|weight_(g|v|orig))")
MOST_OF_A_HEAD = 8  # modules; what has more is a decoder or the like
_LOOSE = 1  # in place of the size of what is part of no module


def small_parts(
    pool: Tensors, part_of: Callable[[str], str], prefix: Sequence[str]
) -> dict[str, set[int]]:
    """Modules that hold vectors or single values only, no more than a head has; and of what sizes.

    Norms, temperatures, powers of a pooling, PReLUs; not what is of a loss or counts. Vectors of
    the modules around the network itself are told by ``prefix``, and may be of any size.
    """
    modules: dict[str, list[Tensor]] = {}
    parts: dict[str, set[str]] = {}
    for name, tensor in pool.items():
        if not tensor.is_floating_point() or _OF_A_LOSS.fullmatch(name):
            continue
        module = name.rpartition(".")[0]
        loose = module.split(".") == list(prefix)[: module.count(".") + 1] or not module
        modules.setdefault(name if loose else module, []).append(tensor)
        parts.setdefault(part_of(name), set()).add(module)
    large = {m for found in parts.values() if len(found) > MOST_OF_A_HEAD for m in found}
    return {
        module: {_LOOSE if module in pool else tensor.numel() for tensor in tensors}
        for module, tensors in modules.items()
        if module not in large and all(tensor.ndim <= 1 for tensor in tensors)
    }


def plain_again(name: str) -> str:
    """What makes a layer plain whose weight is computed from the tensor of that name."""
    if ".parametrizations." in name:
        return "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
    kind = "weight" if name.endswith(("weight_g", "weight_v")) else "spectral"
    return f"torch.nn.utils.remove_{kind}_norm(layer)"
