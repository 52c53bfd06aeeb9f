"""Data -> the page, its Markdown and its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

import swin_deploy
from swin_deploy.report.page.gather import ReportData
from swin_deploy.report.page.headline import Headline, compare_section, make_headline
from swin_deploy.report.page.section import Section
from swin_deploy.report.page.sections_again import reproduce_section
from swin_deploy.report.page.sections_agreement import accuracy_section, agreement_section
from swin_deploy.report.page.sections_checks import depth_section
from swin_deploy.report.page.sections_cost import cost_section
from swin_deploy.report.page.sections_run import (
    deployed_section,
    missing_section,
    provenance_section,
    warnings_section,
)
from swin_deploy.report.page.sections_sensitivity import sensitivity_section
from swin_deploy.report.page.sections_speed import scaling_section, speed_section

_HERE = Path(__file__).parent
_SECTIONS = (
    *(compare_section, speed_section, agreement_section, accuracy_section, depth_section),
    *(sensitivity_section, cost_section, scaling_section, deployed_section, provenance_section),
    *(warnings_section, missing_section, reproduce_section),
)


@dataclass(frozen=True, slots=True)
class Report:
    """A report, ready to be written down.

    Attributes:
        title: Of the page.
        headlines: One for every source.
        sections: Those that have something to say.
    """

    title: str
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]


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
