"""The ``swin-deploy`` command: parse, call the library once, print what it returned.

Nothing here decides anything. Imports of torch, onnx and tensorrt stay inside the commands, so
``--help`` and a mistyped option answer at once.
"""
