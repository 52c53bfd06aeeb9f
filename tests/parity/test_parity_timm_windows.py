"""timm's windows that are no squares, differ by stage or never shrink, from its own folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from libraries import randomise
from no_downloads import Downloads
from small_timm import SMALL, small_timm
from swin_deploy.core.errors import InputError
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import load_source
from swin_deploy.network.checkpoints.source import with_hints
from swin_deploy.network.export_form.freeze import freeze
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.build import model_from_tensors
from swin_deploy.network.swin import SwinConfig
from timm_models import import_timm
from torch_files import save

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.searchsorted"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
]
FLOOR_DB, FORM_DB, DAMAGED_DB = 110.0, 100.0, 40.0
S3 = (4, 4, 8)
FOUR: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
FOUR_V2 = FOUR | {"window_size": 4}


def network_of(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A network of timm and what was told to its factory beside the architecture."""
    timm = import_timm()
    told: dict[str, Any] = FOUR | {"num_classes": 3, "window_size": 4, "img_size": 128}
    architecture = "swin_tiny_patch4_window7_224"
    if name.startswith("V2"):
        architecture = "swinv2_tiny_window8_256"
    if name.endswith("made for a rectangle"):
        told |= {"img_size": (96, 160)}
    if name.endswith("windows by stage"):
        told |= {"window_size": (4, 4, 8, 4)}
    if name.endswith("windows that never shrink"):
        told |= {"always_partition": True, "img_size": (64, 96)}
    if name.endswith("any size of image"):
        told |= {"strict_img_size": False}
    network = timm.create_model(architecture, **told)
    randomise(network)
    if "set to" in name:
        network.set_input_size((128, 160) if name.endswith("rectangle") else (256, 256))
        told = without_sizes(told)
    return network.eval(), told


def without_sizes(told: dict[str, Any]) -> dict[str, Any]:
    """Timm writes the present ones of a network by itself, and refuses others."""
    return {key: value for key, value in told.items() if key not in ("img_size", "window_size")}


NAMES = [
    f"V{version}, {kind}"
    for version, kind in [
        *((1, kind) for kind in ("as it is", "windows that never shrink", "any size of image")),
        *(
            (version, kind)
            for version in (1, 2)
            for kind in (
                *("made for a rectangle", "windows by stage"),
                *("set to a rectangle", "set to a square"),
            )
        ),
    ]
]


def opened(tmp_path: Path, network: nn.Module, told: dict[str, Any]) -> Checkpoint:
    """Of the folder that timm writes."""
    writer = import_timm().models.save_for_hf
    writer(network, str(tmp_path / "folder"), model_args=dict(told))
    source = resolve_source(str(tmp_path / "folder"), None, Downloads())
    return load_source(source, with_hints(LoadOptions(), source))


def outputs(network: nn.Module, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(image)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_folders_that_timm_writes(tmp_path: Path, name: str) -> None:
    network, told = network_of(name)
    found = opened(tmp_path, network, told)
    assert isinstance(found.config, SwinConfig)
    image = torch.randn(2, 3, *found.config.image_size, generator=torch.Generator().manual_seed(1))
    model = model_from_tensors(found.config, found.tensors)
    for form in ("packed", "slabs"):
        frozen = outputs(freeze(model, form), image)  # type: ignore[arg-type]
        assert sqnr_db(outputs(model, image).numpy(), frozen.numpy()) >= FORM_DB
    # In FP64: of cosine attention timm's own FP32 is no nearer to it than this floor.
    expected, ours = (outputs(one.double(), image.double()).numpy() for one in (network, model))
    assert sqnr_db(expected, ours) >= FLOOR_DB


def test_two_networks_of_the_same_tensors_are_told_apart(tmp_path: Path) -> None:
    """Timm keeps windows and pads where it is made for a size, and scales them where it is set."""
    timm = import_timm()
    told = FOUR | {"num_classes": 3, "window_size": 4, "img_size": 128}
    made = timm.create_model("swin_tiny_patch4_window7_224", **told | {"img_size": (128, 160)})
    changed = timm.create_model("swin_tiny_patch4_window7_224", **told)
    randomise(made)
    changed.load_state_dict(made.state_dict())
    changed.eval().set_input_size((128, 160))
    found = [
        opened(tmp_path / name, network, given)
        for name, network, given in (
            ("made", made, told | {"img_size": (128, 160)}),
            ("set", changed, without_sizes(told)),
        )
    ]
    configs = [one.config for one in found if isinstance(one.config, SwinConfig)]
    assert [config.image_size for config in configs] == [(128, 160)] * 2
    assert configs[0].stage_windows == ()
    assert configs[1].stage_windows == ((4, 5),) * 4
    image = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(1))
    mine, theirs = outputs(made, image).numpy(), outputs(changed, image).numpy()
    assert sqnr_db(mine, theirs) < DAMAGED_DB
    for config, checkpoint, expected in zip(configs, found, (mine, theirs), strict=True):
        ours = outputs(model_from_tensors(config, checkpoint.tensors), image).numpy()
        assert sqnr_db(expected, ours) >= FLOOR_DB


def test_a_file_alone_tells_its_windows_by_its_tables(tmp_path: Path) -> None:
    network = small_timm(img_size=(64, 128), window_size=(4, 8))
    path = save(tmp_path / "x.pth", network.state_dict())
    config = load_checkpoint(path, LoadOptions(image_size=(64, 128))).config
    assert isinstance(config, SwinConfig)
    assert config.stage_windows == ((4, 8),) * 3
    with pytest.raises(InputError, match="105, 105, 105 rows") as caught:
        load_checkpoint(path, LoadOptions(image_size=(64, 64)))
    assert "--image" in caught.value.hint


def test_windows_by_stage_of_a_file_alone(tmp_path: Path) -> None:
    network = small_timm(window_size=S3)
    path = save(tmp_path / "x.pth", network.state_dict())
    found = load_checkpoint(path, LoadOptions(image_size=SMALL["img_size"]))
    assert isinstance(found.config, SwinConfig)
    # The grid of the last stage has 4 tokens along it, so that timm made it a window of that.
    assert found.config.window_size == 4
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ours = outputs(model_from_tensors(found.config, found.tensors), image).numpy()
    assert sqnr_db(outputs(network, image).numpy(), ours) >= FLOOR_DB


@pytest.mark.parametrize("prefix", ["", "encoder.model."])  # its own; segmentation_models'
def test_feature_extractors_have_flat_names(tmp_path: Path, prefix: str) -> None:
    told: dict[str, Any] = FOUR | {"window_size": 4, "img_size": 128}
    network = import_timm().create_model("swin_tiny_patch4_window7_224", features_only=True, **told)
    randomise(network)
    tensors = {prefix + name: value for name, value in network.state_dict().items()}
    assert f"{prefix}layers_0.blocks.0.attn.qkv.weight" in tensors
    path = save(tmp_path / "x.pth", tensors | {"decoder.block.weight": torch.ones(2, 2)})
    found = load_checkpoint(path, LoadOptions(image_size=(128, 128)))
    assert (found.config.num_classes, found.dropped) == (0, ("decoder.block.weight",))
    model = model_from_tensors(found.config, found.tensors)
    image = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, ours = network(image), model.stages(image)  # type: ignore[operator]
    for theirs, mine in zip(expected, ours, strict=True):
        assert sqnr_db(theirs.numpy(), mine.numpy()) >= FLOOR_DB


def test_windows_of_a_folder_that_its_tables_contradict(tmp_path: Path) -> None:
    network, told = network_of("V1, windows by stage")
    with pytest.raises(InputError, match="4x4, 8x8, 8x8, 4x4"):
        opened(tmp_path, network, told | {"window_size": (4, 8, 8, 4)})
