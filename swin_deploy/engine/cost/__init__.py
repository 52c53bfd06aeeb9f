"""What the kernels of an engine cost: bytes, FLOPs and purpose of each, beside those of the graph.

In come a compiler's listing and the ONNX file that it compiled; out comes a cost per kernel, and
times as estimates from the peak rates of a GPU.
"""
