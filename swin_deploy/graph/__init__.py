"""ONNX graphs: export, simplification, and exact passes. Every stage goes from a file to a file.

In comes a frozen network or an ONNX file; out comes another ONNX file that the checker passed:
simplified, in half precision or INT8, with the inputs and outputs that were asked for.
Here stand passes and the proofs of what they did (``structure``, and ``simplify`` for a simplifier
that is not ours). Which of them a run needs, and its gate, is the pipeline's matter.
"""
