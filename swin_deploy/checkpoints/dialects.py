"""All dialects, in the order in which they are tried, and those that are refused by name.

A dialect is told by its keys alone, never by the name of the file.
"""

from __future__ import annotations

from collections.abc import Iterable

from swin_deploy.checkpoints.authors import MICROSOFT, MICROSOFT_BACKBONE, TIMM, WZMIAOMIAO
from swin_deploy.checkpoints.dialect import Dialect
from swin_deploy.checkpoints.hugging_face import HUGGING_FACE, HUGGING_FACE_BACKBONE
from swin_deploy.checkpoints.openmmlab import OPENMMLAB, OPENMMLAB_BACKBONE
from swin_deploy.checkpoints.torchvision import TORCHVISION
from swin_deploy.checkpoints.vit_dialects import VIT_DIALECTS

_REFUSED = (
    Dialect(
        name="Swin V2-CR (timm's swinv2_cr)",
        mark=r".*\.meta_mlp\..*",
        refusal="it is another network than Swin V2: its positions go through a different MLP",
    ),
    Dialect(
        name="OpenMMLab Swin V2",
        mark=r"stages\.\d+\.blocks\.\d+\.attn\.w_msa\.logit_scale",
        refusal="Swin V2 is supported from Microsoft, timm, torchvision and Hugging Face",
    ),
    Dialect(
        name="csm-kr",
        mark=r"features\.\d+\.\d+\.(w_msa|sw_msa)\..*",
        refusal="its merging mixes rows with channels, so no standard Swin computes what it does",
    ),
    Dialect(
        name="berniwal",
        mark=r"stage\d\.patch_partition\..*",
        refusal="its heads share one position table, and its last stage shifts",
    ),
    Dialect(
        name="Swin with absolute positions",
        mark=r"(.*\.)?(absolute_pos_embed|embeddings\.position_embeddings)",
        refusal="the releases that are supported add no position to the patches (ape=False)",
    ),
    Dialect(
        name="quantised",
        mark=r".*\.(zero_point|_packed_params\.dtype)",
        refusal="its weights are integers; INT8 is made here, of the network before that",
    ),
    Dialect(
        name="masked image model",
        mark=r"(.*\.)?mask_token",
        refusal="it reconstructs images; fine-tune it to a classifier first",
    ),
)

DIALECTS: tuple[Dialect, ...] = (
    *_REFUSED,
    OPENMMLAB_BACKBONE,
    OPENMMLAB,
    TORCHVISION,
    HUGGING_FACE,
    HUGGING_FACE_BACKBONE,
    MICROSOFT_BACKBONE,
    WZMIAOMIAO,
    MICROSOFT,
    TIMM,
)


def detect_dialect(names: Iterable[str]) -> Dialect | None:
    """The first dialect that the keys fit."""
    names = list(names)
    return next((dialect for dialect in (*DIALECTS, *VIT_DIALECTS) if dialect.fits(names)), None)
