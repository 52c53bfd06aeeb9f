"""What lies beside a checkpoint is read, believed where nothing else says it, and else compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Quiet, Silent
from published import PRETRAINED, PROCESSOR, TIMM, TINY, edit, save_timm, save_transformers
from swin_deploy.core.errors import InputError
from swin_deploy.data.images import load_photo
from swin_deploy.network.catalogue import Variant
from swin_deploy.network.checkpoints.hub import resolve_source
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.resolve import load_source, resolve_variant
from swin_deploy.network.checkpoints.sidecar import read_sidecars
from swin_deploy.network.checkpoints.source import Source, crop_fraction, with_hints
from swin_deploy.network.interface import Preprocessing, Size
from timm_models import import_timm


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders ``transformers`` and ``timm``. Tests must not change them."""
    root = tmp_path_factory.mktemp("published")
    save_transformers(root / "transformers")
    save_timm(root / "timm")
    return root


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy of the folder of transformers, to be changed."""
    return Path(shutil.copytree(published / "transformers", tmp_path / "copy"))


@pytest.fixture
def timm_folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published / "timm", tmp_path / "copy"))


def options(source: Source, named: Variant | None = None, size: Size | None = None) -> LoadOptions:
    wanted = None if named is None else named.config
    return with_hints(LoadOptions(image_size=size, wanted=wanted), source)


def read(folder: Path) -> Variant:
    source = resolve_source(str(folder), None, Quiet())
    return resolve_variant(source, None, options(source), Quiet())


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_folder_of_transformers_says_what_the_tensors_cannot(published: Path) -> None:
    listener = Quiet()
    source = resolve_source(str(published / "transformers"), None, listener)
    assert source.provenance == {"source": "file"}
    assert source.facts.image_size == (32, 32)
    assert source.facts.window_size == 4
    assert source.facts.labels == tuple(f"class {index}" for index in range(5))
    variant = resolve_variant(source, None, options(source), listener)
    assert variant.config == replace(TINY, name="custom", semantics=variant.config.semantics)
    assert variant.preprocessing == Preprocessing(
        crop=1.0, crop_mode="squash", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)
    )
    (note,) = listener.notes
    assert note.startswith("image 32x32; crop 1 (squash), bicubic, mean 0.4, 0.5, 0.6")


def test_a_folder_of_timm_says_what_the_tensors_cannot(published: Path) -> None:
    listener = Quiet()
    source = resolve_source(str(published / "timm"), None, listener)
    named = Variant(config=replace(TINY, name="mine", image_size=(64, 64)))
    variant = resolve_variant(source, named, options(source, named), listener)
    assert variant.config == replace(TINY, name="mine", semantics=variant.config.semantics)
    assert variant.preprocessing == Preprocessing(
        crop=0.9, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )
    assert listener.notes[0].endswith("as it comes with the weights, in place of what mine has")


def test_the_size_that_the_user_gives_goes_first(published: Path, listener: Silent) -> None:
    source = resolve_source(str(published / "transformers"), None, Quiet())
    assert load_source(source, options(source, size=(64, 64))).config.image_size == (64, 64)
    heard = Quiet()
    variant = resolve_variant(source, None, options(source, size=(64, 64)), heard)
    assert variant.config.image_size == (64, 64)
    assert heard.notes[0].startswith("crop 1 (squash)")


CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "activation": ("config", {"hidden_act": "relu"}, "hidden_act is 'relu', and only 'gelu'"),
    "epsilon": ("config", {"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06, and only 1e-05"),
    "positions": ("config", {"use_absolute_embeddings": True}, "is True, and only False"),
    "another network": ("config", {"model_type": "vit"}, "model_type is 'vit'"),
    "window": ("config", {"window_size": 7}, "makes window_size 7, but the tensors have 4"),
    "heads": ("config", {"num_heads": [2, 4]}, "makes num_heads 2, 4, but the tensors have 1, 2"),
    "labels": ("config", {"id2label": {"0": "a"}}, "makes num_classes 1, but the tensors have 5"),
    "label numbers": ("config", {"id2label": {"1": "a"}}, "not the numbers from 0 on"),
    "image": ("config", {"image_size": 30}, "makes image_size 32x32, but the image size is 30x30"),
    "two sizes": ("config", {"image_size": 64}, "size makes image_size 32x32, but the image size"),
    "oblong patches": ("config", {"patch_size": [4, 2]}, "patch_size is 4x2, and only squares"),
    "type": ("config", {"window_size": "4"}, "window_size = '4': input should be a valid int"),
    "no resize": ("processor", {"do_resize": False}, "do_resize is False, and only True"),
    "scale": ("processor", {"rescale_factor": -0.0078}, "rescale_factor is -0.0078, not above 0"),
    "filter": ("processor", {"resample": 0}, "resample is 0, none of 1 .lanczos., 2 .bilinear"),
    "padding": ("processor", {"do_pad": True}, "do_pad is True, and only False"),
    "processor": ("processor", {"feature_extractor_type": "BeitFeatureExtractor"}, "of a Beit"),
    "no height": ("processor", {"size": {"shortest_edge": 32}}, "give no fixed image size"),
    "odd size": (
        "processor",
        {"size": {"longest_edge": 32}},
        "size = .*longest_edge.*: input should be",
    ),
    "crop above": (
        "processor",
        {"do_center_crop": True, "crop_size": 64},
        "preprocessing.crop = 2.0 must be above 0 and at most 1",
    ),
    "std": ("processor", {"image_std": [0.0, 1.0, 1.0]}, "std above 0"),
    "channels": (
        "processor",
        {"image_mean": [0.5], "image_std": [0.5]},
        "image_mean makes in_channels 1, but the tensors have 3",
    ),
}


@pytest.mark.parametrize(
    ("file", "changes", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys()
)
def test_what_cannot_be_true_or_done_is_refused_by_its_key(
    file: str, changes: dict[str, Any], message: str, folder: Path
) -> None:
    name = {"config": "config.json", "processor": "preprocessor_config.json"}[file]
    edit(folder / name, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read(folder)
    assert caught.value.exit_code == 3
    assert str(folder) in caught.value.problem


def pretrained(**changes: Any) -> dict[str, Any]:
    return {"pretrained_cfg": PRETRAINED | changes}


TIMM_CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"architecture": "resnet50"}, "architecture is 'resnet50', no Swin and no ViT"),
    "pooling": ({"global_pool": "max"}, "global_pool is 'max'"),
    "arguments": ({"model_args": {"norm_layer": "rmsnorm"}}, "model_args.norm_layer is"),
    "window": ({"model_args": {"window_size": 7}}, "makes window_size 7, but the tensors have 4"),
    "classes": ({"num_classes": 6}, "num_classes makes num_classes 6, but the tensors have 5"),
    "crop mode": (pretrained(crop_mode="border"), "crop_mode is 'border', not center or squash"),
    "filter": (pretrained(interpolation="random"), "interpolation is 'random', none of bilinear"),
    "channels": (pretrained(input_size=[1, 32, 32]), "makes in_channels 1, but the tensors have 3"),
    "image": (pretrained(input_size=[3, 1, 1]), "makes image_size 1x1, which the tensors"),
}


@pytest.mark.parametrize(
    ("changes", "message"), TIMM_CONTRADICTIONS.values(), ids=TIMM_CONTRADICTIONS.keys()
)
def test_timm_is_held_to_its_word_too(
    changes: dict[str, Any], message: str, timm_folder: Path
) -> None:
    edit(timm_folder / "config.json", **changes)
    with pytest.raises(InputError, match=message):
        read(timm_folder)


@pytest.mark.parametrize(
    ("architecture", "window", "before"),
    [
        ("swin_tiny_patch4_window7_224", 7, ()),
        ("swinv2_tiny_window8_256", 8, ()),
        ("swinv2_base_window12to16_192to256", 16, (12, 12, 12, 6)),
        ("swinv2_large_window12to24_192to384", 24, (12, 12, 12, 6)),
        ("swin_s3_tiny_224", None, ()),
    ],
)
def test_windows_are_read_off_timm_s_names(
    architecture: str, window: int | None, before: tuple[int, ...], tmp_path: Path
) -> None:
    config = write(tmp_path / "config.json", TIMM | {"architecture": architecture})
    _, facts = read_sidecars(config, None, Quiet())
    assert (facts.window_size, facts.pretrained_window_sizes) == (window, before)


def test_the_first_form_of_timm_s_file_has_one_level(tmp_path: Path) -> None:
    flat = PRETRAINED | {"architecture": TIMM["architecture"]}
    preprocessing, facts = read_sidecars(write(tmp_path / "config.json", flat), None, Quiet())
    assert preprocessing is not None
    assert preprocessing.crop == 0.9
    assert facts.image_size == (32, 32)


def test_the_windows_before_fine_tuning_are_facts(tmp_path: Path) -> None:
    content: dict[str, Any] = {"model_type": "swinv2", "pretrained_window_sizes": [12, 12, 12, 6]}
    _, facts = read_sidecars(write(tmp_path / "config.json", content), None, Quiet())
    assert facts.pretrained_window_sizes == (12, 12, 12, 6)
    content["pretrained_window_sizes"] = [0, 0, 0, 0]
    _, facts = read_sidecars(write(tmp_path / "config.json", content), None, Quiet())
    assert facts.pretrained_window_sizes == ()


def test_a_file_that_says_nothing_is_noted(folder: Path) -> None:
    write(folder / "config.json", {"learning_rate": 1e-3, "window_size": 99})
    (folder / "preprocessor_config.json").unlink()
    listener = Quiet()
    source = resolve_source(str(folder), None, listener)
    assert source.preprocessing is None
    assert source.facts.image_size is None
    assert listener.notes == [
        f"{folder / 'config.json'} says neither model_type nor architecture and is not used"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, not a JSON file"),
        (b"version https://git-lfs", "is a git-lfs pointer"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"[1, 2]", "the file: input should be an object"),
        (b"{" * 10, "the file: invalid json"),
        (b'{"model_type": ' * 100_000, "the file: invalid json: recursion limit"),
    ],
)
def test_what_is_no_json_object_is_one_clear_line(
    content: bytes, message: str, folder: Path
) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        resolve_source(str(folder), None, Quiet())


def test_a_crop_out_of_a_resize_is_exact() -> None:
    for resized in range(1, 600):
        for crop in range(1, resized + 1, 7):
            assert int(crop / crop_fraction(crop, resized)) == resized


def theirs(name: str, photo: Image.Image, tmp_path: Path) -> tuple[np.ndarray, Preprocessing]:
    """What a library makes of a photo, and what is read from its own description of that."""
    import_timm()
    if name == "timm":
        from timm.data.transforms_factory import create_transform

        keys = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
        options = {key: PRETRAINED[key] for key in keys}
        values = create_transform(**options)(photo).numpy()
        config, processor = write(tmp_path / "config.json", TIMM), None
    else:
        from transformers.models.convnext import image_processing_pil_convnext as convnext
        from transformers.models.vit import image_processing_pil_vit as vit

        made = {
            "ViT": lambda: vit.ViTImageProcessorPil(**(PROCESSOR | {"size": 32})),
            "ConvNext": lambda: convnext.ConvNextImageProcessorPil(size={"shortest_edge": 32}),
        }[name]()
        made.save_pretrained(tmp_path)
        values = made(photo, return_tensors="np")["pixel_values"][0]
        config, processor = None, tmp_path / "preprocessor_config.json"
    preprocessing, facts = read_sidecars(config, processor, Quiet())
    assert facts.image_size == (32, 32)
    assert preprocessing is not None
    return values, preprocessing


@pytest.mark.parametrize(("name", "tolerance"), [("ViT", 1e-6), ("ConvNext", 1e-6), ("timm", 0.05)])
def test_photos_become_what_their_library_makes_of_them(
    name: str, tolerance: float, tmp_path: Path
) -> None:
    """Timm rounds the centre to the other pixel where it lies between two."""
    ramp = np.add.outer(np.arange(90), 2 * np.arange(70)) % 256
    photo = Image.fromarray(np.stack([ramp, ramp // 2, 255 - ramp], axis=-1).astype(np.uint8))
    photo.save(tmp_path / "x.png")
    values, preprocessing = theirs(name, photo, tmp_path)
    ours = load_photo(tmp_path / "x.png", (32, 32), preprocessing)
    assert np.abs(ours - values).mean() <= tolerance
