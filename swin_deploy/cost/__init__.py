"""What the kernels of engines cost: of a run, of an engine in one, or of an ONNX file."""
