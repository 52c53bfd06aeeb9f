"""One network in a file, under whatever prefix, beside whatever else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from small_timm import SMALL, small_timm
from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.roots import find_root
from torch_files import save


class Around(nn.Module):
    """A module with the network below a name, as people write one."""

    def __init__(self, name: str, network: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.add_module(name, network)
        for other, module in others.items():
            self.add_module(other, module)


def read(tmp_path: Path, tensors: Mapping[str, Tensor], **options: str) -> Checkpoint:
    return load_checkpoint(
        # A file of its own, as tensors are mapped.
        save(tmp_path / f"{len(list(tmp_path.iterdir()))}.pth", dict(tensors)),
        LoadOptions(image_size=(64, 64), prefix=options.get("prefix")),
    )


@pytest.mark.parametrize(
    "prefix",
    ["net.", "swin.", "timm_model.", "pretrained.model.", "base_model.model.", "backbone.0.", "0."],
)
def test_whatever_prefix_is_found(tmp_path: Path, prefix: str) -> None:
    tensors = small_timm().state_dict()
    plain = read(tmp_path, tensors)
    found = read(tmp_path, {prefix + name: value for name, value in tensors.items()})
    assert found.opened == (prefix,)
    assert found.dropped == ()
    assert found.config == plain.config
    assert all(torch.equal(found.tensors[name], value) for name, value in plain.tensors.items())


def test_averages_of_torch_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, AveragedModel(small_timm()).state_dict())
    assert (found.opened, found.dropped) == (("module.",), ("n_averaged",))


def test_checkpoint_wrappers_stand_in_the_middle(tmp_path: Path) -> None:
    network = small_timm()
    mark = "_checkpoint_wrapped_module."
    for stage in network.layers:  # type: ignore[union-attr]
        stage.blocks[0] = checkpoint_wrapper(stage.blocks[0])
    # Hooks of the wrapper take the mark off a state_dict; what goes through parameters keeps it.
    tensors = dict(network.named_parameters())
    assert any(mark in name for name in tensors)
    found = read(tmp_path, tensors)
    assert found.opened == (mark,)
    assert len(found.tensors) == len(tensors)


def test_fsdp_marks_every_level(tmp_path: Path) -> None:
    mark = "_fsdp_wrapped_module."
    tensors = {
        mark + name.replace("blocks.1.", f"blocks.1.{mark}"): value
        for name, value in small_timm().state_dict().items()
    }
    assert read(tmp_path, tensors).opened == (mark,)


def test_losses_and_metrics_beside_the_network_are_dropped(tmp_path: Path) -> None:
    whole = Around("model", small_timm(), criterion=nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)))
    found = read(tmp_path, whole.state_dict())
    assert (found.opened, found.dropped) == (("model.",), ("criterion.pos_weight",))


def test_a_loss_beside_a_network_without_a_prefix(tmp_path: Path) -> None:
    found = read(tmp_path, small_timm().state_dict() | {"criterion.weight": torch.ones(3)})
    assert (found.opened, found.dropped) == ((), ("criterion.weight",))


def test_of_two_networks_one_is_to_be_named(tmp_path: Path) -> None:
    whole = Around("student", small_timm(seed=1), teacher=small_timm(seed=2)).state_dict()
    with pytest.raises(InputError) as caught:
        read(tmp_path, whole)
    assert caught.value.hint == "--prefix student. or --prefix teacher."
    for name, dot in (("student", ""), ("teacher", ".")):
        found = read(tmp_path, whole, prefix=name + dot)
        assert torch.equal(found.tensors["head.weight"], whole[f"{name}.head.fc.weight"])
        assert found.opened == (f"{name}.",)
        assert len(found.dropped) == len(whole) // 2


def test_a_prefix_of_nothing_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    tensors = {f"net.{name}": value for name, value in small_timm().state_dict().items()}
    with pytest.raises(InputError, match="'nets'") as caught:
        read(tmp_path, tensors, prefix="nets")
    assert caught.value.hint == "--prefix net."


def test_a_tensor_inside_the_network_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    tensors = small_timm().state_dict() | {"layers.0.blocks.0.adapter.weight": torch.ones(2, 2)}
    with pytest.raises(InputError, match="adapter"):
        read(tmp_path, tensors)


def test_two_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    tensors = small_timm().state_dict()
    tensors["_orig_mod.head.fc.weight"] = tensors["head.fc.weight"] + 1
    with pytest.raises(InputError, match="two tensors"):
        read(tmp_path, tensors)


KIN = {
    "video Swin": {"backbone.patch_embed.proj.weight": (8, 3, 2, 4, 4)},
    "SwinUNETR": {
        "swinViT.patch_embed.proj.weight": (8, 1, 2, 2, 2),
        "encoder10.layer.conv1.conv.weight": (8, 8, 3, 3, 3),
    },
    "SwinIR": {
        "conv_first.weight": (8, 3, 3, 3),
        "layers.0.residual_group.blocks.0.attn.qkv.weight": (24, 8),
    },
    "ResNet": {"conv1.weight": (8, 3, 7, 7), "layer1.0.conv1.weight": (8, 8, 3, 3)},
    "ConvNeXt": {"stages.0.blocks.0.conv_dw.weight": (8, 1, 7, 7)},
    "BEiT": {"blocks.0.attn.relative_position_bias_table": (9, 2)},
}


@pytest.mark.parametrize("kind", KIN)
def test_kin_are_told_by_what_they_are(kind: str) -> None:
    tensors = {f"model.{name}": torch.ones(shape) for name, shape in KIN[kind].items()}
    with pytest.raises(InputError, match=kind):
        find_root(tensors)


def test_adapters_that_are_not_merged_are_told(tmp_path: Path) -> None:
    tensors = {f"base_model.model.{n}": v for n, v in small_timm().state_dict().items()}
    stem = "base_model.model.layers.0.blocks.0.attn.qkv."
    tensors[f"{stem}base_layer.weight"] = tensors.pop(f"{stem}weight")
    tensors[f"{stem}lora_A.default.weight"] = torch.ones(4, 16)
    tensors[f"{stem}lora_B.default.weight"] = torch.ones(48, 4)
    with pytest.raises(InputError, match="LoRA") as caught:
        read(tmp_path, tensors)
    assert "merge_and_unload" in caught.value.hint


def test_a_real_resnet_of_timm_is_told(tmp_path: Path) -> None:
    from timm_models import import_timm

    network = import_timm().create_model("resnet18", num_classes=2)
    with pytest.raises(InputError, match="a ResNet, no Swin"):
        read(tmp_path, network.state_dict())


def test_the_size_is_what_was_asked(tmp_path: Path) -> None:
    assert read(tmp_path, small_timm().state_dict()).config.image_size == SMALL["img_size"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x.pkl", "detectron2"),
        ("x.onnx", "a graph"),
        ("x.plan", "an engine"),
        ("x.npz", "NumPy"),
        ("x.h5", "Keras"),
    ],
)
def test_other_kinds_of_files_are_told_by_their_names(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=what):
        load_checkpoint(tmp_path / name)
