"""One call from paths to the three files of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from swin_deploy.files import atomic_path, require_writable, write_json
from swin_deploy.report.page.gather import gather
from swin_deploy.report.page.markdown import render_markdown
from swin_deploy.report.page.pages import make_report, render_html
from swin_deploy.report.page.svg import require_matplotlib
from swin_deploy.run.finished import find_run

PAGE, MARKDOWN, DATA = "report.html", "report.md", "report.json"


def write_report(
    paths: Sequence[Path], out: Path | None, progress: Callable[[str], None]
) -> list[Path]:
    """Report on runs, and on files of other machines.

    Args:
        paths: At least one.
        out: Folder of the report; None for that of a single run, or "report" for several.
        progress: Told what is being done.

    Returns:
        The page, the Markdown and the JSON, each of which replaced an earlier one.

    Raises:
        EnvironmentMissingError: matplotlib is not installed.
        FileAccessError: Nothing can be written there.
        SwinDeployError: As ``gather``.
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
