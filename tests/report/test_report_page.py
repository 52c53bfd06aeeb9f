"""The page in a browser: plots, sorting, a telephone's width, light and dark."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import report_files
from swin_deploy.pipeline.run import RunResult
from swin_deploy.report.gather import gather
from swin_deploy.report.page import make_report, render_html

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
NARROW_DESK = {"width": 1000, "height": 900}
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
WITHOUT_SIZE = """() => [...document.querySelectorAll("figure")]
  .filter((figure) => {
    const box = figure.querySelector("svg")?.getBoundingClientRect();
    return !box || box.width < 100 || box.height < 40;
  })
  .map((figure) => figure.id)"""
TOO_WIDE = """() => [...document.querySelectorAll("table")]
  .filter((table) => table.scrollWidth > table.parentElement.clientWidth)
  .map((table) => `${table.caption.textContent}: ${table.scrollWidth} pixels`)"""
COLUMN = """([table, column]) => [...document.querySelectorAll("table")[table].tBodies[0].rows]
  .map((row) => row.cells[column].textContent)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser of this system; it has a folder of its own, and asks nobody anything."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on PATH: apt-get install chromium")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=path, headless=True, args=[*FLAGS])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_file(pocket_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run that has everything, beside another machine."""
    folder = tmp_path_factory.mktemp("page")
    data = report_files.complete(gather([pocket_run.path], lambda _: None))
    path = folder / "report.html"
    path.write_text(render_html(make_report(data)), encoding="utf-8")
    return path


def look(browser: Any, path: Path, viewport: dict[str, int], scheme: str) -> tuple[Any, list[str]]:
    """Open a page; returns it, and what it complained of or asked for, as it happens."""
    context = browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=False)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            request.url.startswith(("file:", "data:"))
            or problems.append(f"asked for {request.url}")
        ),
    )
    page.goto(path.as_uri())
    return page, problems


def problems_of(browser: Any, path: Path) -> list[str]:
    """What is wrong with a page on a telephone and on a desk."""
    page, problems = look(browser, path, PHONE, "light")
    if (width := page.evaluate("document.documentElement.scrollWidth")) > PHONE["width"]:
        problems.append(f"{width} pixels wide")
    problems += [f"{name} has no plot" for name in page.evaluate(WITHOUT_SIZE)]
    page.set_viewport_size(NARROW_DESK)
    problems += page.evaluate(TOO_WIDE)
    page.set_viewport_size(DESK)
    headings = page.locator("table").first.locator("th")
    for index in range(headings.count()):
        seen = []
        for state in ("ascending", "descending"):
            headings.nth(index).locator("button").click()
            if headings.nth(index).get_attribute("aria-sort") != state:
                problems.append(f"column {index} is not {state}")
            seen.append([c for c in page.evaluate(COLUMN, [0, index]) if c])
        values = [[number_of(cell) for cell in cells] for cells in seen]
        if values[0] != sorted(values[0]) or values[1] != sorted(values[1], reverse=True):
            problems.append(f"column {index} is not sorted: {seen}")
    page.context.close()
    return problems


def number_of(cell: str) -> tuple[float, str]:
    """To sort by, as people do."""
    found = re.match(r"[-\d.,]+", cell)
    return (float(found[0].replace(",", "")) if found else 0.0, cell if not found else "")


def test_the_page_is_whole(browser: Any, page_file: Path) -> None:
    page, _ = look(browser, page_file, DESK, "light")
    assert [figure.get_attribute("id") for figure in page.locator("figure").all()] == [
        f"figure-{name}" for name in report_files.PLOTS
    ]
    for figure in page.locator("figure").all():
        name = figure.locator("svg").get_attribute("aria-labelledby")
        assert page.locator(f"#{name}").inner_text()
    for link in page.locator("nav a").all():
        assert page.locator(str(link.get_attribute("href"))).count() == 1
    page.context.close()
    assert problems_of(browser, page_file) == []


def test_several_sources_fit_a_narrow_desk(
    browser: Any, pocket_run: RunResult, tmp_path: Path
) -> None:
    other = tmp_path / "jetson" / "bench.json"
    other.parent.mkdir()
    other.write_text(json.dumps(report_files.bench()), encoding="utf-8")
    data = report_files.complete(gather([pocket_run.path, other], lambda _: None))
    path = tmp_path / "report.html"
    path.write_text(render_html(make_report(data)), encoding="utf-8")
    page, _ = look(browser, path, NARROW_DESK, "light")
    assert page.evaluate(TOO_WIDE) == []
    page.context.close()


def test_sorting_by_keyboard(browser: Any, page_file: Path) -> None:
    page, problems = look(browser, page_file, DESK, "light")
    before = page.evaluate(COLUMN, [0, 3])
    button = page.locator("table").first.locator("th").nth(3).locator("button")
    button.focus()
    page.keyboard.press("Enter")
    after = page.evaluate(COLUMN, [0, 3])
    assert sorted(before) == sorted(after)
    assert [float(cell) for cell in after] == sorted(float(cell) for cell in before)
    assert problems == []
    page.context.close()


def test_light_dark_and_paper_differ(browser: Any, page_file: Path) -> None:
    colours: dict[str, list[str]] = {}
    of_page = """() => [document.body, document.querySelector("figure text"),
      document.querySelector("#figure-speedup path[style*='series-0']")]
      .map((e) => [getComputedStyle(e).backgroundColor, getComputedStyle(e).fill,
                   getComputedStyle(e).stroke, getComputedStyle(e).color].join())"""
    for scheme in ("light", "dark"):
        page, _ = look(browser, page_file, DESK, scheme)
        colours[scheme] = page.evaluate(of_page)
        page.emulate_media(media="print", color_scheme=scheme)
        colours[f"{scheme} print"] = page.evaluate(of_page)
        page.context.close()
    for light, dark in zip(colours["light"], colours["dark"], strict=True):
        assert light != dark
    assert colours["light print"] == colours["dark print"]  # paper is white


def wide(text: str) -> str:
    return text.replace("<main>", '<main><p style="width: 600px">x</p>')


def with_cells_on_one_line(text: str) -> str:
    return text.replace("</style>", "th, td { white-space: nowrap !important; }</style>")


def without_script(text: str) -> str:
    return re.sub(r"(?s)<script>.*?</script>", "", text)


def with_a_bug(text: str) -> str:
    return text.replace("<script>", "<script>nothing.here();")


def without_a_plot(text: str) -> str:
    return re.sub(r"(?s)(<figure id=\"figure-bytes\">).*?<svg.*?</svg>", r"\1", text)


def from_elsewhere(text: str) -> str:
    text = re.sub("<meta http-equiv=[^>]*>", "", text)
    return text.replace("<main>", '<main><img alt="" src="http://127.0.0.1:9/x.png">')


def refused_by_its_policy(text: str) -> str:
    return text.replace("<main>", '<main><img alt="" src="http://127.0.0.1:9/x.png">')


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (wide, "pixels wide"),
        (with_cells_on_one_line, "Against eager FP32: "),
        (without_script, "is not ascending"),
        (with_a_bug, "nothing is not defined"),
        (without_a_plot, "figure-bytes has no plot"),
        (from_elsewhere, "asked for http"),
        (refused_by_its_policy, "Content Security Policy"),
    ],
)
def test_a_damaged_page_is_seen(
    browser: Any, page_file: Path, tmp_path: Path, damage: Any, problem: str
) -> None:
    path = tmp_path / "damaged.html"
    path.write_text(damage(page_file.read_text(encoding="utf-8")), encoding="utf-8")
    assert problem in "\n".join(problems_of(browser, path))
