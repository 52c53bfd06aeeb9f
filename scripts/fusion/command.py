"""The command line of ``scripts/measure_fusion.py``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from fusion.block import block_table
from fusion.exactness import default_photos, exactness_table
from fusion.networks import network_table
from fusion.rows import EXACTNESS_ROWS, ROWS, Row

ABOUT = {
    "naive": "what the libraries' own exports become",
    "networks": "the same beside ours, with ratios",
    "block": "the kernels of one block of ours",
    "exactness": "FP32 against eager, and FP16 beside that of timm's export, on photos",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Kernels and bytes of Swin graphs, by NVIDIA's compiler.",
        epilog="; ".join(f"{name}: {about}" for name, about in ABOUT.items()),
    )
    parser.add_argument("table", choices=ABOUT)
    parser.add_argument("--only", default="", help="rows whose name matches this expression")
    parser.add_argument("--batch", default="16", help="of block (default 16)")
    parser.add_argument("--network", default="swin_t", help="of block: a variant or TOML file")
    parser.add_argument("--images", type=Path, help="of exactness: a folder of photos")
    parser.add_argument("--seeds", type=int, default=1, help="of exactness")
    arguments = parser.parse_args()
    for line in lines_of(arguments, parser):
        print(line, flush=True)


def lines_of(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The table that was asked for."""
    if arguments.table == "block":
        return block_table(Row(arguments.network, arguments.batch, ()))
    named = EXACTNESS_ROWS if arguments.table == "exactness" else ROWS
    rows = [row for row in named if re.search(arguments.only, str(row))]
    if not rows:
        parser.error(f"no row matches {arguments.only!r}; there are: {'; '.join(map(str, named))}")
    if arguments.table == "exactness":
        return exactness_table(rows, arguments.images or default_photos(), arguments.seeds)
    return network_table(rows, with_ours=arguments.table == "networks")
