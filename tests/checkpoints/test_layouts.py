"""The table of docs/checkpoints.md: every writer and layout, what happens, and parity.

``WRITE_TABLES=1 pytest tests/checkpoints/test_layouts.py`` writes it.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from layouts import FLOOR_DB, Layout, every, parity_db
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import InputError

DOCS = Path(__file__).parents[2] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- written by tests/checkpoints/test_layouts.py -->", "<!-- end of the table -->"
HEAD = ("| written by | what | options | parity |", "|---|---|---|---|")
LAYOUTS = tuple(every())
SEEN: dict[str, float] = {}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of many libraries, about themselves
    pytest.mark.xdist_group("layouts"),
]


def row(layout: Layout, parity: str) -> str:
    said = f"`{layout.said}`" if layout.said else ""
    return f"| {layout.writer} | {layout.what} | {said} | {parity} |"


def fixed(text: str) -> str:
    """A row without its decibels, which differ from one processor to the next."""
    return text.rpartition(" | ")[0] if text.endswith((" dB |", " exact |")) else text


def in_docs() -> list[str]:
    text = DOCS.read_text(encoding="utf-8")
    return text.partition(f"{BEGIN}\n\n")[2].partition(f"\n\n{END}")[0].splitlines()


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Writes the table once all rows are known, where that is asked for."""
    yield
    if not os.environ.get("WRITE_TABLES") or len(SEEN) != len(LAYOUTS):
        return
    rows = []
    for layout in LAYOUTS:
        decibels = SEEN[str(layout)]
        parity = "exact" if decibels == math.inf else f"{decibels:.0f} dB"
        rows.append(row(layout, f"refused: {layout.refusal}" if layout.refusal else parity))
    before, _, after = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    rest = after.partition(END)[2]
    lines = "\n".join([*HEAD, *rows])
    DOCS.write_text(f"{before}{BEGIN}\n\n{lines}\n\n{END}{rest}", encoding="utf-8")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_it_loads_with_parity_or_is_refused_by_name(layout: Layout, tmp_path: Path) -> None:
    SEEN[str(layout)] = -math.inf
    if layout.refusal:
        with pytest.raises(InputError) as caught:
            parity_db(layout, tmp_path)
        assert layout.refusal in f"{caught.value.problem} {caught.value.hint}"
        return
    decibels = parity_db(layout, tmp_path)
    assert decibels >= FLOOR_DB
    SEEN[str(layout)] = decibels


def test_the_table_has_these_rows() -> None:
    expected = [
        row(layout, f"refused: {layout.refusal}" if layout.refusal else "0 dB")
        for layout in LAYOUTS
    ]
    assert list(map(fixed, in_docs())) == [*HEAD, *map(fixed, expected)]


def test_no_two_rows_are_the_same() -> None:
    assert Counter(map(str, LAYOUTS)).most_common(1)[0][1] == 1
    assert len(LAYOUTS) >= 60


ACCEPTED = tuple(layout for layout in LAYOUTS if not layout.refusal)
ALWAYS = ("timm 1.0.31, folder, V1", "transformers 5.24.0, `SwinBackbone`")


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(
            layout, id=str(layout), marks=() if str(layout) in ALWAYS else pytest.mark.nightly
        )
        for layout in ACCEPTED
    ],
)
def test_the_next_command_of_inspect_works_as_printed(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the one engine that any machine can build, and a folder of its own."""
    monkeypatch.chdir(tmp_path)
    path = layout.make(tmp_path).path
    size = layout.options.image_size
    told = [] if size is None else ["--image", f"{size[0]}x{size[1]}"]
    looked = CliRunner().invoke(
        cli.main, ["inspect", str(path), *told, *layout.options.written(), "--json"]
    )
    assert looked.exit_code == 0, looked.output
    program, *command = shlex.split(json.loads(looked.stdout)["next"])
    assert program == "swin-deploy"
    quick = ["--target", "cpu", "--precision", "fp32", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(cli.main, [*command, *quick, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verification"]["passed"]
