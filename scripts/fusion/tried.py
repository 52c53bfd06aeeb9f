"""The table of forms: each is proved exact, then compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from fusion.compile import compile_frozen, compile_written
from fusion.forms import TriedForm
from fusion.networks import figures
from fusion.rows import Row, batch_range
from swin_deploy.architecture import SwinConfig
from swin_deploy.batches import BatchRange
from swin_deploy.data.inputs import make_noise
from swin_deploy.engine.build import BuiltEngine
from swin_deploy.errors import VerificationError
from swin_deploy.graph.export import OPSET
from swin_deploy.graph.plain import Halved, export_plainly
from swin_deploy.metrics import sqnr_db
from swin_deploy.model.build import build_model
from swin_deploy.verify import FLOORS_DB

NETWORKS = {1: "swin_t", 2: "swinv2_t_w8"}
BATCHES = ("16", "1", "1:16")


def require_exact(form: TriedForm, config: SwinConfig) -> float:
    """Check that the form computes in FP32 what the trained network does; returns the dB.

    Raises:
        VerificationError: It does not.
    """
    eager = build_model(config)
    images = torch.from_numpy(make_noise(2, config.in_channels, config.image_size).images)
    with torch.inference_mode():
        found = sqnr_db(eager(images).numpy(), form.make(eager)(images).numpy())
    if found < FLOORS_DB["fp32"]:
        raise VerificationError(
            f"{form.name}: {found:.1f} dB from eager, needs {FLOORS_DB['fp32']:.0f} dB",
            "the form computes something else: its figures would mean nothing",
        )
    return found


def compile_form(form: TriedForm, config: SwinConfig, batch: BatchRange) -> BuiltEngine:
    """What the compiler makes of a form."""
    made = form.make(build_model(config))
    if form.ours:
        return compile_frozen(made, config, batch)
    network = Halved(made)  # ``convert_to_half`` knows the operators of our own forms only

    def write(path: Path) -> None:
        export_plainly(network, config, batch, path, form.opset or OPSET)

    return compile_written(write, batch)


def tried_table(
    forms: Iterable[TriedForm], batches: Sequence[str], network: str | None
) -> Iterator[str]:
    """Markdown, line by line as it is measured.

    Args:
        forms: Rows.
        batches: Columns: kernels at each and, where it is static, megabytes.
        network: Other than that of ``NETWORKS``, for all forms of its version.

    Raises:
        VerificationError: A form is not exact.
    """
    columns = [
        f"{what} at {batch}"
        for batch in batches
        for what in ("kernels", "MB")
        if what == "kernels" or batch_range(batch).static
    ]
    yield f"| form | network | {' | '.join(columns)} | fused attentions | exact to, dB |"
    yield f"|---|---|{'---:|' * (len(columns) + 2)}"
    for form in forms:
        config = Row(network or NETWORKS[form.version], "1", ()).config
        if form.version == config.version:
            decibels = require_exact(form, config)
            sizes = map(batch_range, batches)
            engines = [compile_form(form, config, size) for size in sizes]
            yield _line(form, config, engines, decibels)


def _line(
    form: TriedForm, config: SwinConfig, engines: Sequence[BuiltEngine], decibels: float
) -> str:
    cells, fused = [form.name, config.name], []
    for engine in engines:
        kernels, attentions, megabytes = figures(engine, sum(config.depths))
        cells += [kernels, megabytes] if megabytes else [kernels]
        fused.append(attentions)
    cells += [" / ".join(dict.fromkeys(fused)), f"{decibels:.1f}"]
    return f"| {' | '.join(cells)} |"
