"""The table of what was tried: name -> how to make a network of that form from a trained one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from fusion import cosine_forms as v2
from fusion import packed_forms as packed
from fusion import separate_forms as separate
from fusion import slab_forms as slabs
from fusion import stream_forms as streams
from fusion.images_first import ImagesFirst
from swin_deploy.export_form.attention import FrozenAttention
from swin_deploy.export_form.forms import FORMS, Form
from swin_deploy.export_form.freeze import FrozenSwin, freeze_swin
from swin_deploy.model.blocks import SwinBlock
from swin_deploy.model.swin import SwinTransformer

Make = Callable[[SwinTransformer], nn.Module]


@dataclass(frozen=True, slots=True)
class TriedForm:
    """A row of the table.

    Attributes:
        name: What ``--only`` is matched with.
        version: Of the Swin that it is for.
        make: Trained network -> network of this form.
        opset: That its graph needs; None for the one of every export.
        ours: Whether ``convert_to_half`` knows its operators; others become FP16 by ``.half()``.
    """

    name: str
    version: Literal[1, 2]
    make: Make
    opset: int | None = None
    ours: bool = False

    def __str__(self) -> str:
        return self.name


def attention(kind: Callable[[SwinBlock], FrozenAttention]) -> Make:
    """Networks in export form whose attentions are of this kind."""
    return lambda model: freeze_swin(model, Form(v1=kind, v2=kind))


def changed(form: Form, change: Callable[[FrozenSwin], None]) -> Make:
    """Networks in one of our forms that ``change`` changes."""

    def make(model: SwinTransformer) -> nn.Module:
        network = freeze_swin(model, form)
        change(network)
        return network

    return make


PACKED, SLABS = FORMS["packed"], FORMS["slabs"]
TRIED = (
    TriedForm("images first, q k v in rows (3, head, d)", 1, ImagesFirst),
    TriedForm("images first, rows (head, 3, d)", 1, lambda m: ImagesFirst(m, heads_first=True)),
    TriedForm("packed, rows (3, head, d): chosen, dynamic", 1, attention(PACKED.v1), ours=True),
    TriedForm("packed, rows (head, 3, d)", 1, attention(packed.HeadsFirst)),
    TriedForm("packed, subtracted, three axes", 1, attention(packed.PackedSubtracted)),
    TriedForm("packed, n filled up to a multiple of 8", 1, attention(packed.Padded)),
    TriedForm("packed, n filled up to a multiple of 64", 1, attention(packed.PaddedMore)),
    TriedForm("packed, position bias in the product", 1, attention(packed.PositionInProduct)),
    TriedForm("packed, Attention operator, (k b, a, n, d)", 1, attention(packed.Operator), 23),
    TriedForm("packed, Attention operator, (k b, n, c)", 1, attention(packed.OperatorFlat), 23),
    TriedForm("packed, projected head by head", 1, attention(packed.PerHeadProjection)),
    TriedForm("packed, its bias added in FP32", 1, attention(packed.BiasInFloat)),
    TriedForm("packed, MLP at four axes", 1, changed(PACKED, streams.mlp_at_four_axes)),
    TriedForm("packed, LayerNorm decomposed", 1, changed(PACKED, streams.decomposed_norms)),
    TriedForm("three products", 1, attention(separate.Separate)),
    TriedForm("three products, not merged", 1, attention(separate.Unmerged)),
    TriedForm("not merged, three axes", 1, attention(separate.UnmergedThree)),
    TriedForm("not merged, subtracted", 1, attention(separate.UnmergedSubtracted)),
    TriedForm("not merged, subtracted, three axes", 1, attention(separate.UnmergedSubtractedThree)),
    TriedForm("slabs, biases added after the product", 1, attention(slabs.SlabsWithBiases)),
    TriedForm("slabs, the query's bias added", 1, attention(slabs.SlabsWithQueryBias)),
    TriedForm("slabs, a channel of ones appended", 1, attention(slabs.SlabsWithOnes)),
    TriedForm("slabs, the query's bias as a column", 1, attention(slabs.SlabsWithColumn)),
    TriedForm("slabs, added instead of subtracted", 1, attention(slabs.SlabsAdded)),
    TriedForm("slabs, five axes", 1, attention(slabs.SlabsFive)),
    TriedForm("slabs, projected at other axes than the stream", 1, attention(slabs.OtherAxes)),
    TriedForm("slabs: chosen, static", 1, attention(SLABS.v1), ours=True),
    TriedForm("unit vectors, one after the other", 2, attention(v2.Cosine)),
    TriedForm("unit vectors, stacked", 2, attention(v2.CosineStacked)),
    TriedForm("unit vectors in token order", 2, attention(v2.CosineInTokenOrder)),
    TriedForm("factor of the query, unit key", 2, attention(v2.CosineOneFactor)),
    TriedForm("slabs and both factors", 2, attention(v2.CosineSlabs)),
    TriedForm(
        "both factors, norm before gather",
        2,
        changed(PACKED, streams.norm_before_gather),
        ours=True,
    ),
    TriedForm(
        "stacked, norm before gather",
        2,
        changed(Form(v2.CosineStacked, v2.CosineStacked), streams.norm_before_gather),
    ),
    TriedForm("both factors: chosen", 2, attention(PACKED.v2), ours=True),
)
