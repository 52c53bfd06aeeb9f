"""Outputs of this machine for another one, and those of another one compared here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from swin_deploy.data.inputs import InputSet
from swin_deploy.errors import InputError
from swin_deploy.files import digest
from swin_deploy.judge import powers_of
from swin_deploy.machine import describe_machine
from swin_deploy.precisions import PRECISIONS
from swin_deploy.run.finished import Run
from swin_deploy.verify.checks import check_pair
from swin_deploy.verify.names import EAGER
from swin_deploy.verify.saved import SavedOutputs, save_outputs
from swin_deploy.verify.session import Session
from swin_deploy.verify.sides import Side


def network_digest(opened: Run) -> str:
    """Hex digest of the network and its weights: the same wherever it was exported."""
    weights = opened.seed if opened.weights is None else opened.weights.sha256
    return digest({"network": asdict(opened.config), "weights": weights})


def save_session(session: Session, path: Path, inputs: list[InputSet]) -> None:
    """Write what the sides of a run gave; ONNX files from elsewhere are not kept."""
    kept = {name: session.sides[name] for name in session.results if name in session.sides}
    header = {
        "network": session.opened.config.name,
        "run": network_digest(session.opened),
        "machine": asdict(describe_machine()),
        "sides": {
            name: {"precision": side.precision, "sha256": side.sha256}
            for name, side in kept.items()
        },
    }
    save_outputs(path, header, inputs, {name: session.results[name] for name in kept})


def compare_saved(session: Session, saved: SavedOutputs, path: Path) -> list[str]:
    """Compare outputs from elsewhere with eager here, and with the same side here if it runs.

    Args:
        session: Gets the checks, and why a side does not run here.
        saved: From elsewhere.
        path: Its file, for errors.

    Returns:
        What is to be said of it.

    Raises:
        InputError: It is of another network or other weights, or of images of another size.
    """
    opened, header = session.opened, saved.header
    if header.get("run") != network_digest(opened):
        raise InputError(
            f"{path} was saved from {header.get('network')} with other weights or settings than "
            f"{opened.path} has",
            "the run that it was saved from, or the same weights exported again",
        )
    shape = (opened.config.in_channels, *opened.config.image_size)
    if wrong := next((i for i in saved.inputs if i.images.shape[1:] != shape), None):
        raise InputError(f"{path} has images of {wrong.images.shape[1:]}, expected {shape}")
    elsewhere = {
        name: _side(name, info, path, session.sides.get(name))
        for name, info in header["sides"].items()
    }
    notes = [_where(header)]
    here = {EAGER: session.sides[EAGER]}
    for name in elsewhere:
        if name not in session.sides:
            session.not_run[name] = "this run has none of that name; it was compared with eager"
        elif (why := session.why_not(session.sides[name])) is not None:
            session.not_run[name] = f"{why}; what was saved was compared with eager"
        else:
            here[name] = session.sides[name]
            if header["sides"][name].get("sha256") != here[name].sha256:
                notes.append(f"{name} was another file there: exported again, or by other versions")
    for side in here.values():
        session.run(side, saved.inputs, None)
    for name, other in elsewhere.items():
        for own in dict.fromkeys((EAGER, name)):
            if own in here:
                _compare(session, here[own], other, saved.inputs, saved.outputs[name])
    return notes


def _compare(
    session: Session,
    own: Side,
    other: Side,
    inputs: list[InputSet],
    outputs: list[dict[str, Any]],
) -> None:
    results = session.results[own.name]
    powers = powers_of(results, session.opened.interface)
    labelled = replace(own, name=f"{own.name}, here")
    for images, mine, theirs in zip(inputs, results, outputs, strict=True):
        session.checks += check_pair(
            session.opened, labelled, other, images, (mine, theirs), powers, "saved"
        )


def _side(name: str, info: Mapping[str, Any], path: Path, here: Side | None) -> Side:
    precision = info.get("precision")
    if precision not in PRECISIONS:
        raise InputError(f"{path}: {name} has the precision {precision!r}")
    return Side(f"{name}, saved", precision, photos_db=None if here is None else here.photos_db)


def _where(header: Mapping[str, Any]) -> str:
    machine = header.get("machine")
    facts = machine if isinstance(machine, dict) else {}
    return f"saved on {facts.get('processor')}, {facts.get('system')}"
