"""The kernels of one block of a network in export form, one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from fusion.compile import TARGET, our_network
from fusion.rows import Row
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.build import TIMEOUT_S
from swin_deploy.engine.cost.listing import Kernel
from swin_deploy.engine.targets import find_target
from swin_deploy.engine.tensorrt import build_quietly
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half

BLOCK = "layers.0.blocks.1"  # the first that shifts
_MOVES = ("Reshape", "Transpose", "Slice", "Squeeze", "Cast", "Unsqueeze")  # compute nothing


def block_table(row: Row) -> Iterator[str]:
    """Markdown: what each kernel computes, and the bytes that it reads and writes.

    Raises:
        InputError: The compiler refuses the graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph, plan, log = (Path(folder) / name for name in ("model.onnx", "plan", "log"))
        export_graph(our_network(row), row.config, row.batches, graph)
        convert_to_half(graph, graph, "fp16")
        module = find_target(TARGET).module
        listing, _ = run_in_child(build_quietly, log, TIMEOUT_S, module, graph, plan, row.batches)
    kernels = [
        kernel
        for kernel in listing.kernels
        if any(node.startswith(f"{BLOCK}.") for node in kernel.onnx_nodes)
    ]
    yield f"| {row.label}, batch {row.batch}: kernel | MB |"
    yield "|---|---:|"
    for kernel in kernels:
        yield f"| {_work(kernel)} | {(kernel.activation_bytes or 0) / 1e6:.1f} |"
    total = sum(kernel.activation_bytes or 0 for kernel in kernels)
    yield f"| {len(kernels)} kernels | {total / 1e6:.1f} |"


def _work(kernel: Kernel) -> str:
    """The nodes that compute something, without the way to them."""
    names = [node.removeprefix(f"{BLOCK}.").removeprefix(f"{BLOCK}/") for node in kernel.onnx_nodes]
    work = [name for name in names if not name.rsplit("/", 1)[-1].startswith(_MOVES)]
    fused = "fused attention: " if kernel.fused_attention else ""
    return fused + ", ".join(f"`{name}`" for name in work or names)
