"""What the user says of photos and classes goes before all files, and is said in the notes."""

from __future__ import annotations

import argparse
import json
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from published import edit, save_timm, save_transformers
from small_timm import small_timm
from swin_deploy.cli import main as cli
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.data.images import load_photo
from swin_deploy.network.checkpoints.labels import as_names, read_names
from swin_deploy.network.checkpoints.meaning import Meaning, photo_steps
from swin_deploy.network.interface import Preprocessing

NAMES = ("ant", "bee", "cat")
IMAGENET = Preprocessing()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders ``transformers`` and ``timm``. Tests must not change them."""
    root = tmp_path_factory.mktemp("published")
    save_transformers(root / "transformers")
    save_timm(root / "timm")
    return root


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Of timm's Swin with three classes, for images of 64 pixels."""
    return dict(small_timm().state_dict())


@pytest.fixture
def plain(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """A checkpoint that says nothing of itself."""
    torch.save(tensors, tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def inspected(capsys: pytest.CaptureFixture[str], weights: Path, *arguments: str) -> dict[str, Any]:
    assert cli.run(["inspect", str(weights), *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert cli.run([*arguments]) == code
    return capsys.readouterr().err


def as_text(names: Sequence[str], path: Path) -> Path:
    path.write_text("\n".join(names) + "\n")
    return path


def as_folders(names: Sequence[str], path: Path) -> Path:
    for name in (*reversed(names), ".hidden"):
        (path / name).mkdir(parents=True)
    (path / "README.txt").write_text("no class")
    return path


def as_json(value: Any, path: Path) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("form", ["text", "folders", "list", "by index", "by name"])
def test_names_of_classes_in_every_form(
    form: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = {
        "text": lambda: as_text(NAMES, tmp_path / "names.txt"),
        "folders": lambda: as_folders(NAMES, tmp_path / "names"),
        "list": lambda: as_json(NAMES, tmp_path / "names.json"),
        "by index": lambda: as_json(dict(enumerate(NAMES)), tmp_path / "names.json"),
        "by name": lambda: as_json({n: i for i, n in enumerate(NAMES)}, tmp_path / "names.json"),
    }[form]()
    found = inspected(capsys, plain, "--image", "64", "--classes", str(path))
    assert found["labels"] == list(NAMES)
    assert f"--classes {path}" in found["next"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("ant\n\ncat\n", "line 2 is empty"),
        ("", "holds no names"),
        ("a\nb\n", "has 2 names, and custom has 3 classes"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
    ],
)
def test_names_that_cannot_be_those_of_the_network(
    content: str | bytes, says: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for command in (["inspect", str(plain)], ["export", "--weights", str(plain)]):
        text = refused(capsys, 3, *command, "--image", "64", "--classes", str(path))
        assert says in text
        assert "try: " in text


@pytest.mark.parametrize(
    "content", [[], ["a", 1], {"0": "a", "2": "b"}, {"a": 0, "b": 0}, {"0": 1}, "a", [""], {}]
)
def test_json_that_names_no_classes(content: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no names of classes by index"):
        read_names(as_json(content, tmp_path / "names.json"))


def test_a_name_that_no_record_can_keep() -> None:
    assert as_names(["a", "\ud800"]) is None
    assert as_names(["a", "x" * 1001]) is None


def test_no_names_where_none_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_names(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no class folders"):
        read_names(tmp_path / "empty")


SAID = [
    *("--mean", "0.5,0.25,0.125", "--std", "0.5", "--crop", "0.75"),
    *("--crop-mode", "center", "--interpolation", "lanczos"),
]
STEPS = Preprocessing(
    mean=(0.5, 0.25, 0.125), std=(0.5,) * 3, crop=0.75, crop_mode="center", interpolation="lanczos"
)


@pytest.mark.parametrize("library", ["transformers", "timm", "plain"])
def test_what_the_user_says_of_photos_goes_before_what_lies_beside(
    library: str, published: Path, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = plain if library == "plain" else published / library
    size = ["--image", "64"] if library == "plain" else []
    found = inspected(capsys, weights, *size, *SAID)
    steps = {k: tuple(v) if isinstance(v, list) else v for k, v in found["preprocessing"].items()}
    assert Preprocessing(**steps) == STEPS
    notes = "; ".join(found["notes"])
    assert "mean 0.5, 0.25, 0.125 as you say, in place of" in notes
    assert "interpolation lanczos as you say, in place of bicubic" in notes
    assert "--mean 0.5,0.25,0.125 --std 0.5 --crop 0.75" in found["next"]


def test_what_was_said_already_is_no_news() -> None:
    heard: list[str] = []
    said = Meaning(mean=IMAGENET.mean, crop=IMAGENET.crop)
    assert photo_steps(said, IMAGENET, 3, heard.append) == IMAGENET
    assert heard == []


@pytest.mark.parametrize("name", ["mean", "std"])
def test_as_many_values_as_channels(name: str) -> None:
    values: Any = {name: (0.5, 0.5)}
    with pytest.raises(ConfigError, match=rf"--{name} has 2 values, and the network takes 3"):
        photo_steps(Meaning(**values), IMAGENET, 3, lambda text: None)


@pytest.mark.parametrize("said", [["--mean", "a,b"], ["--std", "nan"], ["--crop", "0"]])
def test_numbers_that_are_none(
    said: list[str], plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, 2, "inspect", str(plain), "--image", "64", *said)


def test_a_std_that_divides_by_nothing(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "std above 0" in refused(capsys, 2, "inspect", str(plain), "--image", "64", "--std", "0")


@pytest.mark.parametrize("said", [["--mean", "0.5"], ["--classes", "names"]])
def test_what_is_said_of_weights_that_are_not_given(
    said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(capsys, 2, "export", "--variant", "swin_pocket", *said)
    assert f"{said[0]} is for weights, and none are given" in text


def test_names_of_the_user_go_before_those_of_the_folder(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = as_text([f"mine {i}" for i in range(5)], tmp_path / "names.txt")
    found = inspected(capsys, published / "transformers", "--classes", str(names))
    assert found["labels"][0] == "mine 0"
    (note,) = [note for note in found["notes"] if "names of classes as you say" in note]
    assert "class 0 is 'mine 0', not 'class 0'" in note


ENTRIES: dict[str, Any] = {
    "classes": list(NAMES),
    "class_names": NAMES,
    "idx_to_class": dict(enumerate(NAMES)),
    "class_to_idx": OrderedDict((name, index) for index, name in enumerate(NAMES)),
    "id2label": {str(index): name for index, name in enumerate(NAMES)},
    "CLASSES": NAMES,
    "meta": {"CLASSES": NAMES, "epoch": 3},
    "hyper_parameters": {"class_names": list(NAMES)},
    "args": argparse.Namespace(lr=0.1, classes=list(NAMES)),
}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("entry", ENTRIES)
def test_names_beside_the_tensors_of_a_file(
    entry: str,
    wrapped: bool,
    tensors: dict[str, torch.Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner = {"model": tensors} if wrapped else tensors
    torch.save(inner | {entry: ENTRIES[entry]}, tmp_path / "own.pth")
    found = inspected(capsys, tmp_path / "own.pth", "--image", "64")
    assert found["labels"] == list(NAMES)
    assert any("names of its classes are in its entry" in note for note in found["notes"])


def test_names_that_are_not_as_many_are_not_used_and_said(
    tensors: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": tensors, "classes": ["a", "b"]}, tmp_path / "own.pth")
    found = inspected(capsys, tmp_path / "own.pth", "--image", "64")
    assert found["labels"] == []
    assert (
        "its entry classes has 2 names, and the network has 3 classes: they are not used"
        in (found["notes"])
    )


@pytest.mark.parametrize("name", ["model.safetensors", "model.fp16.safetensors"])
def test_a_file_of_a_folder_is_read_as_the_folder(
    name: str, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(published / "transformers", tmp_path / "copy"))
    expected = inspected(capsys, folder)
    if name != "model.safetensors":
        (folder / "model.safetensors").rename(folder / name)
    found = inspected(capsys, folder / name)
    for key in ("preprocessing", "labels", "config"):
        assert found[key] == expected[key]
    assert found["labels"][0] == "class 0"


# What a processor of transformers says, beside what it then computes.
PROCESSORS: dict[str, dict[str, Any]] = {
    "null mean": {"image_mean": None, "image_std": None},
    "one number": {"image_mean": 0.5, "image_std": 0.25},
    "no mean": {"do_normalize": False},
    "no scale": {"do_rescale": False, "image_mean": [100.0, 110, 120], "image_std": [50.0, 60, 70]},
    "another scale": {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    "neither": {"do_rescale": False, "do_normalize": False},
    "lanczos": {"resample": 1},
    "null scale": {"do_rescale": None},
    "null steps": {"do_rescale": None, "do_normalize": None, "do_center_crop": None},
    "null filter": {"resample": None, "rescale_factor": None},
    "null size": {"size": None},
}


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "ViTImageProcessorFast"])
@pytest.mark.parametrize("case", PROCESSORS)
def test_processors_of_transformers_do_what_is_read_of_them(
    case: str, kind: str, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    folder = Path(shutil.copytree(published / "transformers", tmp_path / "copy"))
    said = {"image_processor_type": kind, "size": {"height": 32, "width": 32}} | PROCESSORS[case]
    as_json(said, folder / "preprocessor_config.json")
    photo = tmp_path / "photo.png"
    side = 224 if case == "null size" else 32
    if case == "null size":  # as wide as the default of its class, which no resize changes
        edit(folder / "config.json", image_size=224)
    pixels = np.random.default_rng(0).integers(0, 256, (side + 8, side + 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    # Version 5 refuses null for these, before it was the default of the class.
    nulls = ("image_mean", "image_std", "size", "resample", "rescale_factor")
    taken = {key: value for key, value in said.items() if key not in nulls or value is not None}
    theirs = ViTImageProcessorPil(**taken)(Image.fromarray(pixels), return_tensors="np")
    (theirs,) = theirs["pixel_values"]

    steps = inspected(capsys, folder)["preprocessing"]
    own = Preprocessing(**{k: tuple(v) if isinstance(v, list) else v for k, v in steps.items()})
    ours = load_photo(photo, (side, side), own)
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=2e-6 * scale, rtol=1e-5)


@pytest.mark.parametrize("said", [{"do_resize": False}, {"do_resize": None}, {"do_pad": True}])
def test_what_gives_images_of_no_fixed_size_is_refused_by_name(
    said: dict[str, Any], published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(published / "transformers", tmp_path / "copy"))
    path = folder / "preprocessor_config.json"
    as_json(json.loads(path.read_text()) | said, path)
    assert next(iter(said)) in refused(capsys, 3, "inspect", str(folder))


def test_lanczos_is_pillows(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    steps = Preprocessing(
        mean=(0.0,) * 3, std=(1.0,) * 3, crop=1.0, crop_mode="squash", interpolation="lanczos"
    )
    found = load_photo(tmp_path / "photo.png", (16, 16), steps)
    resized = Image.fromarray(pixels).resize((16, 16), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(found.transpose(1, 2, 0) * 255, np.asarray(resized), atol=1e-4)
    other = load_photo(tmp_path / "photo.png", (16, 16), replace(steps, interpolation="bicubic"))
    assert not np.allclose(found, other)


def test_timm_may_say_lanczos(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(published / "timm", tmp_path / "copy"))
    content = json.loads((folder / "config.json").read_text())
    content["pretrained_cfg"]["interpolation"] = "lanczos"
    as_json(content, folder / "config.json")
    assert inspected(capsys, folder)["preprocessing"]["interpolation"] == "lanczos"


def test_a_mean_of_pixels_up_to_255_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(small_timm().state_dict(), tmp_path / "x.pth")
    told = ["--image", "64", "--mean", "127.5", "--std", "0.5"]
    assert cli.run(["inspect", str(tmp_path / "x.pth"), *told]) == 2
    assert "--mean 0.5, if these are of pixels up to 255" in capsys.readouterr().err
