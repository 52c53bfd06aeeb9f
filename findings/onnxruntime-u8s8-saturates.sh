#!/usr/bin/env bash
# onnxruntime 1.31.1, onnx 1.23.2, numpy 2.4.6, Python 3.11, Linux x86-64. Seen 2026-11-28.
#
# On an x86-64 processor with AVX2 and without VNNI, the products of a quantised graph (uint8
# activations, int8 weights, QDQ form, default session options) are wrong without an error or a
# warning: sums of pairs saturate at 16 bits. With large values they are off by a quarter of the
# largest result. The session configuration entry session.x64quantprecision = 1 makes the same file
# exact. On processors with VNNI both are exact, so this prints what it sees and compares only where
# there is none.
#
# Seen on an AMD EPYC with AVX2 and no VNNI:
#   default: off by 67375 of at most 285119
#   session.x64quantprecision=1: off by 0 of at most 285119
#
# Why it matters: an INT8 file that was right where it was made is wrong on another server, and the
# libraries' own quantiser advises reduce_range, which costs accuracy everywhere.
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

rng = np.random.default_rng(0)
weight = rng.integers(-127, 128, (64, 8)).astype(np.int8)
image = rng.integers(200, 256, (4, 64))
exact = image @ weight.astype(np.int64)
constants = [
    helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]),
    helper.make_tensor("zero_u", TensorProto.UINT8, [], [0]),
    helper.make_tensor("zero_s", TensorProto.INT8, [], [0]),
    numpy_helper.from_array(weight, "weight"),
]
nodes = [
    helper.make_node("QuantizeLinear", ["image", "scale", "zero_u"], ["pixels"]),
    helper.make_node("DequantizeLinear", ["pixels", "scale", "zero_u"], ["left"]),
    helper.make_node("DequantizeLinear", ["weight", "scale", "zero_s"], ["right"]),
    helper.make_node("MatMul", ["left", "right"], ["product"]),
]
ends = [
    helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    for name, shape in (("image", [4, 64]), ("product", [4, 8]))
]
graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], constants)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
worst = []
for entry in (None, "1"):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if entry is not None:
        options.add_session_config_entry("session.x64quantprecision", entry)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"image": image.astype(np.float32)})
    worst.append(int(np.abs(found - exact).max()))
    name = "default" if entry is None else f"session.x64quantprecision={entry}"
    print(f"{name}: off by {worst[-1]} of at most {np.abs(exact).max()}")
flags = Path("/proc/cpuinfo").read_text().split()
if {"avx512_vnni", "avx_vnni"} & set(flags):
    print("this processor has VNNI: the default cannot be compared here")
    sys.exit(worst[1] != 0)
sys.exit(not (worst[0] > 0 and worst[1] == 0))
PYTHON
