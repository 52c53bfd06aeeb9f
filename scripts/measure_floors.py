"""Measure the SQNR behind the floors in ``network.judge``: the worst over variants and seeds.

    scripts/measure_floors.py --seeds 10 --images PHOTOS --outputs logits [NAME or FILE.toml ...]

Prints a row per network: the lowest SQNR against eager FP32 over all seeds, inputs and outputs,
for the export form and the exported graph (FP32) and for the FP16 and BF16 graphs, computed in FP32
with every result rounded (``swin_deploy.graph.casts``), all on ONNX Runtime.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from swin_deploy.data.images import InputSet, find_photos, load_photos, make_noise
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.engine.runners.torch_eager import TorchRunner
from swin_deploy.graph.casts import round_every_result
from swin_deploy.graph.export import export_graph
from swin_deploy.graph.half import convert_to_half
from swin_deploy.measure.verify import Comparison, compare_runners
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.export_form import FormName
from swin_deploy.network.export_form.freeze import FORMS, freeze
from swin_deploy.network.interface import (
    HALF_PRECISIONS,
    LOGITS,
    OUTPUTS,
    BatchRange,
    Outputs,
    Precision,
)
from swin_deploy.network.model.build import build_model, output_names, with_outputs
from swin_deploy.pipeline.request import read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=[*VARIANTS, "examples/cifar10_swin.toml"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--outputs", choices=OUTPUTS, default=LOGITS)
    parser.add_argument("--form", choices=FORMS, default="slabs", help="of Swin's attentions")
    arguments = parser.parse_args()
    print(f"{'network':14} {'fp32 dB':>8} {'fp16 dB':>8} top-1  {'bf16 dB':>8} top-1   inputs")
    for name in arguments.networks:
        variant = read_config(Path(name)) if name.endswith(".toml") else VARIANTS[name]
        rows = [
            row
            for seed in range(arguments.seeds)
            for row in measure(variant, seed, arguments.images, arguments.outputs, arguments.form)
        ]
        cells = []
        for precision in HALF_PRECISIONS:
            half = [row for row in rows if row.candidate == f"onnx {precision}"]
            agreements = [row.top1_agreement for row in half if row.top1_agreement is not None]
            agreement = f"{sum(agreements) / len(agreements):.1%}" if agreements else "-"
            cells.append(f"{min(r.sqnr_db for r in half):8.1f} {agreement:>6}")
        full = [row.sqnr_db for row in rows if row.precision == "fp32"]
        print(
            f"{variant.name:14} {min(full):8.1f} {' '.join(cells)}   "
            f"{', '.join(dict.fromkeys(r.inputs for r in rows))}, {arguments.seeds} seeds",
            flush=True,
        )


def measure(
    variant: Variant, seed: int, photos: Path | None, outputs: Outputs, form: FormName
) -> Iterator[Comparison]:
    """Every hop of one network with one seed."""
    network = build_model(variant.config, seed)
    eager, frozen = (
        with_outputs(module, outputs, variant.name) for module in (network, freeze(network, form))
    )
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "fp32.onnx"
        batch = BatchRange(low=1, high=4)
        export_graph(frozen, variant.config, batch, full, output_names(frozen))
        halves: list[tuple[OnnxRuntimeRunner, Precision]] = []
        for precision in HALF_PRECISIONS:
            half = Path(folder) / f"{precision}.onnx"
            convert_to_half(full, half, precision)
            round_every_result(half, half)
            halves.append((OnnxRuntimeRunner(half, name=f"onnx {precision}"), precision))
        yield from compare_runners(
            TorchRunner(eager),
            [
                (TorchRunner(frozen, "export form"), "fp32"),
                (OnnxRuntimeRunner(full, name="onnx fp32"), "fp32"),
                *halves,
            ],
            inputs_for(variant, photos),
        )


def inputs_for(variant: Variant, photos: Path | None) -> list[InputSet]:
    """Noise of one and three images, and photos if there are any."""
    config = variant.config
    inputs = [make_noise(count, config.in_channels, config.image_size) for count in (1, 3)]
    if photos is not None:
        chosen, _ = load_photos(find_photos(photos), config.image_size, variant.preprocessing)
        inputs.append(chosen)
    return inputs


if __name__ == "__main__":
    main()
