"""What knows nothing of networks: errors, files, processes, records.

In comes anything from outside: paths, bytes, signals, native code that may crash. Out comes a value
of ours or a ``SwinDeployError`` with an exit code; files are whole or not there.
Here stands what every room needs; nothing here knows a Swin or an engine. All but ``onnx_file``
needs the standard library alone.
"""
