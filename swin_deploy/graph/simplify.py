"""Simplify an ONNX file with onnxsim, in a child process; compared before it replaces anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from swin_deploy.core.errors import InputError, ResourceError, VerificationError
from swin_deploy.core.files import atomic_path
from swin_deploy.core.process import run_in_child
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.graph.export import check_graph
from swin_deploy.graph.simplifier import run_simplifier
from swin_deploy.network.judge import FLOORS, FloatArray, difference, judge

TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Simplified:
    """What simplification did.

    Attributes:
        nodes_before: Nodes of the exported graph.
        nodes_after: Nodes of the simplified one.
        failure: Why the exported graph was kept instead; empty if it was simplified.
    """

    nodes_before: int
    nodes_after: int
    failure: str = ""


def simplify_graph(
    source: Path, final: Path, images: FloatArray, log: Path, strict: bool = False
) -> Simplified:
    """Write the simplified form of ``source`` to ``final``.

    Where the simplifier crashes, hangs or changes the numbers, the exported graph is kept, which
    is as right and hardly slower; the result says so.

    Args:
        source: A valid ONNX file. Unchanged.
        final: Replaced only by a graph that passed the checker and the comparison.
        images: (b, channels, H, W) float32, what both graphs are compared on.
        log: Gets what the simplifier printed.
        strict: Raise instead of keeping the exported graph.
    """
    nodes_before = count_nodes(source)
    failure = ""
    with atomic_path(final) as scratch:
        try:
            run_in_child(run_simplifier, log, TIMEOUT_S, source, scratch)
            check_graph(scratch)
            require_same_numbers(source, scratch, images)
        except (InputError, ResourceError, VerificationError) as error:
            if strict:
                raise
            failure = error.problem
            scratch.unlink(missing_ok=True)
            scratch.write_bytes(source.read_bytes())
        nodes_after = count_nodes(scratch)
    return Simplified(nodes_before, nodes_after, failure)


def count_nodes(path: Path) -> int:
    """Nodes of the main graph."""
    return len(onnx.load(path).graph.node)


def require_same_numbers(source: Path, simplified: Path, images: FloatArray) -> None:
    """Check that both graphs have the same outputs with the same numbers.

    Raises:
        VerificationError: They have not.
    """
    with OnnxRuntimeRunner(source) as before, OnnxRuntimeRunner(simplified) as after:
        reference, candidate = before.run(images), after.run(images)
    for name in dict.fromkeys((*reference, *candidate)):
        numbers = difference(reference.get(name), candidate.get(name))
        if reason := judge(numbers, FLOORS["simplified"]["fp32"]):
            raise VerificationError(
                f"onnxsim changed {name}: {reason}", "the graph as exported: leave --strict out"
            )
