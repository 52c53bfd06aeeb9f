"""Time our FP32 graph beside timm's own export on ONNX Runtime and OpenVINO, on this CPU.

    scripts/measure_cpu.py [NETWORK] [--batch N] [--turns N] [--form FORM]

Both hold the same weights, and have to compute what eager PyTorch does before they are timed. All
runtimes take turns in one process. Needs timm, as ``scripts/test`` installs it, and the extra
``openvino``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main() -> None:
    from fusion.cpu import cpu_table
    from fusion.rows import Row
    from swin_deploy.network.export_form.freeze import FORMS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("network", nargs="?", default="swin_t", help="a variant or a TOML file")
    parser.add_argument("--batch", default="1")
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--form", choices=FORMS, help="of our attentions; else as exported")
    arguments = parser.parse_args()
    row = Row(arguments.network, arguments.batch, ("timm",))
    with tempfile.TemporaryDirectory() as folder:
        for line in cpu_table(row, arguments.turns, Path(folder), arguments.form):
            print(line, flush=True)


if __name__ == "__main__":
    main()
