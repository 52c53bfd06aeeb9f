"""Photos with the class that they show: a folder of class folders, or a text list."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import digest
from swin_deploy.data.classes import WITHOUT_LABELS, is_number, match_classes
from swin_deploy.data.images import list_photos, require_photos
from swin_deploy.data.samples import (
    ImageSample,
    folder_of,
    in_batches,
    read_images,
    require_count,
    sample_files,
)
from swin_deploy.data.sources import read_lines, require_files
from swin_deploy.data.synsets import are_synsets, match_class_map, order_synsets, read_class_map
from swin_deploy.network.interface import Preprocessing, Size
from swin_deploy.network.judge import FloatArray

Classes = NDArray[np.int64]
_PURPOSE = "measurement"
_HINT = "a folder of class folders, or a text file with one path and its label a line"
_QUOTED = re.compile(r'"([^"]+)"\s+(\S.*)')


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """A sample of labelled photos.

    Attributes:
        sample: The photos.
        labels: The class of each of them.
        notes: What is worth saying of it.
    """

    sample: ImageSample
    labels: tuple[int, ...]
    notes: tuple[str, ...]

    def identity(self, size: Size, preprocessing: Preprocessing) -> dict[str, Any]:
        """All that images and labels depend on, JSON-able."""
        return self.sample.identity(size, preprocessing) | {"labels": digest(self.labels)}


def find_labelled(
    source: Path,
    classes: int,
    names: Sequence[str] = (),
    count: int | None = None,
    seed: int = 0,
    *,
    sorted_folders: bool = False,
    labels: Path | None = None,
    class_map: Path | None = None,
) -> LabelledSet:
    """Find the labelled photos in ``source``, and the index of each one's class.

    Class folders and labels are names of classes or their numbers, as ``match_classes`` reads
    them, or what ``class_map`` calls them; or the synset ids of all classes, in sorted order. Other
    folders are classes 0, 1, ... in sorted order, as in torchvision's ``ImageFolder``, where that
    is asked for; or where no names are known, no folder is a number and there are as many folders
    as classes.

    Args:
        source: A folder with a folder for each class; or a text file with a path, relative to the
            file, and a label a line, apart by a tab or else by the line's last space. A path
            before a label with spaces is in double quotes.
        classes: How many the network has.
        names: Of its classes, by index, where they are known.
        count: At most so many photos; None for all.
        seed: Of the sample.
        sorted_folders: Whatever they are called, folders are classes in sorted order.
        labels: A list, as ``source`` may be one, whose paths are relative to the folder ``source``.
        class_map: As ``read_class_map`` reads it.

    Raises:
        ConfigError: ``count``, ``seed``, ``sorted_folders`` or ``labels`` means nothing.
        InputError: The source is missing, empty or damaged, or its labels are not the classes.
    """
    require_count(_PURPOSE, count, seed)
    listed = labels or source
    texts = _look_at(source, labels, sorted_folders) or _from_folders(source)
    used = [*dict.fromkeys(texts.values())]
    note = ""
    if class_map is not None:
        known = match_class_map(used, read_class_map(class_map, classes), str(listed))
    elif not sorted_folders and are_synsets(used) and not set(used) <= set(names):
        known, note = order_synsets(used, classes, str(listed))
    elif listed.is_dir():
        known, note = _match_folders(source, texts, classes, names, sorted_folders)
    else:
        known = match_classes(used, classes, names, str(listed))
    sample = sample_files(source, list(texts), _PURPOSE, count, seed)
    numbers = tuple(known[texts[image.name]] for image in sample.images)
    notes = [*sample.notes, *([note] if note else [])]
    if (seen := len(set(numbers))) < classes:
        notes.append(f"the labelled photos show {seen} of the {classes} classes")
    return LabelledSet(replace(sample, notes=()), numbers, tuple(notes))


def require_labelled(
    source: Path,
    *,
    sorted_folders: bool = False,
    labels: Path | None = None,
    class_map: Path | None = None,
) -> None:
    """Check that there are labelled photos, without reading one and whatever the classes are.

    Arguments and errors of ``find_labelled``.
    """
    if _look_at(source, labels, sorted_folders) is None:
        require_photos(source)
    if class_map is not None:
        read_class_map(class_map)


def _look_at(source: Path, labels: Path | None, sorted_folders: bool) -> dict[str, str] | None:
    """Photo -> label, as a list has them; None of class folders."""
    if not source.exists():
        raise InputError(f"{source} does not exist", _HINT)
    if labels is not None and not source.is_dir():
        raise ConfigError(f"{source} is no folder, and {labels} lists photos in one", "the folder")
    listed = labels or source
    if listed.is_dir():
        return None
    if sorted_folders:
        raise ConfigError(f"{listed} is a list, which has no folders to sort", "--labelled alone")
    return _from_list(listed, folder_of(source))


def read_labelled(
    labelled: LabelledSet,
    size: Size,
    preprocessing: Preprocessing,
    batch: int = 1,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[FloatArray, Classes]]:
    """Images (b, channels, H, W) float32 and their classes (b,), ``batch`` at a time.

    Arguments and errors of ``read_images``.
    """
    for held in in_batches(read_images(labelled.sample, size, preprocessing, note), batch):
        positions, images = zip(*held, strict=True)
        yield np.stack(images), np.array([labelled.labels[at] for at in positions], np.int64)


def _from_folders(source: Path) -> dict[str, str]:
    """Photo -> name of its class folder."""
    names = [path.relative_to(source) for path in list_photos(source)]
    loose = [name for name in names if len(name.parts) == 1]
    if loose:
        first = ", ".join(str(name) for name in loose[:3])
        raise InputError(
            f"{len(loose)} of {len(names)} photos in {source} lie in no class folder: {first}",
            f"{_HINT}; {WITHOUT_LABELS}",
        )
    return {name.as_posix(): name.parts[0] for name in names}


def _match_folders(
    source: Path, texts: dict[str, str], classes: int, names: Sequence[str], in_order: bool
) -> tuple[dict[str, int], str]:
    """Folder -> class, and what to say of it."""
    used = sorted(set(texts.values()))
    folders = sorted(p.name for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    numbers = any(is_number(folder) for folder in used)
    if not in_order and (names or numbers or len(folders) != classes):
        return match_classes(used, classes, names, str(source)), ""
    if len(folders) != classes:
        raise InputError(
            f"{source} has {len(folders)} class folders, and the network has {classes} classes: "
            "their order does not tell which is which",
            f"folders called by the number of their class; {WITHOUT_LABELS}",
        )
    if empty := sorted(set(folders) - set(used)):
        raise InputError(f"class folders in {source} hold no photos: {', '.join(empty[:5])}", _HINT)
    note = f"class folders count in sorted order: {folders[0]} is class 0, {folders[-1]} the last"
    return {folder: index for index, folder in enumerate(folders)}, note


def _from_list(source: Path, folder: Path) -> dict[str, str]:
    """Photo, relative to ``folder``, -> label."""
    read = read_lines(source)
    if all(is_number(line) for _, line in read):
        raise InputError(
            f"{source} has {len(read)} numbers and names no photos, as the ground truth of "
            "ImageNet's development kit has, whose numbers are not those of the classes",
            "a list of photos with their synset ids (val_map.txt), made with the kit's meta.mat",
        )
    lines = [(number, _split(line)) for number, line in read]
    bare = [f"line {number}" for number, pair in lines if pair is None]
    if bare:
        raise InputError(
            f"{len(bare)} of {len(lines)} lines in {source} have no label: {', '.join(bare[:5])}",
            f"{_HINT}; {WITHOUT_LABELS}",
        )
    rows = [(number, *pair) for number, pair in lines if pair is not None]
    require_files(source, [(number, name) for number, name, _ in rows], folder)
    found: dict[str, str] = {}
    clashes = []
    for number, name, label in rows:
        if found.setdefault(name, label) != label:
            clashes.append(f"{name} is {found[name]} and, in line {number}, {label}")
    if clashes:
        raise InputError(f"{source} contradicts itself: {'; '.join(clashes[:5])}")
    return found


def _split(line: str) -> tuple[str, str] | None:
    if "\t" in line:
        name, _, label = line.rpartition("\t")
    elif (quoted := _QUOTED.fullmatch(line)) is not None:
        name, label = quoted.groups()
    else:
        name, _, label = line.rpartition(" ")
    name, label = (text.strip().removeprefix('"').removesuffix('"') for text in (name, label))
    return (name, label) if name and label else None
