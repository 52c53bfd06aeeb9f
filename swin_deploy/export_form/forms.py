"""The forms of attention by name. ``choice`` says which one is exported when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from swin_deploy.export_form.attention import (
    FrozenAttention,
    PackedAttention,
    PackedCosineAttention,
)
from swin_deploy.export_form.choice import FormName
from swin_deploy.export_form.slabs import SlabAttention
from swin_deploy.model.blocks import SwinBlock


@dataclass(frozen=True, slots=True)
class Form:
    """A form.

    Attributes:
        v1: Trained block of V1 -> its frozen attention.
        v2: Likewise of V2.
    """

    v1: Callable[[SwinBlock], FrozenAttention]
    v2: Callable[[SwinBlock], FrozenAttention]

    def attention(self, block: SwinBlock) -> FrozenAttention:
        """The attention of a trained block in this form."""
        return (self.v1 if block.version == 1 else self.v2)(block)


# In V2 the lengths of query and key are taken between projection and attention, so that a kernel
# reads and writes them anyway; it may as well copy.
FORMS: dict[FormName, Form] = {
    "packed": Form(PackedAttention, PackedCosineAttention),
    "slabs": Form(SlabAttention, PackedCosineAttention),
}
