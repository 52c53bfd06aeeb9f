"""Rows of the table: what each library writes of its own networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import rebuilt
import rebuilt_sources
from layouts import Layout, Written, of, saved
from libraries import build, outputs_of, randomise, transformers
from reimplementations import make_berniwal, make_csm_kr
from small_timm import small_timm
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.swin import SwinConfig
from timm_models import import_timm

AT_64 = LoadOptions(image_size=(64, 64))
FOUR: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
TOLD: dict[str, Any] = FOUR | {"num_classes": 3, "window_size": 4, "img_size": 128}
V1, V2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"


def _timm(
    name: str,
    size: tuple[int, int] = (128, 128),
    set_to: tuple[int, int] | None = None,
    **told: Any,
) -> Callable[[Path], Written]:
    """The folder that timm writes of a network that its factory makes."""

    def make(folder: Path) -> Written:
        timm = import_timm()
        arguments = TOLD | told
        network = randomise(timm.create_model(name, **arguments))
        if set_to is not None:
            network.set_input_size(set_to)  # type: ignore[operator]
            arguments = {
                key: value
                for key, value in arguments.items()
                if key not in ("img_size", "window_size")
            }
        timm.models.save_for_hf(network.eval(), str(folder / "folder"), model_args=arguments)
        return of(network, folder / "folder", size=size, double=name == V2)

    return make


def _timm_row(what: str, make: Callable[[Path], Written], refusal: str = "") -> Layout:
    return Layout(writer="timm 1.0.31", what=f"folder, {what}", make=make, refusal=refusal)


def _foreign(name: str, **told: Any) -> Callable[[Path], Written]:
    def make(folder: Path) -> Written:
        timm = import_timm()
        network = timm.create_model(name, num_classes=2, **told)
        timm.models.save_for_hf(network, str(folder / "folder"))
        return Written(path=folder / "folder")

    return make


def _features(folder: Path) -> Written:
    told = {key: value for key, value in TOLD.items() if key != "num_classes"}
    network = import_timm().create_model(V1, features_only=True, **told)
    return saved(randomise(network), folder, size=(128, 128))


def _headless(folder: Path) -> Written:
    network = small_timm(num_classes=0)

    def maps(image: Tensor) -> list[Tensor]:
        stages = list(network.layers)  # type: ignore[arg-type]
        return outputs_of(network, stages, image)[0]

    return Written(path=saved(network, folder).path, reference=maps)


def _torchvision(version: int) -> Callable[[Path], Written]:
    def make(folder: Path) -> Written:
        import_timm()
        from torchvision.models import swin_transformer as library

        block, merge = (
            (library.SwinTransformerBlock, library.PatchMerging)
            if version == 1
            else (library.SwinTransformerBlockV2, library.PatchMergingV2)
        )
        network = library.SwinTransformer(
            patch_size=[4, 4],
            embed_dim=16,
            depths=[2, 2, 2],
            num_heads=[1, 2, 4],
            window_size=[4, 4],
            num_classes=3,
            block=block,
            downsample_layer=merge,
        )
        return saved(randomise(network), folder, double=version == 2)

    return make


def _transformers(
    kind: str, *, config: str = "SwinConfig", **told: Any
) -> Callable[[Path], Written]:
    """The folder that transformers writes."""

    def make(folder: Path) -> Written:
        with transformers() as library:
            fields: dict[str, Any] = {
                "image_size": 128,
                "embed_dim": 16,
                "depths": [2, 2, 2, 2],
                "num_heads": [1, 2, 4, 8],
                "window_size": 4,
                "num_labels": 3,
            }
            shard = told.pop("max_shard_size", None)
            network = randomise(getattr(library, kind)(getattr(library, config)(**fields | told)))
            network.save_pretrained(  # type: ignore[operator]
                folder / "folder", **({} if shard is None else {"max_shard_size": shard})
            )

        def forward(image: Tensor) -> Any:
            found = network(image)
            if hasattr(found, "logits"):
                return found.logits
            if hasattr(found, "feature_maps"):
                return [maps.permute(0, 2, 3, 1) for maps in found.feature_maps]
            return _maps(network, image)

        if config == "Swinv2Config":
            network.double()
        return Written(
            path=folder / "folder",
            reference=forward,
            size=(128, 128),
            double=config == "Swinv2Config",
        )

    return make


def _maps(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Of a network without a head: what comes out of the blocks of each stage."""
    blocks = [layer.blocks[-1] for layer in network.encoder.layers]  # type: ignore[union-attr]
    seen, _ = outputs_of(network, blocks, image)
    return [x.reshape(len(x), round(x.shape[1] ** 0.5), -1, x.shape[-1]) for x in seen]


def _hugging_face(what: str, kind: str, refusal: str = "", **told: Any) -> Layout:
    return Layout(
        writer="transformers 5.24.0", what=what, make=_transformers(kind, **told), refusal=refusal
    )


def _rebuilt(
    library: str, content: Callable[[nn.Module], Any], version: int = 1
) -> Callable[[Path], Written]:
    def make(folder: Path) -> Written:
        classes = 0 if library in rebuilt.BACKBONES else 3
        network = build(
            rebuilt.Swin,
            library,
            (128, 128),
            16,
            (2, 2, 2, 2),
            (1, 2, 4, 8),
            4,
            classes,
            version=version,
            trained=(),
            table=True,
        )
        path = saved(network, folder, content(network)).path
        network = network.double() if version == 2 else network

        def forward(image: Tensor) -> Any:
            stages, logits = network(image)
            return stages if logits is None else logits

        return Written(path=path, reference=forward, size=(128, 128), double=version == 2)

    return make


def _described(name: str, make: Callable[[Path], Written]) -> Layout:
    asked = LoadOptions(image_size=(128, 128))
    return Layout(writer=f"as {name}", what="state_dict", make=make, options=asked)


def _own(make_network: Callable[[SwinConfig], nn.Module], config: SwinConfig) -> Any:
    def make(folder: Path) -> Written:
        network = make_network(config)

        def forward(image: Tensor) -> Any:
            found = network(image)
            return found[-1] if isinstance(found, tuple) else found

        path = saved(network, folder).path
        return Written(path=path, reference=forward, size=config.image_size)

    return make


# Of 32 channels a head, which no tensor tells; csm-kr's code is for 224 pixels and windows of 7.
HEADS_OF_32: dict[str, Any] = {
    "name": "custom",
    "embed_dim": 32,
    "depths": (2, 2),
    "num_heads": (1, 2),
    "num_classes": 3,
}
SMALL_BERNIWAL = SwinConfig(**HEADS_OF_32, image_size=(64, 64), window_size=4)
SMALL_CSM_KR = SwinConfig(
    **HEADS_OF_32 | {"depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}, window_size=7
)
LAYOUTS = (
    _timm_row("V1", _timm(V1)),
    _timm_row("V2", _timm(V2)),
    _timm_row("V1 made for 96x160", _timm(V1, (96, 160), img_size=(96, 160))),
    _timm_row("V2 made for 96x160", _timm(V2, (96, 160), img_size=(96, 160))),
    _timm_row("V1 set to 128x160", _timm(V1, (128, 160), set_to=(128, 160))),
    _timm_row("V2 set to 128x160", _timm(V2, (128, 160), set_to=(128, 160))),
    _timm_row("windows by stage, as `swin_s3`", _timm(V1, window_size=(4, 4, 8, 4))),
    _timm_row("`always_partition`", _timm(V1, (64, 96), img_size=(64, 96), always_partition=True)),
    _timm_row("`strict_img_size=False`", _timm(V1, strict_img_size=False)),
    _timm_row("`global_pool='max'`", _timm(V1, global_pool="max"), "global_pool"),
    _timm_row("`global_pool=''`", _timm(V1, global_pool=""), "global_pool"),
    _timm_row("`swinv2_cr`", _foreign("swinv2_cr_tiny_224"), "V2-CR"),
    _timm_row("a ResNet", _foreign("resnet18"), "no Swin"),
    Layout(
        writer="timm 1.0.31",
        what="V1, state_dict",
        options=AT_64,
        make=lambda folder: saved(small_timm(), folder),
    ),
    Layout(
        writer="timm 1.0.31",
        what="`features_only`",
        make=_features,
        options=LoadOptions(image_size=(128, 128)),
    ),
    Layout(writer="timm 1.0.31", what="without a head", make=_headless, options=AT_64),
    Layout(writer="torchvision 0.28.0", what="V1", make=_torchvision(1), options=AT_64),
    Layout(
        writer="torchvision 0.28.0",
        what="V2",
        make=_torchvision(2),
        options=LoadOptions(image_size=(64, 64)),
    ),
    _hugging_face("folder, V1", "SwinForImageClassification"),
    _hugging_face("folder, V2", "Swinv2ForImageClassification", config="Swinv2Config"),
    _hugging_face("folder in shards", "SwinForImageClassification", max_shard_size="100KB"),
    _hugging_face(
        "folder, independent labels",
        "SwinForImageClassification",
        problem_type="multi_label_classification",
    ),
    _hugging_face(
        "folder, a value", "SwinForImageClassification", num_labels=1, problem_type="regression"
    ),
    _hugging_face("`SwinModel`", "SwinModel"),
    _hugging_face(
        "`SwinBackbone`", "SwinBackbone", out_features=["stage1", "stage2", "stage3", "stage4"]
    ),
    _hugging_face("masked images", "SwinForMaskedImageModeling", refusal="masked image model"),
    _described("Microsoft, V1", _rebuilt("microsoft", rebuilt_sources.training_checkpoint)),
    _described(
        "Microsoft, backbone of a detector",
        _rebuilt("microsoft detection", rebuilt_sources.detector),
    ),
    _described("mmpretrain", _rebuilt("mmpretrain", rebuilt_sources.classifier)),
    _described("mmdet and mmseg", _rebuilt("mmdet", rebuilt_sources.detector)),
    _described("WZMIAOMIAO", _rebuilt("wzmiaomiao", nn.Module.state_dict)),
    Layout(
        writer="as berniwal",
        what="state_dict",
        make=_own(make_berniwal, SMALL_BERNIWAL),
        options=AT_64,
    ),
    Layout(writer="as csm-kr", what="state_dict", make=_own(make_csm_kr, SMALL_CSM_KR)),
)
