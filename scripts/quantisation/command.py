"""The command line of ``scripts/measure_int8.py``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

from fusion.rows import Row
from quantisation.digits import digits_table
from quantisation.photos import photos_table
from quantisation.placements import NETWORKS, placement_table
from quantisation.speed import speed_table
from swin_deploy.network.export_form.freeze import FORMS

ABOUT = {
    "placements": "kernels and bytes of INT8 beside FP16, by network",
    "digits": "accuracy of swin_pocket on held-out digits, by precision and method",
    "photos": "distance of Swin-T from FP32 on photos, with random weights",
    "accuracy": "both of these",
    "speed": "times of FP32 and INT8 on this CPU",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="What INT8 gives and what it costs.",
        epilog="; ".join(f"{name}: {about}" for name, about in ABOUT.items()),
    )
    parser.add_argument("table", choices=ABOUT)
    parser.add_argument("--network", help="a variant or TOML file: of placements, photos and speed")
    parser.add_argument("--batch", help="of placements")
    parser.add_argument("--images", type=int, help="of digits: at most so many; all 1000")
    parser.add_argument("--turns", type=int, default=100, help="of speed")
    parser.add_argument("--form", choices=FORMS, default="packed", help="of speed")
    arguments = parser.parse_args()
    for line in lines_of(arguments):
        print(line, flush=True)


def lines_of(arguments: argparse.Namespace) -> Iterator[str]:
    """The table that was asked for."""
    network, batch = arguments.network, arguments.batch
    one = Row(network or "swin_t", "1", ())
    if arguments.table == "placements":
        rows = [row for row in NETWORKS if network in (None, row.network)]
        rows = rows or [one]
        yield from placement_table([replace(row, batch=batch or row.batch) for row in rows])
    if arguments.table in ("digits", "accuracy"):
        yield from digits_table(arguments.images)
    if arguments.table == "accuracy":
        yield ""
    if arguments.table in ("photos", "accuracy"):
        yield from photos_table(one)
    if arguments.table == "speed":
        yield from speed_table(one, arguments.turns, arguments.form)
