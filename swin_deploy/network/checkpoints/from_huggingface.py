"""A checkpoint and what lies beside it, from the Hugging Face Hub or from its cache."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import logging as hub_logging

from swin_deploy.core.errors import (
    EnvironmentMissingError,
    FileAccessError,
    InputError,
    UnsafeError,
)
from swin_deploy.core.files import sha256
from swin_deploy.network.checkpoints.shards import shards_of
from swin_deploy.network.checkpoints.sidecar import is_timm, read_sidecars
from swin_deploy.network.checkpoints.source import (
    CONFIG,
    FOLDER_FILES,
    INDEX,
    PROCESSOR,
    DownloadListener,
    Source,
)

_TIMEOUT_S = 10
_NO_ANSWER = (LocalEntryNotFoundError, httpx2.HTTPError, httpx2.InvalidURL)
_ELSEWHERE = "download it on a machine that can, and give --weights the folder"


def fetch_huggingface(
    kind: str, repository: str, revision: str | None, listener: DownloadListener
) -> Source:
    """The checkpoint of a repository, with what its sidecars say.

    Args:
        kind: ``hf`` or ``timm``; what the user called it, for the manifest.
        repository: Owner and name.
        revision: Branch, tag or commit; None for the default branch.
        listener: Hears of downloads.
    """
    what = repository if revision is None else f"{repository}@{revision}"
    with _plain_and_quiet(), _own_errors(what, revision):
        commit = _resolve(repository, revision, listener)
        bars = _bar_class(listener)
        config = _fetch(repository, commit, CONFIG, bars)
        # timm says all in one file, and a cache that it filled does not know of another.
        one_file = config is not None and is_timm(config)
        processor = None if one_file else _fetch(repository, commit, PROCESSOR, bars)
        for name in FOLDER_FILES:
            if (weights := _fetch(repository, commit, name, bars)) is not None:
                break
        else:
            raise InputError(
                f"the repository {what} holds none of {', '.join(FOLDER_FILES)}",
                "another repository, or convert its checkpoint to one of them",
            )
        files = [weights]
        if name.endswith(INDEX):
            for shard in shards_of(weights):
                if (file := _fetch(repository, commit, shard, bars)) is None:
                    raise InputError(f"the repository {what} lacks {shard}, which {name} names")
                files.append(file)
    for file in files:
        _require_recorded(file)
    preprocessing, facts = read_sidecars(config, processor, listener)
    return Source(
        path=weights,
        provenance={"source": kind, "repository": repository, "revision": commit},
        preprocessing=preprocessing,
        facts=facts,
    )


def _resolve(repository: str, revision: str | None, listener: DownloadListener) -> str:
    """The commit that the revision is now, or was when the hub was last reached."""
    pinned = re.fullmatch("[0-9a-f]{40}", revision or "") is not None
    if pinned and huggingface_hub.try_to_load_from_cache(repository, CONFIG, revision=revision):
        return str(revision)
    try:
        # One question that is not asked again: downloads would try for half a minute.
        huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT_S)
    except (httpx2.TransportError, OfflineModeIsEnabled, HfHubHTTPError) as error:
        if pinned or (isinstance(error, HfHubHTTPError) and error.response.status_code < 500):
            raise
        try:
            commit = _resolve_here(repository, revision, local_files_only=True)
        except RevisionResolutionError:
            raise error from None
        if not constants.is_offline_mode():
            listener.note(f"the hub cannot be reached; the cache has {repository} at {commit}")
        return commit
    return _resolve_here(repository, revision, local_files_only=False)


def _resolve_here(repository: str, revision: str | None, *, local_files_only: bool) -> str:
    """The commit; the cache remembers it for times without a network."""
    return huggingface_hub.resolve_revision(
        repository, revision=revision, local_files_only=local_files_only
    ).resolved


def _fetch(repository: str, commit: str, name: str, bars: type) -> Path | None:
    """The file in the cache; None if the repository has none of that name.

    The cache also remembers which files a commit does not have.
    """
    cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=commit)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None:
        return None
    try:
        return Path(
            huggingface_hub.hf_hub_download(repository, name, revision=commit, tqdm_class=bars)
        )
    except RemoteEntryNotFoundError:
        return None


def _require_recorded(weights: Path) -> None:
    """Compare large files with their name in the cache, which is the hash that the hub gave."""
    blob = weights.resolve()
    if re.fullmatch("[0-9a-f]{64}", blob.name) and (found := sha256(blob)) != blob.name:
        raise UnsafeError(
            f"{blob} is not the file of that hash: its sha256 is {found}",
            "remove it, and run again to download it",
        )


def _bar_class(listener: DownloadListener) -> type:
    """What the library takes for a progress bar, handing on to ``listener``."""

    class Bar:
        def __init__(self, *, desc: str, total: int | None = None, **_: Any) -> None:
            self._advance = listener.file(desc.rpartition("/")[2], total)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: int) -> None:
            self._advance(count)

    return Bar


@contextmanager
def _plain_and_quiet() -> Iterator[None]:
    """Plain HTTP, and errors as exceptions only.

    The library's other way of transfer is native code with threads of its own, made for files
    that are far larger than these.
    """
    verbosity, disabled = hub_logging.get_verbosity(), constants.HF_HUB_DISABLE_XET
    hub_logging.set_verbosity(logging.CRITICAL)
    constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        constants.HF_HUB_DISABLE_XET = disabled


@contextmanager
def _own_errors(what: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except GatedRepoError as error:
        raise FileAccessError(
            f"the repository {what} is gated: its owner decides who may download it",
            f"ask for access on its page, then hf auth login or HF_TOKEN; or {_ELSEWHERE}",
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"there is no repository {what} on the hub, or it is private",
            "the spelling; for a private one, hf auth login or HF_TOKEN",
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(
            f"the repository {what.partition('@')[0]} has no revision {revision}",
            "a branch, tag or commit that it has, or none for the newest",
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise FileAccessError(
                f"the hub refuses to hand out {what}: it answers {status}",
                f"hf auth login or HF_TOKEN with a token that may; or {_ELSEWHERE}",
            ) from error
        raise _unreachable(what, f"the hub answers {status}") from error
    except OfflineModeIsEnabled as error:
        raise _unreachable(what, "HF_HUB_OFFLINE is set") from error
    except ValueError as error:
        raise _unreachable(what, f"what answers is no hub: {_reason(error)}") from error
    except _NO_ANSWER as error:
        raise _unreachable(what, _reason(error)) from error
    except OSError as error:
        if error.errno is not None:  # the disk's, not the library's own
            raise
        raise _unreachable(what, _reason(error)) from error


def _unreachable(what: str, reason: str) -> EnvironmentMissingError:
    return EnvironmentMissingError(
        f"{what} is not in the cache as a whole and cannot be downloaded: {reason}", _ELSEWHERE
    )


def _reason(error: BaseException) -> str:
    """What was at the bottom of it, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
