"""Labelled photos: which class each one shows is known for certain, or they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.data.classes import match_classes, parse_class_names
from swin_deploy.data.labelled import LabelledSet, find_labelled, read_labelled
from swin_deploy.network.interface import Preprocessing

SIZE = (8, 8)
PLAIN = Preprocessing(crop=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
ANIMALS = ("dog", "great white shark", "cat")

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A folder with two photos in each folder that is named; the red of each tells it apart."""

    def make(*folders: str, photos: int = 2) -> Path:
        for number, folder in enumerate(folders):
            (tmp_path / "photos" / folder).mkdir(parents=True)
            for index in range(photos):
                photo = Image.new("RGB", SIZE, (10 * number + index, 0, 0))
                photo.save(tmp_path / "photos" / folder / f"{index}.png")
        return tmp_path / "photos"

    return make


def classes_of(found: LabelledSet) -> dict[str, int]:
    """Folder or photo -> class."""
    names = [image.name for image in found.sample.images]
    return {n.partition("/")[0]: c for n, c in zip(names, found.labels, strict=True)}


def test_folders_are_names_of_classes(tree: Tree) -> None:
    found = find_labelled(tree("cat", "Dog", "great_white_shark"), 3, ANIMALS)
    assert classes_of(found) == {"cat": 2, "Dog": 0, "great_white_shark": 1}
    assert found.notes == ()


def test_folders_are_numbers_of_classes(tree: Tree) -> None:
    """By number and not by order, in which 10 would come before 9."""
    found = find_labelled(tree("9", "10", "007"), 11)
    assert classes_of(found) == {"9": 9, "10": 10, "007": 7}
    assert found.notes == ("the labelled photos show 3 of the 11 classes",)
    assert match_classes(["2"], 3, ANIMALS, "x") == {"2": 2}


def test_numbers_are_read_as_names_where_they_are_names() -> None:
    assert match_classes(["1990", "1991"], 2, ["1991", "1990"], "x") == {"1990": 1, "1991": 0}


def test_unknown_folders_are_classes_in_order(tree: Tree) -> None:
    found = find_labelled(tree("n02", "n01", "N03"), 3)
    assert classes_of(found) == {"N03": 0, "n01": 1, "n02": 2}
    assert found.notes == ("class folders count in sorted order: N03 is class 0, n02 the last",)


def test_the_order_goes_before_names_and_numbers_where_it_is_asked_for(tree: Tree) -> None:
    photos = tree("0", "10", "9")
    assert classes_of(find_labelled(photos, 3, sorted_folders=True)) == {"0": 0, "10": 1, "9": 2}


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("folders", "classes", "names", "reason"),
    [
        (("cta", "dog"), 3, ANIMALS, "1 of 2 labels in .* has 3: 'cta' is no class .nearest: 'cat"),
        (("n01", "n02"), 3, ANIMALS, "2 of 2 labels .*'n01' is no class; 'n02' is no class"),
        (("n01", "n02"), 3, (), "'n01' is no number from 0 to 2; 'n02' is no number"),
        (("1", "7"), 3, (), "1 of 2 labels .*'7' is no number from 0 to 2"),
        (("1", "7"), 3, ANIMALS, "1 of 2 labels .*'7' is no number from 0 to 2"),
        (("0", "1", "two"), 3, (), "1 of 3 labels .*'two' is no number"),  # 3 folders, 3 classes
        (("cat", "2"), 3, ANIMALS, "1 of 2 labels .*'2' is no class"),
        (("crane",), 2, ("crane", "Crane"), "'crane' is the name of classes 0 and 1"),
        (("0", "1"), 2, ("1", "0"), "'0' is the name of class 1 and the number of class 0"),
        (("cat",), 2, ANIMALS, "3 names of classes are known, and the network has 2"),
    ],
)
def test_folders_that_are_not_the_classes_are_refused(
    tree: Tree, folders: tuple[str, ...], classes: int, names: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        find_labelled(tree(*folders), classes, names)
    assert caught.value.exit_code == 3


@pytest.mark.fault(30)
def test_only_the_first_mismatches_are_listed() -> None:
    with pytest.raises(InputError, match=r"8 of 8 .*'4' is no number .*, and 3 more") as caught:
        match_classes([*"23456789"], 2, (), "x")
    assert "--images" in caught.value.hint


def test_an_order_needs_as_many_folders_as_classes(tree: Tree) -> None:
    photos = tree("a", "b")
    with pytest.raises(InputError, match="2 class folders, and the network has 3 classes"):
        find_labelled(photos, 3, sorted_folders=True)
    (photos / "c").mkdir()
    with pytest.raises(InputError, match="hold no photos: c"):
        find_labelled(photos, 3, sorted_folders=True)


def test_photos_outside_of_class_folders_are_refused(tree: Tree) -> None:
    photos = tree("0", "1")
    Image.new("RGB", SIZE).save(photos / "loose.png")
    with pytest.raises(InputError, match=r"1 of 5 photos .* lie in no class folder: loose.png"):
        find_labelled(photos, 2)


def test_a_list_has_a_label_a_line(tree: Tree, tmp_path: Path) -> None:
    tree("a b", "c")
    text = (
        "\ufeff# path and label\r\n"
        "photos/a b/0.png 2\r\n"
        "photos/a b/1.png\t1\r\n"
        '"photos/c/0.png" great white shark\r\n'
        "\r\n"
        'photos/c/1.png\t"cat"\r\n'
    )
    mixed, names = tmp_path / "mixed.txt", tmp_path / "names.txt"
    mixed.write_bytes("\n".join(text.splitlines()[:3]).encode())
    names.write_bytes(("\ufeff" + "\r\n".join(text.splitlines()[3:])).encode())
    found = find_labelled(mixed, 3)
    assert [image.name for image in found.sample.images] == ["photos/a b/0.png", "photos/a b/1.png"]
    assert found.labels == (2, 1)
    assert find_labelled(names, 3, ANIMALS).labels == (1, 2)


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("photos/0/0.png", "1 of 1 lines in .* have no label: line 1"),
        ("photos/0/0.png 1\nphotos/0/9.png 1", "1 are no files: photos/0/9.png .line 2"),
        ("photos/0/0.png 1\nphotos/0/0.png 0", "0.png is 1 and, in line 2, 0"),
        ("photos/0/0.png 2", "'2' is no number from 0 to 1"),
        ("# nothing", "lists no photos"),
    ],
)
def test_a_list_that_does_not_say_is_refused(
    tree: Tree, tmp_path: Path, lines: str, reason: str
) -> None:
    tree("0")
    path = tmp_path / "list.txt"
    path.write_text(lines)
    with pytest.raises(InputError, match=reason):
        find_labelled(path, 2)


def test_a_list_has_no_folders_to_sort(tree: Tree, tmp_path: Path) -> None:
    tree("0")
    path = tmp_path / "list.txt"
    path.write_text("photos/0/0.png 0")
    with pytest.raises(ConfigError, match="no folders to sort"):
        find_labelled(path, 1, sorted_folders=True)


def test_batches_keep_images_and_labels_together(tree: Tree) -> None:
    """A photo that cannot be read takes its label with it."""
    photos = tree(*"012", photos=10)
    (photos / "1" / "0.png").write_text("no photo")
    found = find_labelled(photos, 3)
    notes: list[str] = []
    batches = list(read_labelled(found, SIZE, PLAIN, 4, notes.append))
    assert [len(images) for images, _ in batches] == [4] * 7 + [1]
    reds = np.concatenate([images[:, 0, 0, 0] for images, _ in batches]) * 255
    labels = np.concatenate([labels for _, labels in batches])
    assert np.array_equal(np.rint(reds) // 10, labels)
    assert len(labels) == 29
    assert len(notes) == 1
    assert notes[0].startswith("left out of the measurement")


def test_a_sample_keeps_its_labels(tree: Tree) -> None:
    photos = tree(*"012", photos=10)
    some = find_labelled(photos, 3, count=7, seed=1)
    assert len(some.sample) == len(some.labels) == 7
    assert [int(image.name[0]) for image in some.sample.images] == list(some.labels)
    assert some == find_labelled(photos, 3, count=7, seed=1)


def test_the_identity_holds_the_labels(tree: Tree, tmp_path: Path) -> None:
    tree("0")
    path = tmp_path / "list.txt"
    digests = []
    for label in (0, 1):
        path.write_text(f"photos/0/0.png {label}")
        digests.append(find_labelled(path, 2).identity(SIZE, PLAIN))
    assert digests[0]["images"] == digests[1]["images"]
    assert digests[0]["labels"] != digests[1]["labels"]


@pytest.mark.parametrize("content", ["{", '{"0": "cat"}', "[1, 2]"])
def test_names_of_classes_are_a_list(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(InputError):
        parse_class_names(path.read_bytes(), path)


SYNSETS = ("n01440764", "n01443537", "n01484850")


def class_map(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "synsets.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_synset_ids_of_all_classes_count_in_sorted_order(tree: Tree) -> None:
    """With the names of the classes known, too, which are none of them."""
    found = find_labelled(tree(*reversed(SYNSETS)), 3, ANIMALS)
    assert classes_of(found) == dict(zip(SYNSETS, range(3), strict=True))
    assert found.notes == (
        "synset ids count in sorted order: n01440764 is class 0, n01484850 the last",
    )
    named = find_labelled(found.sample.source, 3, SYNSETS[::-1])
    assert classes_of(named) == dict(zip(SYNSETS, (2, 1, 0), strict=True))


def test_some_synset_ids_take_a_class_map(tree: Tree, tmp_path: Path) -> None:
    source = tree(*SYNSETS[:2])
    with pytest.raises(InputError, match=r"2 synset ids, and the network has 3.*--class-map"):
        find_labelled(source, 3, ANIMALS)
    known = class_map(
        tmp_path, "n01484850 great white shark", "n01443537", "n01440764 tench, Tinca"
    )
    assert classes_of(find_labelled(source, 3, ANIMALS, class_map=known)) == {
        "n01440764": 2,
        "n01443537": 1,
    }
    keras = tmp_path / "imagenet_class_index.json"
    keras.write_text(json.dumps({str(i): [s, "x"] for i, s in enumerate(SYNSETS)}))
    by_keras = {"n01440764": 0, "n01443537": 1}
    assert classes_of(find_labelled(source, 3, class_map=keras)) == by_keras


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (SYNSETS[:2], "has 2 classes, and the network has 3"),
        ((*SYNSETS[:2], SYNSETS[0]), "has 'n01440764' twice"),
        (("n1", "n2", "n3"), "2 of 2 labels in .* are not in the class map: 'n01440764', 'n014435"),
    ],
)
def test_class_maps_of_something_else_are_refused(
    lines: tuple[str, ...], message: str, tree: Tree, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        find_labelled(tree(*SYNSETS[:2]), 3, class_map=class_map(tmp_path, *lines))


@pytest.mark.parametrize("text", ["{", "[]", '{"0": "n01440764"}', '{"1": ["a"]}'])
def test_damaged_class_indices_are_refused(text: str, tree: Tree, tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"index\.json"):
        find_labelled(tree(*SYNSETS[:2]), 3, class_map=path)


def test_a_flat_folder_with_a_list_elsewhere(tree: Tree, tmp_path: Path) -> None:
    source = tree("val")
    listed = tmp_path / "val_map.txt"
    listed.write_text("val/0.png n01443537\nval/1.png n01440764\n")
    known = class_map(tmp_path, *SYNSETS)
    found = find_labelled(source, 3, labels=listed, class_map=known)
    assert found.labels == (1, 0)
    listed.write_text("val/0.png 2\nval/7.png 1\n")
    with pytest.raises(InputError, match=rf"val/7.png \(line 2\).*relative to {source}"):
        find_labelled(source, 3, labels=listed)
    with pytest.raises(ConfigError, match="is no folder"):
        find_labelled(listed, 3, labels=listed)


def test_the_numbers_of_the_development_kit_are_refused(tree: Tree, tmp_path: Path) -> None:
    listed = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    listed.write_text("490\n361\n")
    with pytest.raises(InputError, match=r"2 numbers and names no photos.*meta.mat"):
        find_labelled(tree("val"), 1000, labels=listed)
