"""ONNX: export, exact passes, FP16 and BF16, inputs and outputs. Every stage: a file to a file."""
