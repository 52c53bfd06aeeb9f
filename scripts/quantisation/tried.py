"""The table of placements that were tried, on four graphs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from fusion.rows import Row
from quantisation.engines import (
    Figures,
    figures_of,
    list_kernels,
    made_up_ranges,
    megabytes,
    write_full,
)
from quantisation.forms import (
    ATTENTION,
    BLOCKS,
    EVERY,
    Tried,
    chosen,
    cut_before_gelu,
    cut_with_one_scale,
    is_result,
    is_softmax,
    one_scale_for_fc1,
    own_scales,
    placed,
    slab_scales,
    without,
)
from swin_deploy.export_form.choice import FormName
from swin_deploy.graph.export import check_graph
from swin_deploy.graph.half import convert_graph
from swin_deploy.graph.int8.insert import InsertQdq
from swin_deploy.graph.int8.places import GEMM_KINDS, find_places
from swin_deploy.graph.int8.quantize import SMALLEST_SCALE

TRIED = (
    Tried("nothing: FP16", placed((), attention=False)),
    Tried("attention, qkv, proj", placed(ATTENTION)),
    Tried("attention and qkv, not proj", placed({"qkv"})),
    Tried("attention, qkv, proj; not the softmax", placed(ATTENTION), without(is_softmax)),
    Tried("attention and qkv, not the result", placed({"qkv"}), without(is_result)),
    Tried("attention, qkv, proj, merges", placed(ATTENTION | {"merge"})),
    Tried("qkv alone", placed({"qkv"}, attention=False)),
    Tried("proj alone", placed({"proj"}, attention=False)),
    Tried("merges alone", placed({"merge"}, attention=False)),
    Tried("fc1 alone", placed({"fc1"}, attention=False)),
    Tried("fc2 alone", placed({"fc2"}, attention=False)),
    Tried("fc1 and fc2 alone", placed({"fc1", "fc2"}, attention=False)),
    Tried("all products with weights, no attention", placed(EVERY, attention=False)),
    Tried("all: products with weights, attention", placed(EVERY)),
    Tried("all, slab weights with a scale a channel", placed(EVERY), slab_scales(2), slabs=True),
    Tried("all, slab weights with a scale a slab", placed(EVERY), slab_scales(0), slabs=True),
    Tried("all, slabs with scales of their own", own_scales, slabs=True),
    Tried("all, fc1 cut before bias and GELU", placed(EVERY), cut_before_gelu),
    Tried("all, fc1's weight with one scale", placed(EVERY), one_scale_for_fc1),
    Tried("the same, cut before bias and GELU", placed(EVERY), cut_with_one_scale),
    Tried("all, embedding and head as well", placed(GEMM_KINDS)),
    Tried("all, FP32 around", placed(EVERY), surrounding="fp32"),
    Tried("all but merges", placed(BLOCKS)),
    Tried("all, MLPs where smaller: chosen", chosen),
)


@dataclass(frozen=True, slots=True)
class Graph:
    """A network at a batch, in a form."""

    row: Row
    form: FormName

    @property
    def label(self) -> str:
        """For the head of a column."""
        version = self.row.config.version
        return f"{self.row}, {self.form}" if version == 1 else str(self.row)


GRAPHS = (
    Graph(Row("swin_t", "1", ()), "slabs"),
    Graph(Row("swin_t", "16", ()), "slabs"),
    Graph(Row("swin_t", "1", ()), "packed"),
    Graph(Row("swinv2_t_w8", "1", ()), "packed"),
)


def tried_table(placements: Sequence[Tried], graphs: Sequence[Graph]) -> Iterator[str]:
    """Markdown, line by line as it is measured; MB are of activations + weights."""
    columns = [c for graph in graphs for c in (f"{graph.label}: kernels", "MB", "to FP16")]
    yield f"| quantised | {' | '.join(columns)} | fused attentions |"
    yield f"|---|{'---:|' * len(columns)}---|"
    with tempfile.TemporaryDirectory() as folder:
        fulls = [Path(folder) / f"{index}.onnx" for index in range(len(graphs))]
        for graph, full in zip(graphs, fulls, strict=True):
            write_full(graph.row, full, graph.form)
        plain = [
            compile_tried(TRIED[0], graph, full) for graph, full in zip(graphs, fulls, strict=True)
        ]
        for tried in placements:
            cells, fused = [tried.name], []
            for graph, full, half in zip(graphs, fulls, plain, strict=True):
                found = compile_tried(tried, graph, full)
                cells += _cells(found, half)
                if found is not None:
                    fused.append(f"{found.fused} of {sum(graph.row.config.depths)}")
            yield f"| {' | '.join([*cells, ' / '.join(dict.fromkeys(fused))])} |"


def compile_tried(tried: Tried, graph: Graph, full: Path) -> Figures | None:
    """What the compiler makes of a placement; None where it means nothing for the graph.

    Raises:
        InputError: The compiler refuses the graph, or its listing cannot be read.
        ResourceError: It gave up.
    """
    batch = graph.row.batches
    slabs = graph.form == "slabs" and graph.row.config.version == 1
    if tried.slabs and not slabs:
        return None
    return figures_of(list_kernels(lambda path: write_tried(tried, full, path, batch.high), batch))


def write_tried(tried: Tried, full: Path, final: Path, batch: int) -> None:
    """``full`` with a placement's Q/DQ pairs."""
    model = ir.load(full)
    placement, ranges = tried.place(find_places(model.graph), batch), made_up_ranges(model.graph)
    if placement.names:
        InsertQdq(placement, ranges, SMALLEST_SCALE[tried.surrounding], integer_bias=False)(model)
    if tried.edit is not None:
        tried.edit(model)
    if tried.surrounding == "fp16":
        convert_graph(model.graph, "fp16")
    ir.save(model, final)
    check_graph(final)


def _cells(found: Figures | None, half: Figures | None) -> list[str]:
    if found is None or half is None:
        return ["", "", ""]
    sizes = f"{megabytes(found.activation_bytes)} + {megabytes(found.weight_bytes)}"
    return [str(found.kernels), sizes, f"{found.moved_bytes / half.moved_bytes:.2f}"]
