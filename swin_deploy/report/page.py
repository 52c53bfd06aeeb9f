"""The page of a run or several, its Markdown and its JSON, from paths to files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

import swin_deploy
from swin_deploy.core.files import atomic_path, require_writable, write_json
from swin_deploy.report import sections_measured, sections_run
from swin_deploy.report.figures import require_matplotlib
from swin_deploy.report.gather import ReportData, gather
from swin_deploy.report.headline import Headline, make_headline
from swin_deploy.report.sections_run import Section
from swin_deploy.report.tables import escape
from swin_deploy.run.finished import find_run

PAGE, MARKDOWN, DATA = "report.html", "report.md", "report.json"
_HERE = Path(__file__).parent
_SECTIONS = (*sections_measured.SECTIONS, *sections_run.SECTIONS)


@dataclass(frozen=True, slots=True)
class Report:
    """A report, ready to be written down: a headline a source, and what there is to say."""

    title: str
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]


def write_report(
    paths: Sequence[Path], out: Path | None, progress: Callable[[str], None]
) -> list[Path]:
    """Report on runs, and on files of other machines; all three files replace earlier ones.

    Args:
        paths: At least one.
        out: Folder of the report; None for that of a single run, or "report" for several.
        progress: Told what is being done.
    """
    require_matplotlib()
    data = gather(paths, progress)
    folder = out if out is not None else default_folder(paths)
    require_writable(folder)
    progress("drawing")
    report = make_report(data)
    texts = {PAGE: render_html(report), MARKDOWN: render_markdown(report)}
    for name, text in texts.items():
        with atomic_path(folder / name) as scratch:
            scratch.write_text(text, encoding="utf-8")
    write_json(folder / DATA, data.as_dict())
    return [folder / name for name in (PAGE, MARKDOWN, DATA)]


def default_folder(paths: Sequence[Path]) -> Path:
    """Where a report goes that was not told where."""
    run = find_run(paths[0]) if len(paths) == 1 and paths[0].is_dir() else None
    return Path("report") if run is None else run.path


def make_report(data: ReportData) -> Report:
    """Draw and tabulate everything; the same data give the same report."""
    return Report(
        title=_title(data),
        headlines=tuple(make_headline(source) for source in data.sources),
        sections=tuple(s for s in (make(data) for make in _SECTIONS) if not s.empty),
    )


def _title(data: ReportData) -> str:
    """The network of one source; of several each by its name, so that all are told apart."""
    networks = {source.network for source in data.sources}
    if len(data.sources) == 1:
        return data.sources[0].network or data.sources[0].label
    if len(networks) == 1 and "" not in networks:
        return f"{networks.pop()}: {', '.join(source.label for source in data.sources)}"
    return ", ".join(
        f"{source.label} ({source.network})" if source.network else source.label
        for source in data.sources
    )


def render_html(report: Report) -> str:
    """One page that needs nothing else: style, script and figures are in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        report=report,
        version=swin_deploy.__version__,
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our file
        script=Markup((_HERE / "sort.js").read_text(encoding="utf-8")),  # noqa: S704 - our file
        safe=Markup,
    )


def render_markdown(report: Report) -> str:
    """GitHub's dialect; names cannot become markup."""
    lines = [f"# {escape(report.title)}: deployment report", ""]
    for headline in report.headlines:
        lead = f"**{escape(headline.source.label)}**: " if len(report.headlines) > 1 else ""
        lines += [f"{lead}{escape(headline.verdict)}", ""]
        lines += [
            f"- {escape(card.title)}: {escape(card.value)} ({escape(card.more)})"
            for card in headline.cards
        ]
        lines += [""] if headline.cards else []
    for section in report.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "")
    for words in section.words:
        yield from (escape(words), "")
    for table in section.tables:
        yield from table.to_markdown()
    for caption, commands in section.commands:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", commands)), default=0))
        yield from (f"{escape(caption)}:", "") if caption else ()
        yield from (f"{fence}sh", commands, fence, "")
    yield from (f"- {escape(note)}" for note in section.notes)
    if section.notes:
        yield ""
