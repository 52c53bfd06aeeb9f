"""What the child process of simplification runs: it imports little, as its start is its cost."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

from swin_deploy.core.errors import InputError

# These turn x @ w + b into Reshape, Gemm, Reshape. A Gemm is two-dimensional, so every matrix
# product would be wrapped in reshapes, and the nodes would lose the names of their modules.
SKIPPED = ("fuse_matmul_add_bias_into_gemm", "fuse_matmul_add_bias_into_gemm_batched")


def run_simplifier(source: Path, final: Path) -> None:
    """Write what onnxsim makes of ``source`` to ``final``.

    Raises:
        InputError: It says that it cannot.
    """
    # onnxsim imports torch where there is one, for what is not used here, and that takes 2 s.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    import onnxsim

    try:
        model, _ = onnxsim.simplify(onnx.load(source), skipped_optimizers=list(SKIPPED))
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"onnxsim cannot simplify {source.name}: {error}") from error
    onnx.save(model, final)
