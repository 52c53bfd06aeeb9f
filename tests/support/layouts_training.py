"""Rows of the table: what training leaves, wrappers and prefixes, and kin that is refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from layouts import Layout, Written, of, refused, saved
from small_timm import small_timm
from swin_deploy.network.checkpoints.options import LoadOptions
from timm_models import import_timm

AT_64 = LoadOptions(image_size=(64, 64))


def _prefixed(prefix: str) -> Layout:
    def make(folder: Path) -> Written:
        network = small_timm()
        tensors = {prefix + name: value for name, value in network.state_dict().items()}
        return saved(network, folder, tensors)

    return Layout(writer="torch", what=f"names below `{prefix}`", make=make, options=AT_64)


def _optimised(network: nn.Module) -> dict[str, Any]:
    optimiser = torch.optim.AdamW(network.parameters())
    return optimiser.state_dict()


def _mmengine(folder: Path) -> Written:
    from mmengine.config import Config
    from mmengine.logging import MessageHub

    hub = MessageHub.get_instance("layouts")
    hub.update_scalar("train/loss", 0.5)
    network = small_timm()
    names = {f"backbone.{name}": value for name, value in network.state_dict().items()}
    content = {
        "meta": {
            "cfg": Config({"lr": 0.1}).pretty_text,
            "dataset_meta": {"classes": ("a", "b", "c")},
            "epoch": 1,
        },
        "state_dict": names,
        "message_hub": hub.state_dict(),
        "optimizer": _optimised(network),
    }
    return saved(network, folder, content)


def _yacs(folder: Path) -> Written:
    from yacs.config import CfgNode

    network, config = small_timm(), CfgNode()
    config.EPOCHS = 3
    content = {"model": network.state_dict(), "optimizer": _optimised(network), "config": config}
    return saved(network, folder, content | {"max_accuracy": 81.2, "epoch": 3})


def _lightning(folder: Path) -> Written:
    import lightning.pytorch as pl

    class Recipe(pl.LightningModule):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.model = network
            self.loss = nn.CrossEntropyLoss(weight=torch.ones(3))

    module = Recipe(small_timm())
    trainer = pl.Trainer(
        logger=False, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(folder / "x.ckpt")
    return of(module.model, folder / "x.ckpt")


def _timm_saver(average: bool) -> Callable[[Path], Written]:
    def make(folder: Path) -> Written:
        import_timm()
        from timm.utils import CheckpointSaver, ModelEmaV3

        network = small_timm()
        ema = ModelEmaV3(network)
        with torch.no_grad():
            for value in ema.module.parameters():
                value.mul_(0.5)
        saver = CheckpointSaver(
            network,
            torch.optim.AdamW(network.parameters()),
            args=argparse.Namespace(model="swin"),
            model_ema=ema,
            checkpoint_dir=str(folder),
            recovery_dir=str(folder),
        )
        saver.save_checkpoint(1, 0.5)
        return of(ema.module if average else network, folder / "last.pth.tar")

    return make


def _changed(change: Callable[[nn.Module], Any]) -> Callable[[Path], Written]:
    """What ``change`` makes of the network, saved."""

    def make(folder: Path) -> Written:
        network = small_timm()
        return saved(network, folder, change(network))

    return make


def _two(folder: Path) -> Written:
    student, teacher = small_timm(seed=1), small_timm(seed=2)
    both = {f"student.{name}": value for name, value in student.state_dict().items()}
    both |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    return saved(teacher, folder, both)


def _containers(folder: Path) -> Written:
    now, average = small_timm(seed=1), small_timm(seed=2)
    return saved(average, folder, {"params": now.state_dict(), "params_ema": average.state_dict()})


def _container(name: str) -> Layout:
    def make(folder: Path) -> Written:
        network = small_timm()
        return saved(network, folder, {name: network.state_dict(), "epoch": 3})

    return Layout(writer="torch", what=f"in an entry `{name}`", make=make, options=AT_64)


def _network(make_network: Callable[[Any], nn.Module]) -> Callable[[Path], Written]:
    def make(folder: Path) -> Written:
        return refused(folder, make_network(import_timm()).state_dict())

    return make


def _video(folder: Path) -> Written:
    import_timm()
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    network = SwinTransformer3d(
        patch_size=[2, 4, 4],
        embed_dim=12,
        depths=[2, 2],
        num_heads=[1, 2],
        window_size=[2, 4, 4],
        num_classes=3,
    )
    return refused(folder, network.state_dict())


def _adapters(folder: Path) -> Written:
    """As PEFT names them."""
    tensors = {f"base_model.model.{n}": v for n, v in small_timm().state_dict().items()}
    stem = "base_model.model.layers.0.blocks.0.attn.qkv."
    tensors[f"{stem}base_layer.weight"] = tensors.pop(f"{stem}weight")
    tensors[f"{stem}lora_A.default.weight"] = torch.ones(4, 16)
    tensors[f"{stem}lora_B.default.weight"] = torch.ones(48, 4)
    return refused(folder, tensors)


def _program(folder: Path) -> Written:
    torch.jit.trace(small_timm(), torch.zeros(1, 3, 64, 64)).save(str(folder / "x.pt"))
    return Written(path=folder / "x.pt")


def _as(**shapes: tuple[int, ...]) -> Callable[[Path], Written]:
    names = {name.replace("__", "."): torch.ones(shape) for name, shape in shapes.items()}
    return lambda folder: refused(folder, names)


def _loads(writer: str, what: str, make: Callable[[Path], Written], **options: Any) -> Layout:
    asked = LoadOptions(image_size=(64, 64), **options)
    return Layout(writer=writer, what=what, make=make, options=asked)


def _refuses(writer: str, what: str, make: Callable[[Path], Written], refusal: str) -> Layout:
    return Layout(writer=writer, what=what, make=make, options=AT_64, refusal=refusal)


PREFIXES = (
    *("module.", "model.", "net.", "swin.", "timm_model.", "backbone.", "encoder."),
    *("pretrained.model.", "base_model.model.", "backbone.0.", "model.visual_encoder."),
    *("_fsdp_wrapped_module.", "_orig_mod.module."),
)
LAYOUTS = (
    _loads("mmengine 0.10.7", "with its message hub, config and optimizer", _mmengine),
    _loads("yacs 0.1.8", "the authors' `main.py`, with its CfgNode", _yacs),
    _loads("lightning 2.6.6", "`Trainer.save_checkpoint`, with a loss of weights", _lightning),
    _loads("timm 1.0.31", "`CheckpointSaver`, with arguments", _timm_saver(False)),
    _loads("timm 1.0.31", "`CheckpointSaver`, the average", _timm_saver(True), ema=True),
    _loads("torch", "a network saved whole", _changed(lambda network: network)),
    _loads("torch", "a DataParallel saved whole", _changed(nn.DataParallel)),
    _loads("torch", "`torch.compile`", _changed(lambda n: torch.compile(n).state_dict())),
    _loads("torch", "`AveragedModel`", _changed(lambda n: AveragedModel(n).state_dict())),
    *map(_prefixed, PREFIXES),
    *map(_container, ("model", "state_dict", "net", "weights", "params_ema", "teacher", "module")),
    _loads(
        "torch",
        "beside a loss",
        _changed(lambda n: n.state_dict() | {"criterion.weight": torch.ones(3)}),
    ),
    _refuses("torch", "student and teacher", _two, "--prefix"),
    _loads("torch", "student and teacher, told which", _two, prefix="teacher"),
    _refuses("torch", "`params` and `params_ema`", _containers, "--container"),
    _loads("torch", "`params` and `params_ema`, told which", _containers, container="params_ema"),
    _refuses("as PEFT", "adapters that are not merged", _adapters, "LoRA"),
    _refuses("torch", "a TorchScript program", _program, "TorchScript"),
    _refuses("torchvision 0.28.0", "`swin3d_t`, a video Swin", _video, "video Swin"),
    _refuses(
        "timm 1.0.31",
        "a ResNet",
        _network(lambda timm: timm.create_model("resnet18", num_classes=2)),
        "a ResNet, no Swin",
    ),
    _refuses(
        "timm 1.0.31",
        "a ConvNeXt",
        _network(lambda timm: timm.create_model("convnext_atto", num_classes=2)),
        "a ConvNeXt, no Swin",
    ),
    _refuses(
        "timm 1.0.31",
        "an EfficientNet",
        _network(lambda timm: timm.create_model("efficientnet_b0", num_classes=2)),
        "an EfficientNet",
    ),
    _refuses(
        "timm 1.0.31",
        "a BEiT",
        _network(
            lambda timm: timm.create_model(
                "beit_base_patch16_224", num_classes=2, depth=1, embed_dim=16, num_heads=1
            )
        ),
        "BEiT",
    ),
    _refuses(
        "timm 1.0.31",
        "a MaxViT",
        _network(lambda timm: timm.create_model("maxvit_rmlp_pico_rw_256", num_classes=2)),
        "a MaxViT, no Swin",
    ),
    _refuses(
        "as MONAI",
        "a SwinUNETR",
        _as(
            swinViT__patch_embed__proj__weight=(8, 1, 2, 2, 2),
            encoder10__layer__conv1__conv__weight=(8, 8, 3, 3, 3),
        ),
        "SwinUNETR",
    ),
    _refuses(
        "as its authors",
        "a SwinIR",
        _as(
            conv_first__weight=(8, 3, 3, 3),
            layers__0__residual_group__blocks__0__attn__qkv__weight=(24, 8),
        ),
        "SwinIR",
    ),
)
