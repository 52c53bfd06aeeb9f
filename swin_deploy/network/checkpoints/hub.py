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

import re
from pathlib import Path

from swin_deploy.core.errors import ConfigError
from swin_deploy.network.checkpoints.source import (
    CONFIG,
    FOLDER_FILES,
    PROCESSOR,
    DownloadListener,
    Source,
    checkpoint_file,
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
        from swin_deploy.network.checkpoints.from_torchvision import fetch_torchvision

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


# What libraries also call the weights of a folder: of another precision, or some of them.
_PARTS = re.compile(r"(pytorch_)?model([.-][\w-]+)\.(safetensors|bin)")


def _local(path: Path, listener: DownloadListener) -> Source:
    """A folder as transformers and timm write them, by its own name or that of its checkpoint."""
    file, provenance = checkpoint_file(path), {"source": "file"}
    beside = [file.parent / name for name in (CONFIG, PROCESSOR)]
    config, processor = (other if other.exists() else None for other in beside)
    if file.name not in FOLDER_FILES and not _PARTS.fullmatch(file.name):
        if config is not None or processor is not None:
            listener.note(
                f"{config or processor} lies beside {file.name} and is not read, as it may be of "
                f"another: with {' or '.join(FOLDER_FILES)} it would be"
            )
        return Source(path=file, provenance=provenance)
    from swin_deploy.network.checkpoints.sidecar import read_sidecars

    preprocessing, facts = read_sidecars(config, processor, listener)
    return Source(path=file, provenance=provenance, preprocessing=preprocessing, facts=facts)
