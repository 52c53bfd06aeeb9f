"""The verdict at the head of a report: what is shipped, what is not, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import report_files
from measured_runs import section_of, silent, write
from swin_deploy.core.records import decode
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.report.gather import ReportData, gather
from swin_deploy.report.headline import best_timing, make_headline
from swin_deploy.report.page import make_report, render_html, render_markdown

# One process makes the fixtures for both files.
pytestmark = pytest.mark.xdist_group("test_report")


def test_the_headline_ships_what_is_faster_and_agrees(jetson_bench: Path) -> None:
    (source,) = gather([jetson_bench], silent).sources
    headline = make_headline(source)
    assert headline.tone == "good"
    assert headline.verdict == (
        "Ship engine tensorrt-fp16: 3.00 times as fast as eager PyTorch at batch 1 "
        "(95 % interval 2.75 to 3.25)."
    )


@pytest.mark.parametrize(
    ("verdict", "tone", "words"),
    [
        ("slower", "bad", "is slower"),
        ("not told apart", "doubtful", "not reliably faster"),
        ("unstable", "doubtful", "vary too much to tell"),
    ],
)
def test_the_headline_of_what_is_not_faster(
    tmp_path: Path, verdict: str, tone: str, words: str
) -> None:
    content = report_files.bench()
    for row in content["measurements"]:
        row["verdict"] = verdict
    (source,) = gather([write(tmp_path / "bench.json", content)], silent).sources
    headline = make_headline(source)
    assert headline.tone == tone
    assert words in headline.verdict
    assert "Ship" not in headline.verdict


def test_what_disagrees_is_not_shipped(measured_run: Path, jetson_bench: Path) -> None:
    (source,) = gather([measured_run], silent).sources
    assert source.verify is not None
    first = replace(source.verify.comparisons[-1], passed=False, reason="SQNR 3.0 dB")
    bad = replace(source.verify, passed=False, comparisons=(first,))
    damaged = replace(source, verify=bad)
    headline = make_headline(damaged)
    assert headline.tone == "bad"
    assert headline.verdict.startswith("Do not ship")
    assert "FAILED: SQNR 3.0 dB" in render_html(make_report(ReportData(sources=(damaged,))))
    (other,) = gather([jetson_bench], silent).sources
    assert other.bench is not None
    row = decode(ComparisonRow, report_files.check("engine tensorrt-fp16", sqnr_db=3.0), "x")
    assert best_timing(other) is not None
    assert best_timing(replace(other, bench=replace(other.bench, checks=(row,)))) is None


def test_random_weights_are_not_for_shipping(measured_run: Path) -> None:
    (source,) = report_files.complete(gather([measured_run], silent)).sources
    source = replace(source, checks=None)
    assert source.bench is not None
    faster = [
        replace(row, speedup=3.0, verdict="faster")
        for row in source.bench.measurements
        if row.name == "engine cpu-fp32"
    ]
    headline = make_headline(
        replace(source, bench=replace(source.bench, measurements=tuple(faster)))
    )
    assert headline.tone == "bad"
    assert headline.verdict.startswith("Not for shipping: the weights are random")
    assert "cpu-fp32, is 3.00 times as fast as eager PyTorch at batch 1" in headline.verdict
    assert "Ship" not in headline.verdict
    titles = [card.title for card in headline.cards]
    assert "Speed-up over eager" in titles
    assert "Top-1" not in titles


def test_what_verify_finds_reaches_the_verdict(measured_run: Path, tmp_path: Path) -> None:
    content = report_files.checks()
    content["checks"] += [report_files.check(f"graph {i}", 30.0 - i) for i in range(25)]
    content["checks"].append(report_files.check("shapeless") | {"passed": False, "sqnr_db": None})
    checks = report_files.parse("checks.json", content)
    (source,) = gather([measured_run], silent).sources
    wrong = replace(source, checks=checks)
    headline = make_headline(wrong)
    assert (headline.tone, headline.verdict) == (
        "bad",
        "Do not ship: verify found 26 of 28 comparisons failed.",
    )
    card = next(card for card in headline.cards if card.title == "Agreement")
    assert (card.tone, card.value) == ("bad", "failed")
    assert "26 of 28" in card.more
    section = section_of(ReportData(sources=(wrong,)), "agreement")
    table = section.tables[0]
    assert "the 20 worst; 6 more are in checks.json" in table.caption
    assert [row[0].text for row in table.rows[:2]] == ["shapeless", "graph 24"]
    assert len(table.rows) == 20
    few = replace(checks, checks=checks.checks[:3])
    table = section_of(ReportData(sources=(replace(source, checks=few),)), "agreement").tables[0]
    assert (table.caption, len(table.rows)) == ("Comparisons of verify that failed", 1)
    inside = replace(wrong, checks=replace(checks, checks=checks.checks[:2]))
    assert "a tensor inside does not" in make_headline(inside).verdict
    assert make_headline(inside).tone == "bad"


def test_an_engine_that_verify_refuses_is_not_the_best(jetson_bench: Path) -> None:
    (source,) = gather([jetson_bench], silent).sources
    content = report_files.checks()
    content["checks"] = [report_files.check("tensorrt-fp16", 12.0)]
    refused = replace(source, checks=report_files.parse("checks.json", content))
    assert best_timing(source) is not None
    assert best_timing(refused) is None


def test_speed_ups_have_three_digits(tmp_path: Path) -> None:
    content = report_files.bench()
    more = {"speedup": 88.8215, "speedup_low": 70.5181, "speedup_high": 123.6549}
    content["measurements"][1] |= more
    data = gather([write(tmp_path / "bench.json", content)], silent)
    page, words = render_html(make_report(data)), render_markdown(make_report(data))
    assert "engine tensorrt-fp16: 88.8 times" in page  # the figure
    assert "88.8 times as fast" in words
    assert "| 88.8 (70.5 to 124) |" in words
    assert "88.82" not in words


def test_the_verdict_stands_beside_the_name(measured_run: Path) -> None:
    report = make_report(report_files.complete(gather([measured_run], silent)))
    found = {}
    for section in report.sections:
        for table in section.tables:
            if "verdict" in table.columns:
                found[section.name] = table.columns.index("verdict")
    assert found == {"speed": 1, "agreement": 1, "depth": 1}


def test_the_headline_has_the_accuracy_of_the_engine_that_it_names(jetson_bench: Path) -> None:
    (source,) = report_files.complete(gather([jetson_bench], silent)).sources
    source = replace(source, checks=None)
    assert source.evaluate is not None
    assert "engine fp32" in make_headline(source).cards[2].more  # there is none of that name
    first, second = source.evaluate.artifacts
    named = replace(
        source.evaluate, artifacts=(first, replace(second, name="engine tensorrt-fp16"))
    )
    card = make_headline(replace(source, evaluate=named)).cards[2]
    assert (card.title, card.value) == ("Top-1", "98.50 %")


def test_the_verdict_of_the_depth(tmp_path: Path) -> None:
    content = report_files.checks()
    (wrong,) = content["bisections"]
    content["bisections"] += [
        wrong | {"candidate": "onnx", "first": None},
        wrong | {"candidate": "int8", "first": None, "floor_db": None},
    ]
    report = make_report(gather([write(tmp_path / "checks.json", content)], silent))
    section = next(section for section in report.sections if section.name == "depth")
    verdicts = {row[0].text: row[1].text for row in section.tables[0].rows}
    assert verdicts == {"fp16": "wrong from blocks.3", "onnx": "ok", "int8": "not judged"}
