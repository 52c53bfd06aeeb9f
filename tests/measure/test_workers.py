"""Workers that are killed, stopped or out of memory: the work goes on, or ends by type."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bundles import unpack
from conftest import ROOT
from doers import Doer, say_half
from swin_deploy.core.errors import InputError, ResourceError
from swin_deploy.core.process import run_in_child
from swin_deploy.measure.workers import base, processes
from swin_deploy.measure.workers.base import ATTEMPTS
from swin_deploy.measure.workers.processes import run_in_processes

WITHIN_S = 30  # for anything to end; nothing in here takes a tenth of it


def children() -> list[psutil.Process]:
    """Of this process, but the tracker that multiprocessing keeps."""
    found = psutil.Process().children()
    return [child for child in found if "resource_tracker" not in " ".join(child.cmdline())]


def run(folder: Path, *items: str, workers: int = 2, opening: str = "") -> Any:
    said: list[str] = []
    named = {f"{number} {item}": item for number, item in enumerate(items)}
    start = time.monotonic()
    found = dict(run_in_processes(Doer(folder, opening), named, workers, said.append))
    assert time.monotonic() - start < WITHIN_S
    assert found.keys() == named.keys()
    assert not children()
    return said


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_busy_worker_that_is_killed_is_replaced(name: str, tmp_path: Path) -> None:
    said = run(tmp_path, "a", f"once {name}", "b", "c")
    (text,) = said
    if name == "SIGTERM":  # it closes what it has open
        assert text.startswith("a worker ended with status 143")
    else:
        assert text.startswith(f"a worker died of {name} with 1 once {name}; another")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_idle_worker_that_is_killed_is_not_missed(number: int, tmp_path: Path) -> None:
    said: list[str] = []
    items = {"held": "wait for go", "short": "x"}
    results = run_in_processes(Doer(tmp_path), items, 2, said.append)
    name, idle = next(results)
    assert name == "short"
    os.kill(idle, number)
    psutil.wait_procs([psutil.Process(idle)] if psutil.pid_exists(idle) else [], timeout=0.5)
    (tmp_path / "go").touch()
    assert [name for name, _ in results] == ["held"]
    assert all("while it had nothing to do" in text for text in said)


def test_a_stopped_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SILENT_S", 3.0)
    said = run(tmp_path, "a", "once SIGSTOP", "b")
    assert said == [
        "a worker gave no sign of life for 3 s with 1 once SIGSTOP; another takes its place"
    ]


def test_a_long_item_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SILENT_S", 2.5)
    results = run_in_processes(Doer(tmp_path), {"long": "wait for go"}, 1, print)
    ender = subprocess.Popen(["sh", "-c", f"sleep 5; touch '{tmp_path}/go'"])
    assert [name for name, _ in results] == ["long"]
    assert ender.wait() == 0


@pytest.fixture
def impatient() -> Iterator[None]:
    """What never ends is an error here, and not a job that is killed for its time."""

    def give_up(number: int, frame: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(WITHIN_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_stops_within_a_message_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SILENT_S", 3.0)
    said = run(tmp_path, "a", "half once", "b")
    assert said == [
        "a worker gave no sign of life for 3 s with 1 half once; another takes its place"
    ]


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_stops_before_it_has_read_what_to_do_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fits into a pipe, and nobody at the other end takes it out."""
    monkeypatch.setattr(processes, "SILENT_S", 3.0)
    said: list[str] = []
    items = {"first": "a", "long": "a" * (8 << 20)}
    results = run_in_processes(Doer(tmp_path), items, 1, said.append)
    name, pid = next(results)
    assert name == "first"
    os.kill(pid, signal.SIGSTOP)
    assert [name for name, _ in results] == ["long"]
    assert said == ["a worker gave no sign of life for 3 s with long; another takes its place"]


@pytest.mark.usefixtures("impatient")
def test_a_child_that_stops_within_its_answer_is_stopped_by_the_clock(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="was stopped after 4 s"):
        run_in_child(say_half, tmp_path / "log", 4.0)
    assert not children()


@pytest.mark.usefixtures("impatient")
def test_an_item_that_never_ends_goes_to_another_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its worker gives signs of life; once others were done, they say how long is long."""
    monkeypatch.setattr(base, "ITEM_S", 3.0)
    said = run(tmp_path, "a", "hang once", "b")
    assert said == ["a worker was not done after 3 s with 1 hang once; another takes its place"]
    clock = base.ItemClock()
    assert clock.limit_s == base.FIRST_S
    for took_s, limit_s in ((0.1, 3.0), (2.0, 20.0), (1.0, 20.0)):
        clock.done(took_s)
        assert clock.limit_s == limit_s


@pytest.mark.parametrize(
    ("items", "opening"), [(["a", "always SIGKILL"], ""), (["a", "b"], "always SIGKILL")]
)
def test_what_takes_every_worker_is_given_up(
    items: list[str], opening: str, tmp_path: Path
) -> None:
    with pytest.raises(ResourceError, match=f"{ATTEMPTS} workers were lost") as caught:
        run(tmp_path, *items, opening=opening)
    assert ("opened its files" if opening else "always SIGKILL") in caught.value.problem
    assert not children()


@pytest.mark.parametrize(
    ("item", "error"), [("fail", InputError), ("memory", ResourceError), ("bug", RuntimeError)]
)
def test_an_error_of_an_item_comes_out(item: str, error: type[Exception], tmp_path: Path) -> None:
    for opening, items in (("", ["a", item]), (item, ["a", "b"])):
        with pytest.raises(error):
            run(tmp_path, *items, opening=opening)
        assert not children()


def test_workers_close_what_they_have_open(tmp_path: Path) -> None:
    assert run(tmp_path, "meet", "a", "b") == []
    assert len(list(tmp_path.glob("closed.*"))) == 2


def test_no_memory_for_a_process_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse)
    with pytest.raises(ResourceError, match="no process could be started"):
        run(tmp_path, "a", "b")


LIMITED = """
    import resource, sys
    from pathlib import Path
    from swin_deploy.core.outcome import run_command
    from swin_deploy.measure.workers.processes import run_in_processes
    from doers import Doer

    def command():
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        items = {str(n): "x" for n in range(4)}
        print(len(dict(run_in_processes(Doer(Path(sys.argv[1])), items, 2, lambda text: None))))
        return 0

    if __name__ == "__main__":
        sys.exit(run_command(command, False, False))
"""


@pytest.mark.parametrize("limit", [0, 20 << 20, 60 << 20, 200 << 20])
def test_short_of_memory_it_ends(limit: int, tmp_path: Path) -> None:
    script = tmp_path / "limited.py"
    script.write_text(textwrap.dedent(LIMITED))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(limit)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    assert done.returncode in (0, 6), done.stderr
    assert done.returncode == 6 or done.stdout == "4\n"


# A child that never ends, in the place of what ``PLACE`` names; whoever runs this is killed.
HANGING = """
    import importlib, os, sys, time

    def hang(*args, **kwargs):
        with open({mark!r}, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)

    {first}
    setattr(importlib.import_module({module!r}), {name!r}, hang)

    if __name__ == "__main__":
        {then}
"""
EXPORT = (
    "from swin_deploy.cli import main as cli; "
    "cli.run(['export', '--config', {config!r}, '--precision', 'fp32', '--out', {out!r}])"
)
COMPILE = (
    "from pathlib import Path; from swin_deploy.network.interface import ONE_IMAGE; "
    "from swin_deploy.engine.build import build_engine; "
    "from swin_deploy.engine.targets import find_target; "
    "build_engine(find_target('rtx'), Path('x'), Path({out!r}), ONE_IMAGE, Path('log'))"
)
BUILD = (
    "from pathlib import Path; from swin_deploy.runtime.main import run; "
    "run(['build'], 'swin.pyz', Path({out!r}))"
)


def kill_in_child(folder: Path, module: str, name: str, then: str, first: str = "") -> None:
    """Kill the parent once ``name`` of ``module`` runs in its child; nothing of it is left."""
    mark, script = folder / "pid", folder / "script.py"
    text = HANGING.format(mark=str(mark), module=module, name=name, then=then, first=first)
    script.write_text(textwrap.dedent(text))
    environment = os.environ | {"PYTHONPATH": "" if first else str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, cwd=folder)
    until = time.monotonic() + 240
    while not (mark.exists() and mark.read_text()):
        assert parent.poll() is None, "it ended before its child was there"
        assert time.monotonic() < until
        time.sleep(0.05)
    family = psutil.Process(parent.pid).children(recursive=True)
    assert int(mark.read_text()) in [child.pid for child in family]
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs(family, timeout=10)
    for child in left:
        child.kill()
    assert not left


def test_a_child_of_export_ends_with_it(config: str, tmp_path: Path) -> None:
    then = EXPORT.format(out=str(tmp_path / "run"), config=config)
    kill_in_child(tmp_path, "swin_deploy.graph.simplifier", "run_simplifier", then)


def test_a_compiler_s_child_ends_with_who_asked_for_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    then = COMPILE.format(out=str(tmp_path / "x.plan"))
    kill_in_child(tmp_path, "swin_deploy.engine.tensorrt", "build_tensorrt", then)


def test_a_child_of_the_program_of_a_bundle_ends_with_it(
    digits_archive: Path, tmp_path: Path
) -> None:
    folder = unpack(digits_archive, tmp_path / "bundle")
    first = f"sys.path.insert(0, {str(folder / 'swin.pyz')!r})"
    module, name = "swin_deploy.engine.build", "build_onnxruntime"
    kill_in_child(tmp_path, module, name, BUILD.format(out=str(folder)), first)


def test_a_child_whose_parent_is_gone_already_ends(tmp_path: Path) -> None:
    """The parent dies while the child imports, before it can ask to be killed with it."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        if __name__ != "__main__":  # the child
            Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
            while os.getppid() == int(Path({str(tmp_path / "parent")!r}).read_text()):
                time.sleep(0.02)
        from swin_deploy.core.process import run_in_child

        def mark():
            Path({str(tmp_path / "went on")!r}).touch()

        if __name__ == "__main__":
            Path({str(tmp_path / "parent")!r}).write_text(str(os.getpid()))
            run_in_child(mark, Path({str(tmp_path / "log")!r}), 60)
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        time.sleep(0.02)
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running()
    assert not (tmp_path / "went on").exists()
