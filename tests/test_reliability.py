"""docs/reliability.md is what was recorded, names tests that exist, and hides no fault."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import reliability
from conftest import ROOT

SECURITY = ROOT / "SECURITY.md"
RECORD = json.loads(reliability.RECORD.read_text())
MARKS = {
    node.name: {argument.value for mark in found for argument in mark.args}
    for path in sorted((ROOT / "tests").glob("test_*.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef)
    and (
        found := [
            mark
            for mark in node.decorator_list
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault"
        ]
    )
}


def test_the_page_is_what_the_script_writes() -> None:
    assert reliability.PAGE.read_text() == reliability.render(RECORD), "run scripts/reliability.py"


@pytest.mark.parametrize("test", RECORD["tests"])
def test_a_test_that_it_names_exists_and_shows_that(test: str) -> None:
    name, _, function = test.partition("::")
    tree = ast.parse((ROOT / name).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert set(RECORD["tests"][test]["rows"]) <= MARKS[function]


def test_nothing_failed_and_what_is_not_tried_has_a_reason() -> None:
    shown = {row for entry in RECORD["tests"].values() for row in entry["rows"]}
    assert not [test for test, entry in RECORD["tests"].items() if entry.get("failed")]
    assert list(reliability.FAULTS) == list(range(1, 45))
    assert not [
        n for n, fault in reliability.FAULTS.items() if n not in shown and not fault.untried
    ]


def test_marks_are_rows_of_the_catalogue() -> None:
    assert MARKS
    assert set().union(*MARKS.values()) <= reliability.FAULTS.keys()


JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_one[x]"><properties>
<property name="fault" value="1" /><property name="fault" value="2" /></properties></testcase>
<testcase classname="tests.test_a" name="test_one[y]"><properties>
<property name="fault" value="1" /></properties>{outcome}</testcase>
<testcase classname="tests.test_a" name="test_two" />
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("outcome", "counted", "verdict"),
    [
        ("", {"passed": 2}, "2 passed"),
        ("<skipped/>", {"passed": 1, "skipped": 1}, "1 passed, 1 skipped"),
        ("<failure/>", {"passed": 1, "failed": 1}, "**failed**: 1 of 2"),
        ("<error/>", {"passed": 1, "failed": 1}, "**failed**: 1 of 2"),
    ],
)
def test_outcomes_are_counted_by_function(
    tmp_path: Path, outcome: str, counted: dict[str, int], verdict: str
) -> None:
    (tmp_path / "x.xml").write_text(JUNIT.format(outcome=outcome))
    found = reliability.read_junit(tmp_path / "x.xml")
    assert found == {"tests/test_a.py::test_one": {"rows": [1, 2], **counted}}
    assert reliability.verdict(list(found.values())) == verdict
    page = reliability.render({"tests": found, "runs": {}})
    assert f"Tests: {verdict}." in page
    assert "Tests: **not tried**." in page


def test_a_file_without_marks_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<testsuites/>")
    with pytest.raises(SystemExit, match="no test with the mark"):
        reliability.read_junit(tmp_path / "x.xml")


PROMISES = re.findall(r"^\d+\. .*?(?=^\d+\. |^## )", SECURITY.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("promise", PROMISES, ids=[p.partition(".")[0] for p in PROMISES])
def test_a_promise_of_the_security_page_names_tests_that_exist(promise: str) -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", promise)
    assert named
    for path, function in named:
        tree = ast.parse((ROOT / path).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, function


def test_links_of_the_security_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", SECURITY.read_text())
    assert len(PROMISES) > 10
    assert not [link for link in links if not (ROOT / link).exists()]
