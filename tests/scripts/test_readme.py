"""Every command in the README, run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.removeprefix("$ ")
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("$ ")
]
# Set-up: scripts/test is what runs this test, and test_scripts.py runs scripts/demo.
SCRIPTS = {"scripts/demo", "scripts/test", "scripts/lint", "scripts/check"}


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, photos: Path, held_out: Path) -> None:
    (tmp_path / "photos").symlink_to(photos)
    (tmp_path / "digits").symlink_to(held_out)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    tools = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    ran = 0
    for command in COMMANDS:
        if command.split(" ")[0] in SCRIPTS:
            continue
        done = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran += 1
    assert ran >= 5


def test_the_scripts_that_it_names_can_be_run() -> None:
    named = {word for command in COMMANDS for word in command.split() if word in SCRIPTS}
    assert {"scripts/demo", "scripts/test"} <= named
    for name in named:
        assert os.access(ROOT / name, os.X_OK), name


def test_the_map_of_the_code_is_complete() -> None:
    """Every module and folder of the package has its line, and no line is stale."""
    tree = re.search(r"```text\n(swin_deploy/.*?)```", README, re.DOTALL)
    assert tree is not None
    listed = set(re.findall(r"^  (\w+(?:/|\.py))", tree[1], re.MULTILINE))
    package = ROOT / "swin_deploy"
    real = {f"{p.name}/" for p in package.iterdir() if (p / "__init__.py").exists()}
    real |= {p.name for p in package.glob("*.py") if not p.name.startswith("__")}
    assert listed == real


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"@[A-Z]+@|TODO|TBD", README)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
