"""ONNX: export, exact passes, simplification, FP16. Every stage reads a file and writes a file."""
