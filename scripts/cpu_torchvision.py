"""torchvision beside a CPU build of PyTorch, as far as transforms, data sets and models need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def import_torchvision() -> Any:
    """The module, whatever build of PyTorch it was made for.

    Its compiled operators are those of CUDA builds on the package index. Beside another PyTorch
    their fake kernels cannot be registered, which ends the import, and nothing here uses them.
    """
    register = torch.library.register_fake

    def skip_its_own(name: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        if str(name).startswith("torchvision::"):
            return lambda function: function
        return register(name, *args, **kwargs)

    torch.library.register_fake = skip_its_own
    try:
        import torchvision
    finally:
        torch.library.register_fake = register
    return torchvision
