"""What ``--weights`` says -> a checkpoint on this machine, and what is known of it.

    PATH                     a file, or a folder as transformers and timm write them
    bundled                  the weights that come with the package
    hf:ID[@REV]              a repository of the Hugging Face Hub
    timm:NAME[@REV]          the repository timm/NAME there
    torchvision:NAME[:TAG]   an entry of torchvision's table of weights

Only files that are needed are downloaded, into the caches that their libraries share. Nothing that
comes from there is run.
"""

from __future__ import annotations

import difflib
import re
import socket
import ssl
import urllib.error
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swin_deploy.core.errors import ConfigError, EnvironmentMissingError, InputError, UnsafeError
from swin_deploy.core.files import sha256
from swin_deploy.core.interrupts import import_torch
from swin_deploy.network.checkpoints.source import (
    CONFIG,
    FOLDER_FILES,
    PROCESSOR,
    Claim,
    DownloadListener,
    Facts,
    Source,
    checkpoint_file,
    crop_fraction,
    make_preprocessing,
)


def bundled_weights(variant: str | None) -> Path:
    """The checkpoint that comes with the package for a variant."""
    folder = Path(__file__).with_name("bundled")
    names = sorted(path.stem for path in folder.glob("*.safetensors"))
    if variant not in names:
        raise ConfigError(
            f"no weights for {variant or 'a network without a name'} come with the package",
            f"--variant {' or '.join(names)}",
        )
    return folder / f"{variant}.safetensors"


_PART = r"\w(?:[\w.-]{0,94}\w)?"  # ASCII letters, digits and _; inside also - and .
_FORMS = {
    "hf": (rf"(?P<name>({_PART}/)?{_PART})(@(?P<revision>{_PART}(/{_PART})*))?", "hf:OWNER/NAME"),
    "timm": (rf"(?P<name>{_PART})(@(?P<revision>{_PART}(/{_PART})*))?", "timm:NAME"),
    "torchvision": (r"(?P<name>\w+)(:(?P<tag>\w+))?", "torchvision:swin_t"),
}


def resolve_source(text: str, variant: str | None, listener: DownloadListener) -> Source:
    """The checkpoint that ``text`` names, downloaded if need be.

    Args:
        text: As in the table above.
        variant: The variant that the user named, whose bundled weights may be meant.
        listener: Hears of downloads.
    """
    if text == "bundled":
        return Source(path=bundled_weights(variant), provenance={"source": "bundled"})
    if (found := _name_in(text)) is None:
        return _local(Path(text), listener)
    kind, match = found
    if kind == "torchvision":
        return fetch_torchvision(match["name"], match["tag"], listener)
    from swin_deploy.network.checkpoints.from_huggingface import fetch_huggingface

    repository = match["name"] if kind == "hf" else f"timm/{match['name']}"
    return fetch_huggingface(kind, repository, match["revision"], listener)


def require_source(text: str, variant: str | None) -> None:
    """Check what can be told of ``text`` by a look, with nothing downloaded or read.

    Arguments and errors of ``resolve_source``.
    """
    if text == "bundled":
        bundled_weights(variant)
    elif _name_in(text) is None:
        checkpoint_file(Path(text))


def _name_in(text: str) -> tuple[str, re.Match[str]] | None:
    """The kind of a name and its parts; None of a path."""
    if not text:  # as a path it would be the present folder
        raise ConfigError(
            "--weights '' names nothing", "a file, a folder, bundled, or hf:OWNER/NAME"
        )
    kind, _, rest = text.partition(":")
    if kind not in _FORMS:
        return None
    pattern, example = _FORMS[kind]
    match = re.fullmatch(pattern, rest, re.ASCII)
    if match is None or re.search(r"\.\.|--|\.git$", match["name"]) or ".." in rest:
        raise ConfigError(
            f"--weights {text!r} names nothing that there can be",
            f"a name as in {example}, or ./{kind}:... for a file that is called so",
        )
    return kind, match


def _local(path: Path, listener: DownloadListener) -> Source:
    """A folder as transformers and timm write them, by its own name or that of its checkpoint."""
    file, provenance = checkpoint_file(path), {"source": "file"}
    beside = [file.parent / name for name in (CONFIG, PROCESSOR)]
    config, processor = (other if other.exists() else None for other in beside)
    if file.name not in FOLDER_FILES:
        if config is not None or processor is not None:
            listener.note(
                f"{config or processor} lies beside {file.name} and is not read, as it may be of "
                f"another: with {' or '.join(FOLDER_FILES)} it would be"
            )
        return Source(path=file, provenance=provenance)
    from swin_deploy.network.checkpoints.sidecar import read_sidecars

    preprocessing, facts = read_sidecars(config, processor, listener)
    return Source(path=file, provenance=provenance, preprocessing=preprocessing, facts=facts)


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
        near = difflib.get_close_matches(name, swins, n=3, cutoff=0.4) or swins
        raise ConfigError(f"torchvision has no Swin called {name!r}", ", ".join(near))
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
