"""Which version of TensorRT or TensorRT-RTX is here, by the library itself."""

from __future__ import annotations

import importlib

from swin_deploy.errors import EnvironmentMissingError


def library_version(module: str) -> str:
    """Version of "tensorrt" or "tensorrt_rtx"; JetPack's has no metadata of a distribution.

    Raises:
        EnvironmentMissingError: It cannot be imported.
    """
    try:
        trt = importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of it is missing
        raise EnvironmentMissingError(
            f"cannot import {module}: {error}", "swin-deploy doctor"
        ) from error
    return str(trt.__version__)
