"""A lock is the file that has the name when it is held, whatever became of the one before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swin_deploy.core import own_files
from swin_deploy.core.errors import BusyError
from swin_deploy.core.own_files import lock_own


@pytest.mark.parametrize("made_again", [False, True])
def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_again: bool
) -> None:
    """Whoever held it removed it when it was done; somebody else may have made it again."""
    path, try_lock, other = tmp_path / "lock", own_files._try_lock, list[int]()

    def lock_late(handle: int) -> bool:
        if not other:
            path.unlink()
            other.append(os.open(path, os.O_RDWR | os.O_CREAT) if made_again else -1)
            assert not made_again or try_lock(other[0])
        return try_lock(handle)

    monkeypatch.setattr(own_files, "_try_lock", lock_late)
    if made_again:
        with pytest.raises(BusyError), lock_own(path, "it", "wait"):
            pass
        os.close(other[0])
    with lock_own(path, "it", "wait") as stream:
        assert os.path.samestat(os.fstat(stream.fileno()), path.stat())
