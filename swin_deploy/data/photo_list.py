"""A text file that lists photos."""

from __future__ import annotations

from pathlib import Path

from swin_deploy.data.inputs import SUFFIXES
from swin_deploy.errors import InputError
from swin_deploy.files import refuse_impostors
from swin_deploy.plain_files import read_plain

MAX_LIST_BYTES = 64 * 2**20
_HINT = "a folder of photos, a text file with one path a line, or an .npy or .npz"


def read_list(path: Path) -> list[str]:
    """The paths in a text file, one a line, as they stand there: relative to its folder.

    Raises:
        InputError: As ``read_lines``, or it lists what is no file.
    """
    lines = read_lines(path)
    require_files(path, lines)
    return [name for _, name in lines]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that hold something, each with its number.

    Empty lines and those that begin with ``#`` are left out; a byte order mark, Windows line ends
    and spaces around a line do not matter.

    Raises:
        InputError: It is no text file, or lists nothing.
    """
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"{path} is one photo", _HINT)
    refuse_impostors(path, "a list of photos")
    if (size := path.stat().st_size) > MAX_LIST_BYTES:
        raise InputError(f"{path} has {size} bytes, and a list at most {MAX_LIST_BYTES}", _HINT)
    try:
        text = read_plain(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text file: {error}", _HINT) from error
    if "\0" in text:
        raise InputError(f"{path} is no text file: it has zero bytes", _HINT)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    wanted = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not wanted:
        raise InputError(f"{path} lists no photos in its {len(lines)} lines", _HINT)
    return wanted


def require_files(path: Path, lines: list[tuple[int, str]], folder: Path | None = None) -> None:
    """Check that all of (number of its line, name) are files.

    Args:
        path: The list.
        lines: Of it.
        folder: That names are relative to; None for that of the list.

    Raises:
        InputError: Some are not; names the first.
    """
    base = path.parent if folder is None else folder
    missing = [(number, name) for number, name in lines if not (base / name).is_file()]
    if missing:
        first = ", ".join(f"{name} (line {number})" for number, name in missing[:3])
        raise InputError(
            f"{path} lists {len(lines)} photos, and {len(missing)} are no files: {first}",
            "paths relative to the list" if folder is None else f"paths relative to {base}",
        )
