"""Engines: targets, builds, runners, and what the kernels of an engine cost.

In comes an ONNX file and a row of the table of targets; out come an engine file, its listing of
kernels, and a runner: arrays in, arrays out.
A new target is a row in ``targets``. Precision is the graph's and nothing here sets it. Graphs are
read here and not changed, and of networks ``cost`` alone knows the names of modules.
"""
