"""An ONNX file that anyone may have written -> a graph that the checker passed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import onnx

from swin_deploy.core.errors import EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.core.files import require_plain_file
from swin_deploy.core.records import reading, reason_of

_KIND = "a valid ONNX model"
# What the checker says of weights that it would not open; a file that is not there is no danger.
_ELSEWHERE = re.compile(
    r"(?:Data|Location) of (?:external )?TensorProto(?!.*not regular file)", re.S
)


SCOPES = "pkg.torch.onnx.name_scopes"  # what torch.onnx.export(dynamo=True) leaves in every node


def module_in(scopes: str) -> str:
    """Dotted path of the innermost module of a node, "" for the network itself, by its ``SCOPES``.

    Raises:
        Exception: It is no list of names.
    """
    names = ast.literal_eval(scopes)  # outermost module first, the traced operation last
    return str(names[-2]) if len(names) > 1 else ""


def read_onnx(path: Path, *, infer: bool = False) -> onnx.ModelProto:
    """Check a file, by its path, and read it without the weights that other files hold.

    Args:
        path: The file.
        infer: Infer all shapes, strictly, as part of the check.
    """
    require_plain_file(path, "an ONNX model")
    with reading(path, _KIND):
        model = onnx.load(path, load_external_data=False)
        _require_known_opset(path, model)
        try:
            onnx.checker.check_model(str(path), full_check=infer)
        except onnx.checker.ValidationError as error:
            if _ELSEWHERE.match(str(error)):
                raise UnsafeError(
                    f"{path} has weights where none are read: {reason_of(error)}",
                    "one file with its weights, or a file beside it that is no link",
                ) from error
            raise
        _require_text(path, model.graph)
    return model


def _require_known_opset(path: Path, model: onnx.ModelProto) -> None:
    newest = onnx.defs.onnx_opset_version()
    if model.ir_version > onnx.IR_VERSION:
        raise EnvironmentMissingError(
            f"{path} has IR version {model.ir_version}, and ONNX {onnx.__version__} reads up to "
            f"{onnx.IR_VERSION}",
            "a newer onnx",
        )
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx") and used.version > newest:
            raise EnvironmentMissingError(
                f"{path} has opset {used.version}, and ONNX {onnx.__version__} reads up to "
                f"{newest}",
                "a newer onnx, or export with --opset",
            )


def _require_text(path: Path, graph: onnx.GraphProto) -> None:
    """Protobuf hands out what is no UTF-8 as bytes, of which nothing downstream knows."""
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node)
    names = [value.name for value in values]
    names += [name for node in graph.node for name in (*node.input, *node.output, node.op_type)]
    odd = next((name for name in names if not isinstance(name, str)), None)
    if odd is not None:
        raise InputError(f"{path} has a name that is no UTF-8: {odd!r:.80}")
