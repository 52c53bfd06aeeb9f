#!/usr/bin/env bash
# onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, Python 3.11, Linux x86-64. Seen 2026-11-28.
#
# The session configuration entry session.x64quantprecision = 1 is there to make integer products
# exact on x86-64 processors with AVX2 and without VNNI. A valid graph in which two products read the
# same int8 weight, or no more than the same zero point of their weights (as the libraries' own static
# quantiser writes both), opens without the entry and is refused with it: what is turned into uint8 is
# made once for each product, under one name. With constants of their own it opens.
#
# Seen on an AMD EPYC with AVX2 and no VNNI, and on 2026-11-29 the same on one with AVX-512 VNNI, where
# sums are exact already and the entry has nothing to mend:
#   nothing shared, default: opened
#   nothing shared, session.x64quantprecision=1: opened
#   weight shared, default: opened
#   weight shared, session.x64quantprecision=1: Fail: Attempt to replace the existing tensor
#   zero point shared, default: opened
#   zero point shared, session.x64quantprecision=1: Fail: Attempt to replace the existing tensor
#
# Why it matters: who sets it because sums saturate gets an error that names no node, over a file
# that runs, wrong, without it; a tool that merges equal constants makes such files of others. The
# constants have to be copied first, one for each product.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

WORDS = "Attempt to replace the existing tensor"


def make_model(weights: list[str], zeros: list[str]) -> bytes:
    """Two products of one activation, each with the weight and the zero point that are named."""
    weight = np.random.default_rng(0).integers(-127, 128, (64, 8)).astype(np.int8)
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
        *(numpy_helper.from_array(weight, name) for name in dict.fromkeys(weights)),
        *(helper.make_tensor(name, TensorProto.INT8, [], [0]) for name in dict.fromkeys(zeros)),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["pixels"]),
        helper.make_node("DequantizeLinear", ["pixels", "scale", "zero"], ["left"]),
    ]
    for index, (name, point) in enumerate(zip(weights, zeros, strict=True)):
        right, product = f"right.{index}", f"product.{index}"
        nodes.append(helper.make_node("DequantizeLinear", [name, "scale", point], [right]))
        nodes.append(helper.make_node("MatMul", ["left", right], [product]))
    image, *products = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [4, 64]), ("product.0", [4, 8]), ("product.1", [4, 8]))
    )
    graph = helper.make_graph(nodes, "products", [image], products, constants)
    opset = helper.make_opsetid("", 21)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()


seen = []
for kind, weights, zeros in (
    ("nothing shared", ["w.0", "w.1"], ["z.0", "z.1"]),
    ("weight shared", ["w", "w"], ["z.0", "z.1"]),
    ("zero point shared", ["w.0", "w.1"], ["z", "z"]),
):
    for entry in (None, "1"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        if entry is not None:
            options.add_session_config_entry("session.x64quantprecision", entry)
        try:
            onnxruntime.InferenceSession(
                make_model(weights, zeros), options, providers=["CPUExecutionProvider"]
            )
            says = "opened"
        except Exception as error:
            says = f"{type(error).__name__}: {WORDS if WORDS in str(error) else error}"
        seen.append(says)
        name = "default" if entry is None else f"session.x64quantprecision={entry}"
        print(f"{kind}, {name}: {says}")
flags = Path("/proc/cpuinfo").read_text().split()
if {"avx512_vnni", "avx_vnni"} & set(flags):
    print("this processor has VNNI: the entry does nothing here that could be compared")
    sys.exit(0)
sys.exit(seen != ["opened"] * 3 + [f"Fail: {WORDS}", "opened", f"Fail: {WORDS}"])
PYTHON
