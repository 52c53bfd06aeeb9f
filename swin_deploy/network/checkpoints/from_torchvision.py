"""A checkpoint of torchvision's table of weights, from its server or from PyTorch's cache."""

from __future__ import annotations

import re
import socket
import ssl
import urllib.error
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import (
    ConfigError,
    EnvironmentMissingError,
    InputError,
    UnsafeError,
    nearest,
)
from swin_deploy.core.files import sha256
from swin_deploy.network.checkpoints.source import (
    Claim,
    DownloadListener,
    Facts,
    Source,
    crop_fraction,
    make_preprocessing,
)
from swin_deploy.network.model import import_torch

_TIMEOUT_S = 30
_ELSEWHERE = "download the file on a machine that can, and give --weights its path"


def fetch_torchvision(name: str, tag: str | None, listener: DownloadListener) -> Source:
    """The checkpoint of a network of torchvision, with its table's preprocessing and labels.

    Args:
        name: Of the network, ``swin_t`` for example.
        tag: Of one of its sets of weights; None for the default one.
        listener: Says whether a progress bar is to be shown.
    """
    import_torch()
    torchvision = _import_torchvision()
    weights = _find(torchvision.models, name, tag)
    path = _download(weights.url, listener.visible)
    transforms, origin = weights.transforms(), f"torchvision's {weights}"
    (crop,), (resized,) = transforms.crop_size, transforms.resize_size
    preprocessing = make_preprocessing(
        origin,
        {
            "crop": crop_fraction(crop, resized),
            "interpolation": transforms.interpolation.value,
            "mean": tuple(transforms.mean),
            "std": tuple(transforms.std),
        },
    )
    labels = tuple(weights.meta["categories"])
    return Source(
        path=path,
        provenance={
            "source": "torchvision",
            "name": name,
            "revision": weights.name,
            "url": weights.url,
            "torchvision": torchvision.__version__,
        },
        preprocessing=preprocessing,
        facts=Facts(
            image_size=(crop, crop),
            labels=labels,
            claims=(
                Claim(origin=origin, key="crop_size", field="image_size", value=(crop, crop)),
                Claim(origin=origin, key="categories", field="num_classes", value=len(labels)),
            ),
        ),
    )


def _import_torchvision() -> Any:
    """The module."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about image codecs that nothing here needs
            import torchvision
    except ImportError as error:
        raise EnvironmentMissingError(
            f"torchvision, whose table says where its weights lie, cannot be imported: {error}",
            f"pip install torchvision, built for the PyTorch that is here; or {_ELSEWHERE}",
        ) from error
    except RuntimeError as error:  # "operator torchvision::nms does not exist"
        raise EnvironmentMissingError(
            f"torchvision is installed, but was built for another PyTorch than the one that is "
            f"here: {error}",
            "torchvision from where this PyTorch came from (a CPU build beside a CPU build); "
            f"or {_ELSEWHERE}",
        ) from error
    return torchvision


def _find(models: Any, name: str, tag: str | None) -> Any:
    swins = [known for known in models.list_models() if known.startswith("swin")]
    if name not in swins:
        hint = ", ".join(nearest(name, swins))
        raise ConfigError(f"torchvision has no Swin called {name!r}", hint)
    table = models.get_model_weights(name)
    if tag is None:
        return table.DEFAULT
    if tag not in table.__members__:
        raise ConfigError(
            f"torchvision has no weights {tag!r} of {name}", ", ".join(table.__members__)
        )
    return table[tag]


def _download(url: str, visible: bool) -> Path:
    """The file in PyTorch's cache, after its hash was compared with the one in its name."""
    from torch import hub

    name = url.rpartition("/")[2]
    path = Path(hub.get_dir()) / "checkpoints" / name
    match = re.search("-([0-9a-f]{8,})[.]", name)
    if match is None:
        raise UnsafeError(f"torchvision gives no hash for {name}", _ELSEWHERE)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _own_errors(name):
            hub.download_url_to_file(url, str(path), match[1], progress=visible)
    elif not (found := sha256(path)).startswith(match[1]):
        raise UnsafeError(
            f"{path} is not the file that torchvision means: its sha256 begins with "
            f"{found[: len(match[1])]}, not with {match[1]}",
            "move it away, and run again to download it",
        )
    return path


@contextmanager
def _own_errors(name: str) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)  # PyTorch sets none, and a silent server would hold us
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()  # it is the answer as well, and holds the connection
        if error.code < 500:
            raise InputError(f"the server has no {name} for us: {error}", _ELSEWHERE) from error
        raise _unreachable(name, error) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise _unreachable(name, error) from error
    except RuntimeError as error:
        raise UnsafeError(
            f"what was downloaded as {name} was cut off or is another file: {error}",
            f"run again; or {_ELSEWHERE}",
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _unreachable(name: str, error: OSError) -> EnvironmentMissingError:
    return EnvironmentMissingError(
        f"{name} is not in PyTorch's cache and cannot be downloaded: {error}", _ELSEWHERE
    )
