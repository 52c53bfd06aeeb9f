"""The documentation builds without a warning, needs no network, and has every command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from conftest import ROOT
from swin_deploy.cli.main import SHELLS, main
from swin_deploy.core.errors import SwinDeployError
from swin_deploy.engine.targets import TARGETS
from swin_deploy.network.catalogue import VARIANTS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_command_and_option_is_there(site: Path) -> None:
    page = (site / "commands.html").read_text()
    assert len(main.commands) > 8
    for name, command in main.commands.items():
        assert f"swin-deploy {name}" in page
        for parameter in command.params:
            assert all(option in page for option in parameter.opts if option.startswith("--")), name


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 8
    for page in pages:
        text = page.read_text()
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?(https?:)?//", text), page


def test_every_command_has_an_example_in_its_help() -> None:
    for name, command in main.commands.items():
        assert command.help is not None
        assert f"swin-deploy {name}" in command.help, name


def test_the_page_of_exit_codes_has_all() -> None:
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE))
    kinds = [SwinDeployError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    for kind in kinds[1:]:
        assert f"`{kind.code}`" in rows[str(kind.exit_code)], kind


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    command = [sys.executable, "-m", "swin_deploy", "completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "_SWIN_DEPLOY_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("words", "start", "expected"),
    [
        ([], "exp", {"export"}),
        (["export", "--variant"], "swin_t", {n for n in VARIANTS if n.startswith("swin_t")}),
        (["export", "--target"], "rtx", {n for n in TARGETS if n.startswith("rtx")}),
        (["export", "--io"], "", {"fp32", "fp16", "uint8"}),
        (["export", "--precision"], "fp32,i", {"fp32,int8"}),
        (["bench", "--baselines"], "e", {"eager", "eager-half"}),
        (["scaling", "--networks"], "swin_t,vit_s", {"swin_t,vit_s_16"}),
        (["bundle", "run", "--target"], "jetson-o", {"jetson-orin"}),
        (["cost", "run", "--gpu"], "a1", {"a10", "a100"}),
    ],
    ids=[
        "command",
        "variant",
        "target",
        "choice",
        *(["precision", "baseline", "network", "device", "gpu"]),
    ],
)
def test_names_are_completed(words: list[str], start: str, expected: set[str]) -> None:
    complete = ShellComplete(main, {}, "swin-deploy", "_SWIN_DEPLOY_COMPLETE")
    assert {item.value for item in complete.get_completions(words, start)} == expected
