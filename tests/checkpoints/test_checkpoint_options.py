"""What a user may ask of a checkpoint: other windows, and the average of the weights."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conftest import POCKET, Silent
from libraries import randomise, timm_model
from parity import save_as
from rebuilt_sources import MICROSOFT
from swin_deploy.core.errors import InputError
from swin_deploy.measure.verify import FLOORS_DB
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.checkpoints.dialects import TIMM
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.checkpoints.load import Checkpoint, load_checkpoint
from swin_deploy.network.checkpoints.options import Hints, LoadOptions
from swin_deploy.network.checkpoints.resolve import resolve_variant
from swin_deploy.network.checkpoints.source import Source
from swin_deploy.network.judge import sqnr_db
from swin_deploy.network.model.attention import relative_position_index
from swin_deploy.network.model.build import build_model, model_from_tensors
from swin_deploy.network.swin import SwinConfig
from swin_deploy.pipeline.request import ExportRequest, read_config
from swin_deploy.pipeline.run import run_export
from timm_models import import_timm

TABLE = "relative_position_bias_table"
BUFFERS = ("attn_mask", "relative_position_index", "relative_coords_table")


def as_load_pretrained_does(table: Tensor, rows: int) -> Tensor:
    """The authors' way from a table of one window to that of another with so many rows."""
    length, heads = table.shape
    side, wanted = int(length**0.5), int(rows**0.5)
    square = table.permute(1, 0).view(1, heads, side, side)
    resized = F.interpolate(square, size=(wanted, wanted), mode="bicubic")
    return resized.view(heads, rows).permute(1, 0)


def fine_tuned(native: nn.Module, config: SwinConfig) -> nn.Module:
    """The authors' network for ``config``, with the weights of another as they take them over."""
    model = MICROSOFT.make(config)
    tensors = {k: v for k, v in native.state_dict().items() if not k.endswith(BUFFERS)}
    for name in tensors:
        if name.endswith(TABLE):
            rows = model.get_parameter(name).shape[0]
            tensors[name] = as_load_pretrained_does(tensors[name], rows)
    found = model.load_state_dict(tensors, strict=False)
    assert not found.unexpected_keys
    assert all(name.endswith(BUFFERS) for name in found.missing_keys)
    return model


def require_parity(reference: nn.Module, found: Checkpoint) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn((1, 3, *found.config.image_size), generator=generator)
    with torch.inference_mode():
        _, expected = reference(images)
        logits = model_from_tensors(found.config, found.tensors)(images)
    assert sqnr_db(expected.numpy(), logits.numpy()) >= FLOORS_DB["fp32"]


def test_tables_of_v1_are_resized_as_the_authors_do(tmp_path: Path) -> None:
    native = MICROSOFT.make(VARIANTS["swin_t"].config)
    path = MICROSOFT.save(native, tmp_path)
    found = load_checkpoint(path, LoadOptions(window=12, image_size=(384, 384)))
    assert (found.config.window_size, found.config.image_size) == (12, (384, 384))
    assert found.notes == ("12 position bias tables were resized from 13x13 to 23x23, bicubic",)
    reference = fine_tuned(native, found.config)
    tables = [name for name in found.tensors if name.endswith(TABLE)]
    assert len(tables) == 12
    for name in tables:
        assert torch.equal(found.tensors[name], reference.get_parameter(name))
    require_parity(reference, found)


def test_positions_of_v2_keep_the_scale_of_their_training(tmp_path: Path) -> None:
    native = MICROSOFT.make(VARIANTS["swinv2_t_w8"].config)
    path = MICROSOFT.save(native, tmp_path)
    found = load_checkpoint(path, LoadOptions(window=16))
    assert (found.config.window_size, found.config.image_size) == (16, (256, 256))
    assert found.config.pretrained_window_sizes == (8, 8, 8, 8)
    assert found.notes == ("windows of 16, positions scaled as trained with (8, 8, 8, 8)",)
    require_parity(fine_tuned(native, found.config), found)


def test_a_v2_of_192_pixels_becomes_what_was_released_for_256(tmp_path: Path) -> None:
    config = replace(VARIANTS["swinv2_b_w12"].config, depths=(1, 1, 1, 1))
    path = save_as("pth")(MICROSOFT.make(config), tmp_path)
    wanted = LoadOptions(window=16, image_size=(256, 256), wanted=config)
    released = VARIANTS["swinv2_b_w12to16"].config
    found = load_checkpoint(path, wanted).config
    assert found.pretrained_window_sizes == released.pretrained_window_sizes
    assert (found.window_size, found.image_size) == (released.window_size, released.image_size)


def test_the_native_window_changes_nothing(tmp_path: Path) -> None:
    path = MICROSOFT.save(MICROSOFT.make(VARIANTS["swin_t"].config), tmp_path)
    plain, asked = load_checkpoint(path), load_checkpoint(path, LoadOptions(window=7))
    assert asked.notes == plain.notes == ()
    assert asked.config == plain.config
    assert all(torch.equal(value, plain.tensors[name]) for name, value in asked.tensors.items())


def average_file(path: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Writes weights and an average of that name; returns both."""
    weights, average = (
        {key: value.data for key, value in build_model(POCKET.config, seed).named_parameters()}
        for seed in (0, 1)
    )
    torch.save({"model": weights, name: average, "epoch": 3}, path)
    return weights, average


@pytest.mark.fault(7)
@pytest.mark.parametrize("name", ["model_ema", "state_dict_ema", "ema_state_dict", "ema"])
def test_an_average_is_taken_if_asked_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    weights, average = average_file(path, name)
    options = LoadOptions(image_size=POCKET.config.image_size)
    found = load_checkpoint(path, options)
    assert found.opened == ("model",)
    assert found.notes == (f"{name} was left alone; --ema takes it",)
    assert all(torch.equal(found.tensors[key], value) for key, value in weights.items())
    found = load_checkpoint(path, replace(options, ema=True))
    assert found.opened == (name,)
    assert found.notes == ("model was left alone",)
    assert all(torch.equal(found.tensors[key], value) for key, value in average.items())


@pytest.mark.fault(7)
def test_an_average_that_is_not_there_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": dict(build_model(POCKET.config).state_dict())}, path)
    with pytest.raises(InputError, match="holds no average of its weights") as refusal:
        load_checkpoint(path, LoadOptions(image_size=POCKET.config.image_size, ema=True))
    assert refusal.value.hint == "leave --ema out"


def test_a_file_of_the_average_alone_needs_no_asking(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    tensors = dict(build_model(POCKET.config).state_dict())
    torch.save({"state_dict_ema": tensors}, path)
    found = load_checkpoint(path, LoadOptions(image_size=POCKET.config.image_size))
    assert found.opened == ("state_dict_ema",)
    assert found.notes == ()


def tiny_v2(path: Path) -> LoadOptions:
    """A small Swinv2 of transformers for 64 pixels, and what its folder would say."""
    import_timm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import Swinv2Config, Swinv2ForImageClassification

        config = Swinv2Config(
            image_size=64, embed_dim=16, depths=[2, 2], num_heads=[1, 2], window_size=4
        )
        model = randomise(Swinv2ForImageClassification(config))
    torch.save(model.state_dict(), path)
    said = Hints(image_size=(64, 64), window_size=4, pretrained_window_sizes=())
    return LoadOptions(hints=said)


def test_transformers_decides_on_the_windows_of_v2_at_the_trained_size(tmp_path: Path) -> None:
    """At 64 and 60 pixels all grids are larger than a window; at 16 the first is just as large."""
    options = tiny_v2(tmp_path / "x.bin")
    for size in ((64, 64), (60, 60)):
        found = load_checkpoint(tmp_path / "x.bin", replace(options, image_size=size))
        assert found.config.image_size == size
    with pytest.raises(InputError, match="stage 1 the grid is 4x4, and a Hugging Face"):
        load_checkpoint(tmp_path / "x.bin", replace(options, image_size=(16, 16)))


def test_what_is_said_may_not_contradict_the_saved_buffers(tmp_path: Path) -> None:
    tensors = dict(build_model(POCKET.config).named_parameters())
    tensors["layers.0.blocks.0.attn.relative_position_index"] = relative_position_index((4, 4))
    torch.save(tensors, tmp_path / "x.pth")
    options = LoadOptions(image_size=(64, 64), hints=Hints(window_size=7))
    with pytest.raises(InputError, match="buffers are of window_size 4, but 7 is said"):
        load_checkpoint(tmp_path / "x.pth", options)


def test_a_backbone_may_have_norms_on_some_maps_only(tmp_path: Path) -> None:
    """As detectors that leave out the finest map."""
    config = replace(POCKET.config, stage_norms=(1, 2), num_classes=0)
    tensors = dict(build_model(config).named_parameters())
    theirs = {name.replace("stage_norms.", "norm"): value for name, value in tensors.items()}
    torch.save(theirs, tmp_path / "x.pth")
    found = load_checkpoint(tmp_path / "x.pth", LoadOptions(image_size=(64, 64)))
    assert found.dialect == "Microsoft, backbone of a detector"
    assert found.config.stage_norms == (1, 2)
    assert "the maps of stages 2, 3 have norms of their own" in found.notes


def test_a_request_has_to_be_for_the_network_of_its_checkpoint(tmp_path: Path) -> None:
    """For those who call the library: a variant of another library's rules is no silent mistake."""
    torch.save(dict(build_model(POCKET.config).named_parameters()), tmp_path / "x.pth")
    request = ExportRequest(
        variant=POCKET,
        weights=tmp_path / "x.pth",
        load=LoadOptions(wanted=POCKET.config),
        out=tmp_path / "run",
    )
    with pytest.raises(InputError, match="is not of the network of this request"):
        run_export(request, Silent())


@pytest.mark.parametrize("said", ['padding = "refuse"', 'merge_order = "rows"'])
def test_a_rule_in_a_file_goes_before_the_librarys_and_leaves_the_others(
    said: str, tmp_path: Path
) -> None:
    """Also one that is our default: what is not said is the library's."""
    torch.save(timm_model(VARIANTS["swin_t"].config).state_dict(), tmp_path / "x.pth")
    (tmp_path / "mine.toml").write_text(f"window_size = 7\n[semantics]\n{said}\n")
    mine = read_config(tmp_path / "mine.toml")
    found = load_checkpoint(tmp_path / "x.pth", LoadOptions(wanted=mine.config, rules=mine.rules))
    rule = said.split()[0]
    assert found.config.semantics == replace(
        TIMM.semantics, **{rule: getattr(mine.config.semantics, rule)}
    )
    assert any(note.startswith(f"{rule} is") for note in found.notes)


def test_notes_of_a_checkpoint_hold_for_every_run_of_it(tmp_path: Path) -> None:
    weights = dict(build_model(POCKET.config).named_parameters())
    torch.save({"model": weights, "model_ema": weights}, tmp_path / "x.pth")
    load = LoadOptions(image_size=(64, 64))
    variant = Variant(config=load_checkpoint(tmp_path / "x.pth", load).config)
    for _ in range(2):
        listener = Silent()
        result = run_export(
            ExportRequest(
                variant=variant,
                weights=tmp_path / "x.pth",
                load=load,
                out=tmp_path / "run",
                targets=("cpu",),
                precisions=("fp32",),
            ),
            listener,
        )
        assert "model_ema was left alone; --ema takes it" in listener.notes
        assert "model_ema was left alone; --ema takes it" in result.header["notes"]
    assert len(result.current) == len(result.stages)


POCKET_FILE = """image_size = 32
patch_size = 2
in_channels = 1
embed_dim = 16
depths = [2, 2, 2]
num_heads = [1, 2, 4]
window_size = 4
num_classes = 10

[preprocessing]
crop = 1.0
mean = [0.1307]
std = [0.3081]
"""


def stated(text: str, folder: Path) -> tuple[Variant, LoadOptions]:
    path = folder / "mine.toml"
    path.write_text(text)
    network = read_config(path)
    return network, LoadOptions(wanted=network.config, rules=network.rules, stated=network.stated)


@pytest.mark.parametrize(
    ("line", "other", "both"),
    [
        ("num_classes = 10", "num_classes = 12", ("num_classes = 10", "says 12")),
        ("depths = [2, 2, 2]", "depths = [2, 4, 2]", ("(2, 2, 2)", "(2, 4, 2)")),
        ("window_size = 4", "window_size = 8", ("4", "8")),
        ("num_heads = [1, 2, 4]", "num_heads = [2, 4, 8]", ("1, 2, 4", "2, 4, 8")),
    ],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) else "",
)
def test_what_a_config_states_has_to_be_so(
    line: str, other: str, both: tuple[str, str], tmp_path: Path
) -> None:
    path = bundled_weights("swin_pocket")
    assert load_checkpoint(path, stated(POCKET_FILE, tmp_path)[1]).config.num_classes == 10
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, stated(POCKET_FILE.replace(line, other), tmp_path)[1])
    assert caught.value.exit_code == 3
    for value in both:
        assert value in str(caught.value)


def test_what_a_config_leaves_out_states_nothing(tmp_path: Path) -> None:
    """The default is 1000 classes, which nobody wrote."""
    _, options = stated(POCKET_FILE.replace("num_classes = 10\n", ""), tmp_path)
    assert load_checkpoint(bundled_weights("swin_pocket"), options).config.num_classes == 10
    asked = replace(stated(POCKET_FILE, tmp_path)[1], window=2)
    assert load_checkpoint(bundled_weights("swin_pocket"), asked).config.window_size == 2


def test_preprocessing_that_a_config_states_has_to_be_that_of_the_weights(tmp_path: Path) -> None:
    network, options = stated(POCKET_FILE, tmp_path)
    path = bundled_weights("swin_pocket")
    own = resolve_variant(Source(path=path, provenance={}), network, options, Silent())
    assert own.preprocessing.mean == (0.1307,)
    source = Source(
        path=path, provenance={}, preprocessing=replace(network.preprocessing, mean=(0.5,))
    )
    with pytest.raises(InputError, match=r"preprocessing.mean 0.5, and the config says 0.1307"):
        resolve_variant(source, network, options, Silent())
