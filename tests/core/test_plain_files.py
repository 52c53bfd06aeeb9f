"""A pipe that has the name of a file is refused at once: nobody may ever write into it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from PIL import Image

from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError
from swin_deploy.core.own_files import open_plain, read_plain
from swin_deploy.data.images import load_photo
from swin_deploy.network.interface import Preprocessing
from swin_deploy.pipeline.run import RunResult

# The file of the run that is a pipe, or "" for another one; arguments; exit code.
LINES = {
    "cost": ("manifest.json", "cost {run}", 3),
    "report": ("manifest.json", "report {run}", 3),
    "verify": ("manifest.json", "verify {run}", 3),
    "export": ("manifest.json", "export --variant swin_pocket --out {run}", 9),
    "report with a graph": ("model.onnx", "report {run}", 3),
    "report with times": ("bench.json", "report {run}", 3),
    "config": ("", "export --config {pipe}", 3),
    "list": ("", "export --variant swin_pocket --precision int8 --calibration {pipe}", 3),
    "class map": ("", "evaluate {run} --data {photos} --class-map {pipe}", 3),
    "key": ("", "bundle {run} --target cpu --sign {pipe}", 3),
    "checkpoint": ("", "inspect {pipe}", 3),
}


@pytest.fixture
def impatient() -> Iterator[None]:
    """What waits for ever fails, instead of the whole session."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it waits")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("name", "line", "code"), LINES.values(), ids=LINES.keys())
def test_a_pipe_is_no_file(
    name: str,
    line: str,
    code: int,
    tmp_path: Path,
    pocket_run: RunResult,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = shutil.copytree(pocket_run.path, tmp_path / "run")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    pipe = run / name if name else tmp_path / "pipe.pth"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    words = line.format(run=run, pipe=pipe, photos=tmp_path).split()
    assert cli.run(words) == code
    told = "exists, and no run of this tool made it" if code == 9 else "is no file"
    assert f"{pipe} {told}" in capsys.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_a_pipe_is_no_photo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe.png is no file"):
        load_photo(tmp_path / "pipe.png", (8, 8), Preprocessing())


def test_what_is_no_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name in ("pipe", "link", "socket", "/dev/zero"):
            with pytest.raises(InputError, match=f"{name} is no file"):
                open_plain(Path(name))
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_plain(Path("gone"))


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_plain(tmp_path / "link") == b"content"
    with open_plain(tmp_path / "file") as stream:
        assert os.get_blocking(stream.fileno())
        assert not os.get_inheritable(stream.fileno())
