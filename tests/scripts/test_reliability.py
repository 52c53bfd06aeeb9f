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
MARKS = reliability.find_marks(ROOT / "tests")


def test_the_page_is_what_the_script_writes() -> None:
    page = reliability.PAGE.read_text()
    assert page == reliability.render(RECORD, MARKS), "run scripts/reliability.py"


def test_every_test_that_was_recorded_exists() -> None:
    gone = sorted(RECORD["tests"].keys() - MARKS.keys())
    assert not gone, f"record another run: scripts/reliability.py --junit FILE: {gone}"


def test_nothing_failed_and_what_has_no_test_has_a_reason() -> None:
    shown = set().union(*MARKS.values())
    assert not [test for test, entry in RECORD["tests"].items() if entry.get("failed")]
    assert list(reliability.FAULTS) == list(range(1, 45))
    assert not [
        n for n, fault in reliability.FAULTS.items() if n not in shown and not fault.untried
    ]
    assert shown <= reliability.FAULTS.keys()


def test_marks_are_found_without_an_import(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text(
        "import nothing\n@pytest.mark.fault(1, 2)\n@pytest.mark.slow\ndef test_a(): ...\n"
        "@pytest.mark.slow\ndef test_b(): ...\n"
    )
    assert reliability.find_marks(tmp_path) == {f"{tmp_path.name}/test_x.py::test_a": {1, 2}}


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
        ("<failure/>", {"passed": 1, "failed": 1}, "**1 failed**"),
        ("<error/>", {"passed": 1, "failed": 1}, "**1 failed**"),
    ],
)
def test_outcomes_are_counted_by_function(
    tmp_path: Path, outcome: str, counted: dict[str, int], verdict: str
) -> None:
    (tmp_path / "x.xml").write_text(JUNIT.format(outcome=outcome))
    found = reliability.read_junit(tmp_path / "x.xml")
    assert found == {"tests/test_a.py::test_one": counted}
    marks = {"tests/test_a.py::test_one": {1}, "tests/test_a.py::test_new": {1}}
    page = reliability.render({"tests": found, "runs": {}}, marks)
    assert f"- `tests/test_a.py::test_one`: {verdict}\n" in page
    assert "- `tests/test_a.py::test_new`: not in the last run\n" in page
    assert page.count("**No test.**") == 43


def test_a_file_without_marks_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<testsuites/>")
    with pytest.raises(SystemExit, match="no test with the mark"):
        reliability.read_junit(tmp_path / "x.xml")


PROMISES = re.findall(r"^\d+\. .*?(?=^\d+\. |^## )", SECURITY.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("promise", PROMISES, ids=[p.partition(".")[0] for p in PROMISES])
def test_a_promise_of_the_security_page_names_tests_that_exist(promise: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
    assert named
    for path, function in named:
        tree = ast.parse((ROOT / path).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, function


def test_links_of_the_security_page_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", SECURITY.read_text())
    assert len(PROMISES) > 10
    assert not [link for link in links if not (ROOT / link).exists()]
