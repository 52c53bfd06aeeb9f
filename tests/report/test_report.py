"""``report``: what the page, its Markdown and its JSON say, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import report_files
from manifests import edit_manifest
from swin_deploy.cli.main import run
from swin_deploy.core import records
from swin_deploy.core.errors import ConfigError, InputError, UnsafeError
from swin_deploy.core.records import decode
from swin_deploy.measure.bench.run import BenchRequest, bench_engine
from swin_deploy.measure.verify.comparison import ComparisonRow
from swin_deploy.pipeline.run import RunResult
from swin_deploy.report.console import show
from swin_deploy.report.gather import KINDS, ReportData, gather, read_content, recognise
from swin_deploy.report.headline import best_timing, make_headline
from swin_deploy.report.measured_tables import bench_summary
from swin_deploy.report.page import make_report, render_html, render_markdown, write_report
from swin_deploy.report.sections_run import Section
from swin_deploy.report.tables import (
    Columns,
    Tone,
    alone,
    make_table,
    measure,
    number,
    significant,
    tabulate,
    text,
)

SCRIPT = "<script>alert(1)</script>"


def silent(_: str) -> None:
    """Hears progress."""


@pytest.fixture(scope="module")
def measured(pocket_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a real bench.json; its path is markup. Tests must not change it."""
    folder = tmp_path_factory.mktemp("report") / SCRIPT
    shutil.copytree(pocket_run.path, folder)
    bench_engine(BenchRequest(engine=folder, batches=(1, 4), rounds=2), silent)
    return folder


@pytest.fixture
def run_copy(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "run"))


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    return write(tmp_path / "jetson" / "bench.json", report_files.bench())


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_a_run_gives_a_page_with_its_markdown_and_json(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["report", str(measured), "--out", str(out)]) == 0
    written = capsys.readouterr().out.split()
    assert written == [str(out / name) for name in ("report.html", "report.md", "report.json")]
    page, words = (out / "report.html").read_text(), (out / "report.md").read_text()
    bench = json.loads((measured / "bench.json").read_text())
    manifest = json.loads((measured / "manifest.json").read_text())
    for row in bench["measurements"]:
        assert f'data-value="{row["p50_ms"]}"' in page
        assert f"| {significant(row['p50_ms'])} |" in words
    for stage in manifest["stages"].values():
        for path, value in stage["outputs"].items():
            assert path in page
            assert value[:12] in words
    assert "The weights are random" in page
    for name in ("speedup", "throughput", "latency", "agreement", "kernels"):
        assert f'<figure id="figure-{name}">' in page
    data = json.loads((out / "report.json").read_text())
    assert data["schema_version"] == 1
    (source,) = data["sources"]
    assert [row["p50_ms"] for row in source["bench"]["measurements"]] == [
        row["p50_ms"] for row in bench["measurements"]
    ]
    hashes = {file["path"]: file["sha256"] for file in source["deployment"]["files"]}
    assert hashes["model.onnx"] == manifest["stages"]["simplify"]["outputs"]["model.onnx"]


def test_what_is_missing_is_named_with_the_command_that_makes_it(measured: Path) -> None:
    (source,) = gather([measured], silent).sources
    commands = {missing.part: missing.command for missing in source.missing}
    assert "swin-deploy evaluate" in commands["accuracy on labelled photos"]
    assert "--bisect" in commands["error along the depth"]
    page = render_html(make_report(gather([measured], silent)))
    assert 'id="missing"' in page
    assert "accuracy on labelled photos" in page
    assert 'id="accuracy"' not in page


@pytest.mark.fault(43)
def test_nothing_of_a_file_is_markup(measured: Path, tmp_path: Path) -> None:
    content = report_files.bench()
    content["measurements"][1]["name"] = SCRIPT
    content["measurements"][3]["name"] = '_$x^{2}$ \\frac | `b` ]]> #0072b2 id="a"\n<b>\x07'
    content["warnings"] = [f"{SCRIPT} [link](javascript:alert(1))"]
    content["machine"]["processor"] = "<img src=x onerror=alert(1)>"
    report = make_report(gather([measured, write(tmp_path / "bench.json", content)], silent))
    page = render_html(report)
    assert page.count("<script>") == 1  # ours
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "#0072b2 id=" in page  # in a figure, where colours and ids of the drawing are replaced
    words = render_markdown(report)
    code = re.sub(r"(?s)^(`{3,}).*?^\1$|`[^`\n]*`", "", words, flags=re.MULTILINE)
    assert not re.search(r"(?<!\\)[<>]", code)
    assert "](" not in code.replace("\\](", "")
    for table in re.findall(r"(?:^\|.*\n)+", words, flags=re.MULTILINE):
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1, table  # a name opens no cell of its own


def test_the_page_needs_nothing_else(measured: Path) -> None:
    page = render_html(make_report(report_files.complete(gather([measured], silent))))
    for name in report_files.PLOTS:
        assert f'<figure id="figure-{name}">' in page
    assert not re.findall(r'(?:src|href)="(?!#|data:,)[^"]*"', page)
    assert set(re.findall(r"https?://[^\s\"<)]+", page)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert not re.search(r"#0[1478a]0[258b]0[369c]", page)  # every colour is the page's
    assert "pocket rtx-fp16: 20 kernels" in page
    assert "pocket rtx-fp16: 20.3 MB" in page
    for axis in ("(ms)", "(images/s)", "(images per call)", "(dB)", "(MB)", "(pixels)", "(times)"):
        assert axis in page


def test_the_same_inputs_give_the_same_bytes(measured: Path, foreign: Path, tmp_path: Path) -> None:
    first = write_report([measured, foreign], tmp_path / "a", silent)
    second = write_report([measured, foreign], tmp_path / "b", silent)
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_runs_and_other_machines_stand_side_by_side(
    measured: Path, run_copy: Path, foreign: Path
) -> None:
    evaluated = write(foreign.parent / "there.json", report_files.evaluation())
    data = gather([measured, run_copy, foreign, evaluated], silent)
    assert [source.label for source in data.sources] == ["script>", "run", "jetson", "there"]
    report = make_report(data)
    assert make_report(gather([run_copy, foreign], silent)).title == "pocket: run, jetson"
    compare = report.sections[0]
    assert compare.name == "compare"
    (table,) = compare.tables
    assert [row[0].text for row in table.rows] == ["script>", "run", "jetson", "there"]
    titles = [column.removeprefix(">") for column in table.columns]
    jetson = dict(zip(titles, (cell.text for cell in table.rows[2]), strict=True))
    assert jetson["machine"] == "Jetson AGX Orin, 12 cores"
    assert jetson["p50 (ms)"] == "4.00"
    assert jetson["speed-up (95 % interval)"] == "3.00 (2.75 to 3.25)"
    assert titles[:3] == ["run", "network", "verdict"]
    assert report.title == "script> (pocket), run (pocket), jetson (pocket), there"
    assert "The machines differ" in compare.words[0]
    speed = next(section for section in report.sections if section.name == "speed")
    assert {row[0].text for row in speed.tables[0].rows} == {"script>", "run", "jetson"}
    page = render_html(report)
    assert "jetson, engine tensorrt-fp16" in page
    assert "98.70" in page


def test_folders_of_one_name_are_told_apart(measured: Path, tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(measured, tmp_path / name / "run")) for name in "ab"]
    labels = [source.label for source in gather(copies, silent).sources]
    assert labels == [str(copy) for copy in copies]


def test_a_run_that_is_named_twice(measured: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        gather([measured, measured], silent)


def test_the_headline_ships_what_is_faster_and_agrees(foreign: Path) -> None:
    (source,) = gather([foreign], silent).sources
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


def test_what_disagrees_is_not_shipped(measured: Path, foreign: Path) -> None:
    (source,) = gather([measured], silent).sources
    assert source.verify is not None
    first = replace(source.verify.comparisons[-1], passed=False, reason="SQNR 3.0 dB")
    bad = replace(source.verify, passed=False, comparisons=(first,))
    damaged = replace(source, verify=bad)
    headline = make_headline(damaged)
    assert headline.tone == "bad"
    assert headline.verdict.startswith("Do not ship")
    assert "FAILED: SQNR 3.0 dB" in render_html(make_report(ReportData(sources=(damaged,))))
    (other,) = gather([foreign], silent).sources
    assert other.bench is not None
    row = decode(ComparisonRow, report_files.check("engine tensorrt-fp16", sqnr_db=3.0), "x")
    assert best_timing(other) is not None
    assert best_timing(replace(other, bench=replace(other.bench, checks=(row,)))) is None


def test_random_weights_are_not_for_shipping(measured: Path) -> None:
    (source,) = report_files.complete(gather([measured], silent)).sources
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


def test_what_verify_finds_reaches_the_verdict(measured: Path, tmp_path: Path) -> None:
    content = report_files.checks()
    content["checks"] += [report_files.check(f"graph {i}", 30.0 - i) for i in range(25)]
    content["checks"].append(report_files.check("shapeless") | {"passed": False, "sqnr_db": None})
    checks = report_files.parse("checks.json", content)
    (source,) = gather([measured], silent).sources
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


def test_an_engine_that_verify_refuses_is_not_the_best(foreign: Path) -> None:
    (source,) = gather([foreign], silent).sources
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


def test_the_verdict_stands_beside_the_name(measured: Path) -> None:
    report = make_report(report_files.complete(gather([measured], silent)))
    found = {}
    for section in report.sections:
        for table in section.tables:
            if "verdict" in table.columns:
                found[section.name] = table.columns.index("verdict")
    assert found == {"speed": 1, "agreement": 1, "depth": 1}


def test_provenance_is_in_plain_words(measured: Path) -> None:
    table = section_of(gather([measured], silent), "provenance").tables[0]
    facts = [row[0].text for row in table.rows]
    assert "how images are cropped" in facts
    manifest = json.loads((measured / "manifest.json").read_text())
    assert not {*manifest["weights"], *manifest["preprocessing"]}.intersection(facts)


def section_of(data: ReportData, name: str) -> Section:
    return next(section for section in make_report(data).sections if section.name == name)


def test_a_run_without_a_bench_says_so(pocket_run: RunResult) -> None:
    (source,) = gather([pocket_run.path], silent).sources
    assert "was not measured" in make_headline(source).verdict
    page = render_html(make_report(ReportData(sources=(source,))))
    assert "swin-deploy bench --engine" in page


def test_how_to_make_it_again(run_copy: Path) -> None:
    (source,) = gather([run_copy], silent).sources
    assert source.deployment is not None
    assert source.deployment.command == (
        "swin-deploy export --config pocket.toml --batch 1:4 --precision fp32,fp16 --target cpu "
        f"--target rtx --out {run_copy}"
    )
    assert "TOML" in source.deployment.command_lacks[0]
    words = render_markdown(make_report(ReportData(sources=(source,))))
    assert f"swin-deploy bench --engine {run_copy} --batches 1,4 --rounds 2 --threads" in words
    assert re.search("--threads [0-9]+ --baselines eager\n", words)


def test_commands_have_all_that_was_recorded(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = json.loads((run_copy / "bench.json").read_text())
    bench |= {"baselines": ["eager", "naive"], "batches": [4, 1]}
    bench["engine"] = "/elsewhere/runs/engines/cpu-fp32.onnx"
    write(run_copy / "bench.json", bench)
    evaluation = report_files.evaluation() | {"report": "/then/pocket/evaluate.json", "found": 5000}
    names = ("eager PyTorch fp32", "engine cpu-fp32", "onnxruntime b.onnx")
    paths = ("/then/pocket", "/then/pocket", "/then/b c.onnx")
    row = evaluation["artifacts"][0]
    evaluation["artifacts"] = [
        row | {"name": name, "path": path} for name, path in zip(names, paths, strict=True)
    ]
    evaluation["identity"]["images"][0] |= {"count": 1000, "seed": 3}
    evaluation["identity"]["settings"] |= {"batch": 8, "threads": 2}
    write(run_copy / "evaluate.json", evaluation)
    checks = report_files.checks()
    checks["checks"][0]["inputs"] = "photos x3"
    write(run_copy / "checks.json", checks)
    spaced = run_copy.rename(run_copy.with_name("a run"))
    monkeypatch.chdir(spaced.parent.parent)
    named = Path(spaced.parent.name, "a run")
    section = section_of(gather([named], silent), "reproduce")
    ((_, lines),) = section.commands
    folder = f"'{named}'"
    export, *others = lines.splitlines()
    assert export.endswith(f"--out {folder}")
    assert others == [
        f"swin-deploy bench --engine '{named}/engines/cpu-fp32.onnx' --batches 4,1 --rounds 2 "
        f"--threads {bench['threads']} --baselines eager,naive",
        f"swin-deploy evaluate {folder} '/then/b c.onnx' --data digits/val --eager --limit 1000 "
        "--seed 3 --batch 8 --threads 2",
        f"swin-deploy verify {folder} --images PHOTOS --bisect",
        f"swin-deploy report {folder}",
    ]
    assert "not recorded: the folder of the photos that verify compared on" in section.notes


def nan(content: dict[str, Any]) -> None:
    content["measurements"][0]["p50_ms"] = float("nan")


def infinite(content: dict[str, Any]) -> None:
    content["measurements"][0]["speedup_high"] = float("inf")


def longer_than_time(content: dict[str, Any]) -> None:
    content["measurements"][0]["p99_ms"] = 1e300


def words_for_a_number(content: dict[str, Any]) -> None:
    content["measurements"][0]["p50_ms"] = "fast"


def no_rows(content: dict[str, Any]) -> None:
    content["measurements"] = []


def an_object_for_a_list(content: dict[str, Any]) -> None:
    content["measurements"] = {"name": "x"}


def a_huge_batch(content: dict[str, Any]) -> None:
    content["measurements"][0]["batch"] = 10**400


def a_huge_name(content: dict[str, Any]) -> None:
    content["network"] = "x" * 1_000_000


def another_version(content: dict[str, Any]) -> None:
    content["schema_version"] = 2


def without_a_machine(content: dict[str, Any]) -> None:
    del content["machine"]


@pytest.mark.parametrize(
    "damage",
    [
        *(nan, infinite, longer_than_time, words_for_a_number, no_rows, an_object_for_a_list),
        *(a_huge_batch, a_huge_name, another_version, without_a_machine),
    ],
)
def test_damaged_reports_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[dict[str, Any]], None]
) -> None:
    content = report_files.bench()
    damage(content)
    path = write(tmp_path / "bench.json", content)
    assert run(["report", str(path), "--out", str(tmp_path / "out")]) == 3
    assert str(path) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_version_before_is_read_too(tmp_path: Path) -> None:
    for name, content in (
        ("bench.json", report_files.bench()),
        ("checks.json", report_files.checks()),
    ):
        (kind,) = (kind for kind in KINDS if kind.name == name)
        found = [
            read_content(write(tmp_path / name, content | {"schema_version": version}), kind)
            for version in kind.schemas
        ]
        assert len(found) == 2
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "text_of_it",
    [
        *("", "{", "[]", "null", "{}", '{"a": 1}', "<!doctype html>", "\x00"),
        *("[" * 100_000, '{"a":"\\ud800"}'),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text_of_it: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text_of_it)
    assert run(["report", str(path), "--out", str(tmp_path / "out")]) == 3


def test_a_file_that_is_too_large(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="at most 100 are read"):
        gather([foreign], silent)


def test_damage_inside_a_run(run_copy: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    (run_copy / "bench.json").write_text("{")
    assert run(["report", str(run_copy), *out]) == 3
    (run_copy / "bench.json").unlink()
    verified = (run_copy / "verify.json").read_text()
    (run_copy / "verify.json").write_text(verified.replace("true", "false"))
    assert run(["report", str(run_copy), *out]) == 8
    (run_copy / "verify.json").write_text(verified)
    edit_manifest(run_copy, lambda manifest: manifest["variant"].update(image_size=32))
    assert run(["report", str(run_copy), *out]) == 3


def test_every_file_that_the_manifest_lists_is_compared_with_its_hash(
    run_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = run_copy / "engines" / "cpu-fp32.onnx"
    content = bytearray(engine.read_bytes())
    content[len(content) // 2] ^= 1
    engine.write_bytes(content)
    with pytest.raises(UnsafeError, match="changed"):
        gather([run_copy], silent)
    assert run(["report", str(run_copy)]) == 8
    assert "cpu-fp32.onnx was changed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["engines/cpu-fp32.onnx", "model.fp16.onnx", "verify.json"])
def test_a_file_that_is_gone_is_named(run_copy: Path, name: str) -> None:
    (run_copy / name).unlink()
    (source,) = gather([run_copy], silent).sources
    commands = {missing.part: missing.command for missing in source.missing}
    assert "swin-deploy export" in commands[f"{name}, which the manifest lists"]
    assert f"{name}, which the manifest lists" in render_html(
        make_report(ReportData(sources=(source,)))
    )
    assert ("and it agrees" in make_headline(source).verdict) == (name != "verify.json")


def test_depth_that_a_later_verify_took_away_is_missing(run_copy: Path) -> None:
    content = report_files.checks()
    write(run_copy / "checks.json", content)
    (source,) = gather([run_copy], silent).sources
    assert "error along the depth" not in [missing.part for missing in source.missing]
    write(run_copy / "checks.json", content | {"bisections": []})
    (source,) = gather([run_copy], silent).sources
    commands = {missing.part: missing.command for missing in source.missing}
    assert commands["error along the depth"] == f"swin-deploy verify {run_copy} --bisect"


def test_sensitivity_is_shown_with_its_suggestion(run_copy: Path) -> None:
    write(run_copy / "sensitivity.json", report_files.sensitivity())
    section = section_of(gather([run_copy], silent), "sensitivity")
    rows = [[cell.text for cell in row] for row in section.tables[0].rows]
    place = "layers.0.blocks.1.attn"
    assert rows[0] == [place, "attention", "50.0", "30.2", "95.0", "FP16"]
    assert [row[3] for row in rows] == ["30.2", "45.5", "equal", "45.5"]
    assert rows[-1][0] == "all of them"
    assert "40 dB on the worst image: 1 of 3 places stay in FP16; 41.5 dB" in section.words[1]
    assert section.commands == (("", f"swin-deploy export --int8-keep {place}"),)


def test_what_is_no_run(tmp_path: Path) -> None:
    assert run(["report", str(tmp_path)]) == 3
    assert run(["report", str(tmp_path / "nothing")]) == 3
    assert run(["report", str(tmp_path / "nothing.json")]) == 3
    assert run(["report"]) == 2


def test_without_matplotlib(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "matplotlib" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert run(["report", str(foreign)]) == 4
    assert "pip install matplotlib" in capsys.readouterr().err


def test_where_it_goes_by_itself(
    run_copy: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(foreign.parent)
    assert write_report([run_copy / "engines"], None, silent)[0] == run_copy / "report.html"
    assert write_report([run_copy, foreign], None, silent)[0] == Path("report/report.html")
    assert write_report([foreign], None, silent)[0] == Path("report/report.html")


def test_the_json_option(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(foreign), "--out", str(tmp_path / "out"), "--json"]) == 0
    paths = json.loads(capsys.readouterr().out)
    assert set(paths) == {"html", "markdown", "json"}
    assert all(Path(path).is_file() for path in paths.values())


@pytest.mark.parametrize("make", [report_files.bench, report_files.evaluation, report_files.checks,
                                  report_files.scaling, report_files.sensitivity])  # fmt: skip
def test_every_file_is_recognised(tmp_path: Path, make: Callable[[], dict[str, Any]]) -> None:
    path = write(tmp_path / "x.json", make())
    kind = recognise(path)
    assert isinstance(read_content(path, kind), kind.content)


def test_accuracy_of_files_that_are_gone(run_copy: Path) -> None:
    content = report_files.evaluation()
    manifest = json.loads((run_copy / "manifest.json").read_text())
    present = manifest["stages"]["engine:cpu-fp32"]["outputs"]["engines/cpu-fp32.onnx"]
    content["artifacts"][0] |= {"name": "engine cpu-fp32", "sha256": [present]}
    content["artifacts"][1] |= {"sha256": ["0" * 64]}
    write(run_copy / "evaluate.json", content)
    report = make_report(gather([run_copy], silent))
    warnings = next(section for section in report.sections if section.name == "warnings")
    gone = [note for note in warnings.notes if "evaluate.json" in note]
    assert gone == ["engine int8 of evaluate.json is no file of this run as it is now"]


def test_the_headline_has_the_accuracy_of_the_engine_that_it_names(foreign: Path) -> None:
    (source,) = report_files.complete(gather([foreign], silent)).sources
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


def test_columns_that_are_empty_vanish() -> None:
    table = make_table("x", ("a", ">b", ">c"), [(text("1"), number(None), number(2.0))])
    assert table.columns == ("a", ">c")
    with pytest.raises(ValueError, match="cells"):
        replace(table, columns=("a",))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (3, "3.00"),
        (408.976, "409"),
        (9.996, "10.0"),
        (1234567, "1,230,000"),
    ],
)
def test_significant_digits(value: float, words: str) -> None:
    assert significant(value) == words


def test_extremes_are_drawn(tmp_path: Path) -> None:
    content = report_files.bench()
    first = content["measurements"][0]
    first |= {"p50_ms": 1e-9, "p99_ms": 1e15, "images_per_s": 1e15, "batch": 2**31 - 1}
    content["measurements"][1] |= {"speedup": 0.0, "speedup_low": -1e15, "speedup_high": 1e15}
    same = content["measurements"][3]
    content["measurements"] += [same | {"batch": batch} for batch in range(100, 200)]
    page = render_html(make_report(gather([write(tmp_path / "bench.json", content)], silent)))
    assert page.count("<figure") == 3
    assert "The first 18 of 104; the table has all." in page


def test_a_terminal_shows_what_was_just_measured_at_any_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bounds are for files that anyone may have written."""
    content = report_files.bench()
    for row in content["measurements"]:
        row["name"] *= 1000
    content["machine"]["packages"] |= {"torch": "2.9.0", "onnxruntime": "1.23.0"}
    content["warnings"] = ["x" * 5000]
    with pytest.raises(InputError, match="4000"):
        report_files.parse("bench.json", content)
    show(bench_summary(content))
    assert "x" * 5000 in capsys.readouterr().out


@pytest.mark.parametrize("tone", ["good", "bad"])
def test_one_table_is_for_terminal_page_and_markdown(
    tone: Tone, capsys: pytest.CaptureFixture[str]
) -> None:
    columns: Columns[tuple[str, float]] = (
        ("place", lambda row: row[0]),
        ("verdict", lambda row: text("[bold]ok", tone)),
        (">p50 (ms)", lambda row: measure(row[1])),
        (">p99 (ms)", lambda row: number(None)),
    )
    table = tabulate("Times", columns, [("here", ("a|b", 1.0)), ("there", ("c", 2.5))])
    assert table.columns == ("run", "place", "verdict", ">p50 (ms)")  # nothing has a p99
    assert tabulate("", columns, alone([("a", 1.0)]), ["verdict"]).columns == ("place", ">p50 (ms)")
    assert table.ending_with("verdict").columns[-1] == "verdict"
    show([table, "said"])
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[-3:] == [
        ["here", "a|b", "[bold]ok", "1.00"],
        ["there", "c", "[bold]ok", "2.50"],
        ["said"],
    ]
    assert "| here | a\\|b | \\[bold\\]ok | 1.00 |" in list(table.to_markdown())
