"""Names that say where in the network a node came from, and nothing of where it was exported."""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"


class NameNodesByModule(ir.passes.InPlacePass):
    """Rename nodes after the module that they came from, and give weights back their names.

    Before:  node_MatMul_29(x, val_32)   with the exporter's metadata
    After:   layers.0.blocks.0.attn.qkv/MatMul(x, layers.0.blocks.0.attn.qkv.weight)

    The exporter transposes the weight of a linear layer into a fresh constant; it takes the name
    that it had in the module, unless another value has that already. Nodes without the metadata
    keep their names.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        used: Counter[str] = Counter()
        taken = {value.name for value in model.graph.initializers.values()}
        for node in model.graph:
            if (scope := _module_of(node)) is None:
                continue
            stem = f"{scope}/{node.op_type}" if scope else node.op_type
            used[stem] += 1
            node.name = stem if used[stem] == 1 else f"{stem}_{used[stem]}"
            modified = True
            weight = node.inputs[1] if node.op_type == "MatMul" else None
            name = f"{scope}.weight"
            if weight is not None and weight.is_initializer() and name not in taken:
                weight.name = name
                taken.add(name)
        return ir.passes.PassResult(model, modified=modified)


def _module_of(node: ir.Node) -> str | None:
    """Dotted path of the innermost module, "" for the network itself; None if it is not known."""
    if (text := node.metadata_props.get(_SCOPES)) is None:
        return None
    scopes = ast.literal_eval(text)  # outermost module first, the traced operation last
    return str(scopes[-2]) if len(scopes) > 1 else ""
