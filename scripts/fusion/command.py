"""The command line of ``scripts/measure_fusion.py``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusion.block import block_table
from fusion.exactness import default_photos, exactness_table
from fusion.forms import TRIED
from fusion.networks import network_table
from fusion.rows import EXACTNESS_ROWS, ROWS, Row
from fusion.tried import BATCHES, tried_table

ABOUT = {
    "naive": "what the libraries' own exports become",
    "networks": "the same beside ours, with ratios",
    "block": "the kernels of one block of ours",
    "exactness": "FP32 against eager, and FP16 beside that of timm's export, on photos",
    "tried": "the forms of attention that were tried, at every batch",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kernels and bytes of Swin graphs, by NVIDIA's compiler.",
        epilog="; ".join(f"{name}: {about}" for name, about in ABOUT.items()),
    )
    parser.add_argument("table", choices=ABOUT)
    parser.add_argument("--only", default="", help="rows whose name matches this expression")
    parser.add_argument(
        "--batch", action="append", default=[], help="of block and tried; repeatable"
    )
    parser.add_argument("--network", help="of block and tried: a variant or TOML file")
    parser.add_argument("--images", type=Path, help="of exactness: a folder of photos")
    parser.add_argument("--seeds", type=int, default=1, help="of exactness")
    arguments = parser.parse_args()
    for line in lines_of(arguments, parser):
        print(line, flush=True)


def lines_of(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The table that was asked for."""
    if arguments.table == "block":
        batch = arguments.batch[-1] if arguments.batch else "16"
        return block_table(Row(arguments.network or "swin_t", batch, ()))
    named = {"exactness": EXACTNESS_ROWS, "tried": TRIED}.get(arguments.table, ROWS)
    rows: list[Any] = [row for row in named if re.search(arguments.only, str(row))]
    if not rows:
        parser.error(f"no row matches {arguments.only!r}; there are: {'; '.join(map(str, named))}")
    if arguments.table == "tried":
        return tried_table(rows, arguments.batch or BATCHES, arguments.network)
    if arguments.table == "exactness":
        return exactness_table(rows, arguments.images or default_photos(), arguments.seeds)
    return network_table(rows, with_ours=arguments.table == "networks")
