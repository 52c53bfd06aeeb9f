"""docs/targets.md against the table of targets, row by row."""

from __future__ import annotations

from collections.abc import Iterator

from conftest import ROOT
from swin_deploy.cli.lists import BATCHES, built_on
from swin_deploy.engine.target import Target
from swin_deploy.engine.targets import TARGETS

PAGE = (ROOT / "docs" / "targets.md").read_text()


def row(target: Target) -> str:
    """A row of the first table of the page."""
    chips = target.compute_capability or ", ".join(target.runs_on)
    workspace = target.builder.workspace_bytes
    settings = f"workspace {workspace >> 30} GiB" if workspace else ""
    cells = (
        *(f"`{target.name}`", target.module, chips, ", ".join(target.precisions)),
        *(str(target.opset), " / ".join(target.forms), BATCHES[target.batch], settings),
        built_on(target),
    )
    return f"| {' | '.join(cells)} |"


def lines() -> Iterator[str]:
    """Every line that the page has to have."""
    for target in TARGETS.values():
        yield row(target)
    for target in TARGETS.values():
        yield f"- `{target.name}`: {'; '.join(target.sources)}."
        if target.versions:
            yield f"  TensorRT {', '.join(target.versions)}."


def test_the_page_has_every_row_and_source() -> None:
    have = PAGE.splitlines()
    missing = [line for line in lines() if line not in have]
    assert not missing, "\n".join(missing)
    rows = [line for line in have if line.startswith("| `") and line.count("|") == 10]
    assert len(rows) == len(TARGETS)


def test_every_option_of_the_compilers_is_explained() -> None:
    options = {name for target in TARGETS.values() for name in target.options}
    flags = {"optimisation_level": "--opt-level", "workspace_bytes": "--workspace"}
    for name in options:
        assert f"`{flags.get(name, '--' + name.replace('_', '-'))}" in PAGE
