"""Whether an engine multiplies in INT8 where its graph is quantised."""

from __future__ import annotations

from collections.abc import Iterable

from swin_deploy.engine.listing import Kernel, Listing


def products_not_in_int8(listing: Listing, nodes: Iterable[str]) -> tuple[str, ...]:
    """The quantised products that no kernel computes from INT8 activations and INT8 weights.

    Q/DQ pairs leave a compiler the choice to de-quantise first and multiply in the surrounding
    precision. That gives right numbers, and none of what INT8 is for.

    Args:
        listing: Of the engine.
        nodes: Names of the MatMul nodes that are quantised.
    """
    in_int8 = {
        name for kernel in listing.kernels if _multiplies_int8(kernel) for name in kernel.onnx_nodes
    }
    return tuple(node for node in nodes if node not in in_int8)


def _multiplies_int8(kernel: Kernel) -> bool:
    return kernel.matrix and all(
        any(tensor.dtype == "Int8" for tensor in tensors)
        for tensors in (kernel.inputs, kernel.constants)
    )
