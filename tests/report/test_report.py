"""``report``: what the page, its Markdown and its JSON say."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import report_files
from measured_runs import SCRIPT, section_of, silent, write
from swin_deploy.cli.main import run
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.pipeline.run import RunResult
from swin_deploy.report.console import show
from swin_deploy.report.gather import ReportData, gather
from swin_deploy.report.headline import make_headline
from swin_deploy.report.measured_tables import bench_summary
from swin_deploy.report.page import make_report, render_html, render_markdown, write_report
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


def test_a_run_gives_a_page_with_its_markdown_and_json(
    measured_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["report", str(measured_run), "--out", str(out)]) == 0
    written = capsys.readouterr().out.split()
    assert written == [str(out / name) for name in ("report.html", "report.md", "report.json")]
    page, words = (out / "report.html").read_text(), (out / "report.md").read_text()
    bench = json.loads((measured_run / "bench.json").read_text())
    manifest = json.loads((measured_run / "manifest.json").read_text())
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


def test_what_is_missing_is_named_with_the_command_that_makes_it(measured_run: Path) -> None:
    (source,) = gather([measured_run], silent).sources
    commands = {missing.part: missing.command for missing in source.missing}
    assert "swin-deploy evaluate" in commands["accuracy on labelled photos"]
    assert "--bisect" in commands["error along the depth"]
    page = render_html(make_report(gather([measured_run], silent)))
    assert 'id="missing"' in page
    assert "accuracy on labelled photos" in page
    assert 'id="accuracy"' not in page


@pytest.mark.fault(43)
def test_nothing_of_a_file_is_markup(measured_run: Path, tmp_path: Path) -> None:
    content = report_files.bench()
    content["measurements"][1]["name"] = SCRIPT
    content["measurements"][3]["name"] = '_$x^{2}$ \\frac | `b` ]]> #0072b2 id="a"\n<b>\x07'
    content["warnings"] = [f"{SCRIPT} [link](javascript:alert(1))"]
    content["machine"]["processor"] = "<img src=x onerror=alert(1)>"
    report = make_report(gather([measured_run, write(tmp_path / "bench.json", content)], silent))
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


def test_the_page_needs_nothing_else(measured_run: Path) -> None:
    page = render_html(make_report(report_files.complete(gather([measured_run], silent))))
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


def test_the_same_inputs_give_the_same_bytes(
    measured_run: Path, jetson_bench: Path, tmp_path: Path
) -> None:
    first = write_report([measured_run, jetson_bench], tmp_path / "a", silent)
    second = write_report([measured_run, jetson_bench], tmp_path / "b", silent)
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()


def test_runs_and_other_machines_stand_side_by_side(
    measured_run: Path, measured_copy: Path, jetson_bench: Path
) -> None:
    evaluated = write(jetson_bench.parent / "there.json", report_files.evaluation())
    data = gather([measured_run, measured_copy, jetson_bench, evaluated], silent)
    assert [source.label for source in data.sources] == ["script>", "run", "jetson", "there"]
    report = make_report(data)
    assert make_report(gather([measured_copy, jetson_bench], silent)).title == "pocket: run, jetson"
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


def test_folders_of_one_name_are_told_apart(measured_run: Path, tmp_path: Path) -> None:
    copies = [Path(shutil.copytree(measured_run, tmp_path / name / "run")) for name in "ab"]
    labels = [source.label for source in gather(copies, silent).sources]
    assert labels == [str(copy) for copy in copies]


def test_a_run_that_is_named_twice(measured_run: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        gather([measured_run, measured_run], silent)


def test_provenance_is_in_plain_words(measured_run: Path) -> None:
    table = section_of(gather([measured_run], silent), "provenance").tables[0]
    facts = [row[0].text for row in table.rows]
    assert "how images are cropped" in facts
    manifest = json.loads((measured_run / "manifest.json").read_text())
    assert not {*manifest["weights"], *manifest["preprocessing"]}.intersection(facts)


def test_a_run_without_a_bench_says_so(pocket_run: RunResult) -> None:
    (source,) = gather([pocket_run.path], silent).sources
    assert "was not measured" in make_headline(source).verdict
    page = render_html(make_report(ReportData(sources=(source,))))
    assert "swin-deploy bench --engine" in page


def test_how_to_make_it_again(measured_copy: Path) -> None:
    (source,) = gather([measured_copy], silent).sources
    assert source.deployment is not None
    assert source.deployment.command == (
        "swin-deploy export --config pocket.toml --batch 1:4 --precision fp32,fp16 --target cpu "
        f"--target rtx --out {measured_copy}"
    )
    assert "TOML" in source.deployment.command_lacks[0]
    words = render_markdown(make_report(ReportData(sources=(source,))))
    assert f"swin-deploy bench --engine {measured_copy} --batches 1,4 --rounds 2 --threads" in words
    assert re.search("--threads [0-9]+ --baselines eager\n", words)


def test_commands_have_all_that_was_recorded(
    measured_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = json.loads((measured_copy / "bench.json").read_text())
    bench |= {"baselines": ["eager", "naive"], "batches": [4, 1]}
    bench["engine"] = "/elsewhere/runs/engines/cpu-fp32.onnx"
    write(measured_copy / "bench.json", bench)
    evaluation = report_files.evaluation() | {"report": "/then/pocket/evaluate.json", "found": 5000}
    names = ("eager PyTorch fp32", "engine cpu-fp32", "onnxruntime b.onnx")
    paths = ("/then/pocket", "/then/pocket", "/then/b c.onnx")
    row = evaluation["artifacts"][0]
    evaluation["artifacts"] = [
        row | {"name": name, "path": path} for name, path in zip(names, paths, strict=True)
    ]
    evaluation["identity"]["images"][0] |= {"count": 1000, "seed": 3}
    evaluation["identity"]["settings"] |= {"batch": 8, "threads": 2}
    write(measured_copy / "evaluate.json", evaluation)
    checks = report_files.checks()
    checks["checks"][0]["inputs"] = "photos x3"
    write(measured_copy / "checks.json", checks)
    spaced = measured_copy.rename(measured_copy.with_name("a run"))
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


def test_sensitivity_is_shown_with_its_suggestion(measured_copy: Path) -> None:
    write(measured_copy / "sensitivity.json", report_files.sensitivity())
    section = section_of(gather([measured_copy], silent), "sensitivity")
    rows = [[cell.text for cell in row] for row in section.tables[0].rows]
    place = "layers.0.blocks.1.attn"
    assert rows[0] == [place, "attention", "50.0", "30.2", "95.0", "FP16"]
    assert [row[3] for row in rows] == ["30.2", "45.5", "equal", "45.5"]
    assert rows[-1][0] == "all of them"
    assert "40 dB on the worst image: 1 of 3 places stay in FP16; 41.5 dB" in section.words[1]
    assert section.commands == (("", f"swin-deploy export --int8-keep {place}"),)


def test_without_matplotlib(
    jetson_bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "matplotlib" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert run(["report", str(jetson_bench)]) == 4
    assert "pip install matplotlib" in capsys.readouterr().err


def test_where_it_goes_by_itself(
    measured_copy: Path, jetson_bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(jetson_bench.parent)
    assert (
        write_report([measured_copy / "engines"], None, silent)[0] == measured_copy / "report.html"
    )
    assert write_report([measured_copy, jetson_bench], None, silent)[0] == Path(
        "report/report.html"
    )
    assert write_report([jetson_bench], None, silent)[0] == Path("report/report.html")


def test_the_json_option(
    jetson_bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(jetson_bench), "--out", str(tmp_path / "out"), "--json"]) == 0
    paths = json.loads(capsys.readouterr().out)
    assert set(paths) == {"html", "markdown", "json"}
    assert all(Path(path).is_file() for path in paths.values())


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
