"""Config files and requests: everything wrong is named, nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import CIFAR, POCKET
from swin_deploy.core.errors import ConfigError
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline.request import ExportRequest, Int8Options, read_config


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_cifar_example_reads_back() -> None:
    assert CIFAR.config.image_size == (32, 32)
    assert CIFAR.config.depths == (2, 2, 18)
    assert CIFAR.preprocessing.mean == (0.4914, 0.4822, 0.4465)


def test_the_name_is_the_files_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "embed_dim = 48")).name == "mine"
    assert read_config(write(tmp_path, "name = 'other'")).name == "other"


def test_a_rectangle_and_an_override(tmp_path: Path) -> None:
    path = write(tmp_path, "image_size = [224, 448]")
    assert read_config(path).config.image_size == (224, 448)
    assert read_config(path, (448, 224)).config.image_size == (448, 224)


@pytest.mark.fault(44)
def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        windowsize = 7
        embed_dim = "96"
        depths = [2, 2.5]
        qkv_bias = 1
        [preprocessing]
        interpolation = "nearest"
        """,
    )
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    for part in (
        "unknown key windowsize (did you mean window_size?)",
        "embed_dim = '96': input should be a valid integer",
        "depths.1 = 2.5",
        "qkv_bias = 1: input should be a valid boolean",
        "preprocessing.interpolation = 'nearest'",
    ):
        assert part in caught.value.problem
    assert "window_size" in caught.value.hint


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("embed_dim = ", "is not TOML"),
        ("", "describes no network"),
        ("num_classes = -1", r"mine\.toml: num_classes = -1 must not be negative"),
        ("[preprocessing]\nmean = [nan, 0.5, 0.5]", "have to be finite"),
        ("preprocessing = 3", "preprocessing"),
        ("in_channels = 1", "in_channels = 1, but preprocessing.mean has 3 values"),
        ("[preprocessing]\nstd = [0.1, 0.1, 0.0]", "std above 0"),
        ("[preprocessing]\ncrop = 2.0", "crop = 2.0"),
    ],
)
def test_what_cannot_be_a_network_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(write(tmp_path, text))


@pytest.mark.fault(44)
def test_binary_junk_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "junk.toml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match="is not TOML"):
        read_config(path)


@pytest.mark.fault(44)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, -1), (4, 2), (1, 5000)])
def test_a_batch_out_of_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(ConfigError, match="is not a range"):
        BatchRange(low=low, high=high)


@pytest.mark.parametrize(
    ("low", "high", "sizes"),
    [(1, 1, (1, 3)), (16, 16, (16, 18)), (1, 4, (1, 2, 3, 4)), (3, 10, tuple(range(3, 11)))],
)
def test_every_run_is_verified_at_two_sizes_or_more(
    low: int, high: int, sizes: tuple[int, ...]
) -> None:
    assert BatchRange(low=low, high=high).checked_sizes() == sizes


def test_of_a_large_range_the_ends_and_other_sizes_every_time() -> None:
    batch = BatchRange(low=1, high=64)
    drawn = {batch.checked_sizes(seed) for seed in range(40)}
    assert len(drawn) > 30
    assert all(sizes[0] == 1 and sizes[-1] == 64 and len(set(sizes)) == 5 for sizes in drawn)
    assert batch.checked_sizes(7) == batch.checked_sizes(7)
    assert len({size for sizes in drawn for size in sizes}) > 40


def test_a_request_is_checked_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed -1"):
        ExportRequest(variant=POCKET, out=tmp_path, seed=-1)
    with pytest.raises(ConfigError, match="image height 65"):
        ExportRequest(variant=POCKET.with_image_size((65, 64)), out=tmp_path)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"max_drop": 1.0}, "--max-drop is of labelled images"),
        ({"max_drop": 101.0, "labelled": Path("photos")}, "from 0 to 100"),
        ({"method": "guess"}, "no calibration method 'guess'"),
        ({"images": 0}, "calibration on 0 images"),
    ],
)
def test_options_of_int8_that_mean_nothing_are_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Int8Options(**given)
