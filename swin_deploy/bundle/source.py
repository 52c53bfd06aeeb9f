"""What a bundle takes of a finished run: graphs for a target, and what engines are held to."""

from __future__ import annotations

from swin_deploy.engine.target import Target
from swin_deploy.errors import ConfigError, EnvironmentMissingError
from swin_deploy.judge import FLOORS, FLOORS_DB
from swin_deploy.precisions import Precision
from swin_deploy.run.finished import Run
from swin_deploy.run.names import graph_of


def floors_of(run: Run, target: Target, precision: Precision) -> dict[str, float]:
    """Output -> the lowest SQNR against eager PyTorch that an engine may have, in dB.

    Of what the graphs give, and of what the network itself gives, before their ends.
    """
    floors = dict.fromkeys((*run.output_names, *run.export.outputs), FLOORS_DB[precision])
    if precision == "fp32":
        held = run.floors_db
        return {name: held.get(name, floor) for name, floor in floors.items()}
    if precision == "int8":
        return dict.fromkeys(floors, run.int8_of(target).floor_db)
    return floors


def extreme_floor_of(run: Run, target: Target, precision: Precision) -> float | None:
    """The same on images that no camera takes, of every output; None for finite numbers."""
    if precision == "int8":
        return None
    floor = FLOORS["extreme"][precision]
    held = run.extreme_floors_db if precision == "fp32" else {}
    return min(held.get(name, floor) for name in floors_of(run, target, precision))


def form_note(run: Run, target: Target) -> str | None:
    """What to know of graphs that a GPU's compiler makes slower engines of; None of others."""
    form = run.export.form  # None of a ViT
    if target.kind != "tensorrt" or form in (None, target.form(run.batch.static)):
        return None
    return (
        "this run's graph is in the form for CPUs, which NVIDIA's compiler fuses less: "
        f"swin-deploy export --target {target.name} makes the other"
    )


def never_run_note(run: Run, target: Target) -> str | None:
    """What to know where the bundle is made of a run that has run no engine of the target."""
    own = [engine for engine in run.engines.values() if engine.target.name == target.name]
    if any(f"engine {engine.name}" not in run.header.never_run for engine in own):
        return None
    return (
        f"NEVER RUN: no engine of target {target.name} has been run where this bundle was made; "
        "build on the device is the first time, and what it says counts"
    )


def choose_graphs(
    run: Run, target: Target, precisions: tuple[Precision, ...] | None
) -> dict[Precision, str]:
    """The graphs of a run that a target is built from: precision -> name of the file.

    Args:
        run: The run.
        target: What engines will be built for.
        precisions: None for all that it has and the target gains from.

    Raises:
        ConfigError: There are none, or one that was asked for is not there.
        EnvironmentMissingError: They are of a newer opset than the parser of the target takes.
    """
    opset = run.export.opset
    if opset > target.opset:
        raise EnvironmentMissingError(
            f"the graphs of {run.path} are of opset {opset}, "
            f"target {target.name} takes up to {target.opset}",
            f"swin-deploy export with --target {target.name}",
        )
    present = run.files
    have = {p: graph_of(target, p) for p in target.precisions if graph_of(target, p) in present}
    missing = [p for p in precisions or () if p not in have]
    if missing or not have:
        wanted = ",".join(missing or target.precisions)
        raise ConfigError(
            f"{run.path} has no graph in {wanted} for target {target.name}",
            f"swin-deploy export with --precision {wanted} --target {target.name}"
            if not have or set(missing) <= set(target.precisions)
            else f"--precision {','.join(have)}",
        )
    return {p: name for p, name in have.items() if precisions is None or p in precisions}
