"""``scripts/mutate.py``: changes that it makes, and what becomes of them."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import mutate
from conftest import ROOT
from mutation.changes import Mutant, find_mutants
from mutation.trees import Findings, Worker, copy_tree, run_mutants

CHANGES = {
    "a = b < c": ["(b <= c)"],
    "a = b is not None": ["(b is None)"],
    "a = b in c": ["(b not in c)"],
    "a = b and c or d": ["((b and c) and d)", "(b or c)"],
    "a = not b": ["(b)"],
    "a = b + c": ["(b - c)"],
    "a = b // c": ["(b * c)"],
    "a = 3": ["(4)"],
    "a = 0.5": ["(1.5)"],
    "a = True": ["False"],
    "f(b)": ["pass"],
    "a.b = c": ["pass"],
    "a += c": ["pass"],
    "raise E('1 < 2')": ["pass"],
    "def f():\n    return b": ["return None"],
    "if b:\n    c": ["(not b)"],
    "a = b if c() else d": ["(not c())"],
    # What only describes, or is text.
    "def f(a: A[0] = None) -> B[1]:\n    '''Text.'''\n    return None": [],
    "@d(1)\nclass A:\n    pass": [],
    "if TYPE_CHECKING:\n    f(1)": [],
    "a = 'b' + c": [],
    "a = f'{b + 1}'": [],
}


@pytest.mark.parametrize(("text", "expected"), CHANGES.items(), ids=CHANGES.keys())
def test_the_changes_of_a_line(text: str, expected: list[str]) -> None:
    assert sorted(m.after for m in find_mutants("x.py", text.encode())) == sorted(expected)


def test_a_change_is_made_where_it_was_found() -> None:
    content = "é = 1  # ü\nif é == 2 and f(3):\n    g()\n".encode()
    found = find_mutants("x.py", content)
    assert [(m.line, m.before, m.after) for m in found] == [
        (1, "1", "(2)"),
        (2, "é == 2", "(é != 2)"),
        (2, "é == 2 and f(3)", "(é == 2 or f(3))"),
        (2, "2", "(3)"),
        (2, "3", "(4)"),
        (3, "g()", "pass"),
    ]
    for mutant in found:
        changed = mutant.apply(content)
        assert changed != content
        ast.parse(changed)


def test_every_module_of_the_table_and_its_tests_exist() -> None:
    for module, tests in mutate.modules_of(ROOT).items():
        for name in tests:
            assert list((ROOT / "tests").rglob(f"{name}.py")), (module, name)
        content = (ROOT / module).read_bytes()
        for mutant in find_mutants(module, content):
            ast.parse(mutant.apply(content))


def test_a_pattern_without_a_module_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "TARGETS", {("no/such.py",): ("test_metrics",)})
    with pytest.raises(SystemExit, match=r"no/such\.py is no module"):
        mutate.modules_of(tmp_path)


def test_reasons_are_of_changes_that_there_are() -> None:
    known = {
        mutant.key()
        for module in mutate.modules_of(ROOT)
        for mutant in find_mutants(module, (ROOT / module).read_bytes())
    }
    for key, reason in mutate.explanations().items():
        assert key in known, f"{mutate.SURVIVORS.name}: there is no such change: {key}"
        assert len(reason) > 10


def test_figures_count_what_was_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mutants = [Mutant("x.py", n, n, n + 1, "constant", f"b{n}", "a") for n in range(8)]
    outcomes = ["killed"] * 5 + ["timeout", "survived", "survived"]
    reasons = [{"module": "x.py", "before": "b6", "after": "a", "reason": "the same function"}]
    (tmp_path / "s.json").write_text(json.dumps(reasons))
    monkeypatch.setattr(mutate, "SURVIVORS", tmp_path / "s.json")
    found = Findings(list(zip(mutants, outcomes, strict=True)))
    result = mutate.figures(found, 1.0, "x")
    assert (result["killed"], result["timeouts"], result["survived"]) == (5, 1, 2)
    assert (result["explained"], result["percent"]) == (1, 75.0)
    assert result["open"] == ["x.py:7 'b7' -> 'a'"]


SAMPLE = '''"""A module to change."""

import time


def larger(a, b):
    """The larger one, twice; nothing asks for the second."""
    if a < b:
        return b
    return a


def counts(limit):
    """From zero up."""
    n = 0
    while n < limit:
        time.sleep(0)
        n += 1
    return n
'''
TEST = """from sample import counts, larger

def test_larger():
    assert larger(1, 2) == larger(2, 1) == 2

def test_counts():
    assert counts(3) == 3
"""


@pytest.mark.slow
def test_changes_are_noticed_or_survive_or_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tree of two files, with a process each."""
    for name in ("a", "b"):
        (tmp_path / name / "tests").mkdir(parents=True)
        (tmp_path / name / "pyproject.toml").write_text("")
        (tmp_path / name / "sample.py").write_text(SAMPLE)
        (tmp_path / name / "tests" / "test_sample.py").write_text(TEST)
    monkeypatch.setattr("mutation.trees.copy_tree", lambda target: tmp_path / target.name)
    monkeypatch.setattr("mutation.trees.SHORTEST_S", 10.0)
    (tmp_path / "0").symlink_to("a")
    (tmp_path / "1").symlink_to("b")
    mutants = find_mutants("sample.py", SAMPLE.encode())
    found = run_mutants(tmp_path, mutants, {"sample.py": ("test_sample",)}, 2)
    assert len(found.outcomes) == len(mutants)
    by_before = {m.before: outcome for m, outcome in found.outcomes}
    assert by_before["n += 1"] == "timeout"
    assert by_before["time.sleep(0)"] == by_before["a < b"] == "survived"
    assert by_before["n < limit"] == by_before["return b"] == "killed"
    for name in ("a", "b"):
        assert (tmp_path / name / "sample.py").read_text() == SAMPLE


def test_a_copy_has_the_files_of_the_tree(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    assert (tree / "swin_deploy" / "__init__.py").is_file()
    assert not (tree / ".venv").exists()
    assert not (tree / ".git").exists()
    assert Worker(tree).pid == 0
