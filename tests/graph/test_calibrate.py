"""Calibration counts what a network computes: every image alike, and in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from swin_deploy.core.errors import InputError
from swin_deploy.graph.int8 import CALIBRATION_METHODS
from swin_deploy.graph.int8.observe import collect_statistics
from swin_deploy.graph.int8.thresholds import measure_tensor
from swin_deploy.pipeline.run import RunResult
from toy_graphs import IMAGES, assert_same, batches_of, collect, products

HIDDEN = np.maximum(IMAGES, 0)


@pytest.mark.fault(29)
@pytest.mark.parametrize("given", [1, 3, 10])
@pytest.mark.parametrize("batch", ["b", 1, 3, 4, 16])
def test_every_image_counts_alike(
    toy: Callable[[int | str], Path], batch: int | str, given: int
) -> None:
    """Those left over of a static batch too: 10 images make 3 batches of 3 and one of 1."""
    found = collect(toy(batch), batches_of(given))
    factor = batch if isinstance(batch, int) else 1
    assert_same(found, {"hidden": measure_tensor(HIDDEN, 10)}, factor)
    for method in CALIBRATION_METHODS:
        expected = measure_tensor(HIDDEN, 10).threshold(method)
        assert found["hidden"].threshold(method) == expected


def test_inputs_and_outputs_are_tensors_too(toy: Callable[[int | str], Path]) -> None:
    names = ["image", "logits", "hidden", "hidden"]
    found = collect_statistics(toy("b"), names, batches_of(2), None, {})
    assert list(found) == ["image", "logits", "hidden"]
    assert_same({"image": found["image"]}, {"image": measure_tensor(IMAGES, 10)})
    assert found["logits"].counts.sum() == 10 * 2 * 2


def test_progress_is_told(toy: Callable[[int | str], Path]) -> None:
    said: list[tuple[str, int, int]] = []
    collect(toy(4), batches_of(5), None, {}, lambda *told: said.append(told), total=10)
    assert said == [("calibration", done, 10) for done in (4, 8, 9, 10)]


def test_the_graph_is_left_as_it_was(toy: Callable[[int | str], Path]) -> None:
    before = toy().read_bytes()
    collect(toy(), batches_of(2))
    assert toy().read_bytes() == before


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (["hidden", "hiden", "other"], "has 2 of 3 tensors not: hiden, other"),
        (["w"], "has 1 of 1 tensors not: w"),
        (["axis"], "not an ONNX model that ONNX Runtime runs"),  # of integers
    ],
)
def test_what_is_no_activation_is_refused(
    toy: Callable[[int | str], Path], tensors: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        collect_statistics(toy(), tensors, batches_of(2), None, {})


@pytest.mark.fault(31)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_named(
    toy: Callable[[int | str], Path], bad: float
) -> None:
    images = IMAGES.copy()
    images[6, 0, 0, 0] = bad
    with pytest.raises(InputError, match=r"logits .* image 7:"):
        collect_statistics(toy("b"), ["logits"], batches_of(4, images), None, {})
    with pytest.raises(InputError, match=r"logits .* image 5 to 8:"):
        collect_statistics(toy(4), ["logits"], batches_of(4, images), None, {})


@pytest.mark.parametrize("content", [None, b"", b"junk", b"<html>"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(InputError):
        collect(tmp_path / "x.onnx", batches_of(2))


def test_no_images_and_images_of_another_size_are_refused(
    toy: Callable[[int | str], Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no calibration images"):
        collect(toy(), lambda: iter(()), tmp_path / "cache.npz", {})
    assert not (tmp_path / "cache.npz").exists()
    with pytest.raises(Exception, match=r"\(1, 2, 3\), got \(1, 2, 2\)") as caught:
        collect(toy(), batches_of(2, IMAGES[..., :2]))
    assert caught.value.exit_code == 2  # type: ignore[attr-defined]


MEMORY = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import numpy as np
    from swin_deploy.graph.int8.observe import collect_statistics

    graph, count, *tensors = sys.argv[1:]
    batches = lambda: (np.full((4, 3, 64, 64), i, dtype=np.float32) for i in range(int(count)))
    collect_statistics(Path(graph), tensors, batches, None, {})
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    """
)


@pytest.mark.fault(37)
def test_memory_does_not_grow_with_the_images(pocket_run: RunResult) -> None:
    """All tensors of 400 images of this network are 570 MB."""
    graph = pocket_run.path / "model.onnx"
    kib = [
        int(
            subprocess.run(
                [sys.executable, "-c", MEMORY, str(graph), str(count), *products(graph)],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
        )
        for count in (3, 100)
    ]
    assert kib[1] - kib[0] < 64 * 1024
