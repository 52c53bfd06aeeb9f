"""What several test files share: small networks, photos, and exports that are made once."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import parity
from mnist import find_mnist_5k, load_mnist_5k, split_held_out
from swin_deploy.engine.runners.cuda import device_problem
from swin_deploy.network.catalogue import VARIANTS, Variant
from swin_deploy.network.checkpoints.dialects import TIMM
from swin_deploy.network.checkpoints.hub import bundled_weights
from swin_deploy.network.checkpoints.options import LoadOptions
from swin_deploy.network.checkpoints.reimplementations import BERNIWAL, CSM_KR
from swin_deploy.network.checkpoints.resolve import resolve_variant
from swin_deploy.network.checkpoints.source import Source
from swin_deploy.network.interface import BatchRange, Preprocessing
from swin_deploy.network.swin import Semantics, SwinConfig
from swin_deploy.network.vit import VitConfig
from swin_deploy.pipeline.request import ExportRequest, Int8Options, read_config
from swin_deploy.pipeline.run import RunResult, run_export

ROOT = Path(__file__).parent.parent
# Of tests/support: fixtures of several files.
pytest_plugins = (
    *("bundles", "cuda_shim", "echoes", "evaluations", "gates", "masked_runs"),
    *("measured_runs", "sensitivities", "toy_graphs"),
)

# Every form of block, at pocket size: shifted windows, a stage that is one window, two merges.
POCKET = Variant(
    config=SwinConfig(
        name="pocket",
        image_size=(64, 64),
        embed_dim=16,
        depths=(2, 2, 2),
        num_heads=(1, 2, 4),
        window_size=4,
        num_classes=7,
    ),
    preprocessing=Preprocessing(crop=1.0),
)
# Windows that are not square: along the second stage's shorter axis nothing shifts.
OBLONG = Variant(
    config=SwinConfig(
        name="oblong",
        image_size=(32, 64),
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
        num_classes=5,
    )
)
# Grids 15x18, 8x9 and 4x5 in windows of 4: padded, halved with a row or a column of zeros.
PADS = {
    "before": Semantics(
        patch_remainder="pad",
        padding="before_roll",
        small_grids="pad",
        stop_shift="never",
        merge_order="channels",
    ),
    "after": Semantics(patch_remainder="drop", padding="after_roll", merge_order="rows"),
}
PADDED = {
    f"padded-{when}-v{version}": replace(
        POCKET,
        config=replace(
            POCKET.config,
            name=f"padded-{when}-v{version}",
            image_size=(60, 70),
            version=version,
            semantics=semantics,
            stage_norms=(0, 2) if when == "before" else (),
        ),
    )
    for when, semantics in PADS.items()
    for version in (1, 2)
}
COSINE = replace(
    POCKET,
    config=replace(
        POCKET.config, name="cosine", version=2, pretrained_window_sizes=(3, 3, 2), qkv_bias=True
    ),
)
PLAIN = replace(POCKET, config=replace(POCKET.config, name="plain", position_bias=False))
# Parts and rules of re-implementations: without some norms, and merges that mix tokens.
BARE = replace(
    POCKET,
    config=replace(
        POCKET.config,
        name="bare",
        qkv_bias=False,
        patch_norm=False,
        merge_norm=False,
        merge_bias=True,
        fc_norm=True,
        semantics=BERNIWAL.semantics,
    ),
)
MIXED = replace(
    POCKET, config=replace(POCKET.config, name="mixed", semantics=CSM_KR.semantics, merge_bias=True)
)
CIFAR = read_config(ROOT / "examples" / "cifar10_swin.toml")
TRAINED = VARIANTS["swin_pocket"]
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = {
    variant.name: variant
    for variant in (POCKET, OBLONG, TRAINED, COSINE, PLAIN, BARE, MIXED, *PADDED.values())
}
# A Vision Transformer on a grid of 4x6 patches, with two kinds of landmark.
POCKET_VIT = Variant(
    config=VitConfig(
        name="pocket_vit",
        image_size=(32, 48),
        patch_size=8,
        embed_dim=32,
        depth=4,
        num_heads=2,
        num_classes=7,
    ),
    preprocessing=Preprocessing(crop=1.0),
)
SMALL = {variant.name: variant for variant in (POCKET, OBLONG, TRAINED)}
VITS = {name: v for name, v in VARIANTS.items() if isinstance(v.config, VitConfig)}
FULL_SIZE = {name: v for name, v in VARIANTS.items() if name not in (TRAINED.name, *VITS)}
FULL_SIZE[CIFAR.name] = CIFAR
# A size that nothing divides, as timm pads it.
ODD_SIZES = {
    f"{name}, {when}": replace(
        VARIANTS[name],
        config=replace(VARIANTS[name].config, image_size=size, semantics=semantics),
    )
    for name, when, size, semantics in (
        ("swin_t", "padded after the roll", (230, 250), TIMM.semantics),
        ("swinv2_t_w8", "padded after the roll", (230, 250), TIMM.semantics),
    )
}
EVERY = {**FULL_SIZE, **VITS, **ODD_SIZES}


class Silent:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.notes: list[str] = []

    def started(self, title: str) -> None:
        self.titles.append(title)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advanced(self, what: str, done: int, total: int) -> None:
        self.titles.append(f"{what} {done}/{total}")


class Quiet(Silent):
    """Hears of downloads too."""

    visible = False

    def file(self, name: str, total: int | None) -> Callable[[int], None]:
        self.titles.append(name)
        return lambda count: None


@pytest.fixture
def listener() -> Silent:
    return Silent()


@pytest.fixture
def noise() -> Callable[[Variant, int], np.ndarray]:
    """Seeded images of a variant's size: (b, channels, H, W) float32."""

    def make(variant: Variant, count: int) -> np.ndarray:
        generator = np.random.default_rng(0)
        shape = (count, variant.config.in_channels, *variant.config.image_size)
        return generator.standard_normal(shape, dtype=np.float32)

    return make


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Path of a config file of the smallest network that has everything but a merge."""
    path = tmp_path / "tiny.toml"
    path.write_text(
        "image_size = 32\nembed_dim = 16\ndepths = [2]\nnum_heads = [1]\nwindow_size = 4\n"
    )
    return str(path)


@pytest.fixture(scope="session")
def photos() -> Path:
    """A folder with photos; they lie in the wheel of an image library, which is not imported."""
    spec = importlib.util.find_spec("foolbox")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


@pytest.fixture(scope="session")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 digits that swin_pocket was not trained on, 30 in the folder of each class."""
    pixels, labels = load_mnist_5k(find_mnist_5k())
    _, rows = split_held_out(labels)
    folder = tmp_path_factory.mktemp("held-out digits")
    for label in range(10):
        (folder / str(label)).mkdir()
        for row in rows[labels[rows] == label][:30]:
            Image.fromarray(pixels[row]).save(folder / str(label) / f"{row}.png")
    return folder


@pytest.fixture(scope="session")
def pocket_run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of the pocket network, batch 1 to 4. Tests must not change it."""
    out = tmp_path_factory.mktemp("pocket run")
    request = ExportRequest(variant=POCKET, out=out, batch=BatchRange(low=1, high=4))
    return run_export(request, Silent())


@pytest.fixture(scope="session")
def fixed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket network at batch 2, so that everything has a size. Tests must not change it."""
    out = tmp_path_factory.mktemp("fixed run")
    request = ExportRequest(
        variant=POCKET, out=out, batch=BatchRange(low=2, high=2), targets=("rtx",)
    )
    return run_export(request, Silent()).path


def trained_request(out: Path, **changes: Any) -> ExportRequest:
    """To export the trained network with its bundled weights."""
    weights, load = bundled_weights(TRAINED.name), LoadOptions(wanted=TRAINED.config)
    source = Source(path=weights, provenance={"source": "bundled"})
    return ExportRequest(
        variant=resolve_variant(source, TRAINED, load, Silent()),
        weights=weights,
        load=load,
        out=out,
        **changes,
    )


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A finished run of the trained network, exported when one like it is first asked for.

    Whoever asks gets a copy of his own, in which tests may leave reports.
    """
    runs: dict[frozenset[tuple[str, Any]], Path] = {}

    def export(**changes: Any) -> Path:
        key = frozenset(changes.items())
        if key not in runs:
            out = tmp_path_factory.mktemp("trained") / "run"
            runs[key] = run_export(trained_request(out, **changes), Silent()).path
        return shutil.copytree(runs[key], tmp_path_factory.mktemp("copy") / "run")

    return export


@pytest.fixture(scope="session")
def digits_run(photos: Path, trained_once: Callable[..., Path]) -> Path:
    """The trained network for CPUs, in FP32 and INT8, batch 1 to 4. Tests must not change it."""
    return trained_once(
        labels=DIGITS,
        batch=BatchRange(low=1, high=4),
        precisions=("fp32", "int8"),
        targets=("cpu",),
        int8=Int8Options(calibration=photos, images=20),
    )


def pythons_3_10() -> list[str | Path]:
    """Those on the PATH and of pyenv, whose shim on the PATH may refuse to start."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = shutil.which("python3.10")
    found = [*([named] if named else []), *pyenv.glob("versions/3.10.*/bin/python3.10")]
    return [python for python in found if starts(python)]


def starts(python: str | Path) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def device_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python as on a device: numpy, Pillow and ONNX Runtime, 3.10 where there is one."""
    folder = tmp_path_factory.mktemp("device")
    python, *_ = [*pythons_3_10(), sys.executable]
    subprocess.run([python, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    packages = ["numpy", "pillow", "onnxruntime"]
    subprocess.run([*pip, "--disable-pip-version-check", *packages], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def export_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], RunResult]:
    """A finished run of a full-size network, made when it is first asked for."""
    runs: dict[tuple[str, str], RunResult] = {}

    def export(name: str, batch: str) -> RunResult:
        if (name, batch) not in runs:
            low, _, high = batch.partition(":")
            request = ExportRequest(
                variant=EVERY[name],
                out=tmp_path_factory.mktemp(f"{name} run"),
                batch=BatchRange(low=int(low), high=int(high or low)),
            )
            runs[name, batch] = run_export(request, Silent())
        return runs[name, batch]

    return export


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option beside -m, which stays the user's."""
    parser.addoption("--all", action="store_true", help="run the tests marked nightly as well")


def pytest_configure(config: pytest.Config) -> None:
    """Where pytest-xdist runs the tests, each worker and its children keep to their own cores."""
    if hasattr(config, "workerinput"):
        number, count = int(config.workerinput["workerid"][2:]), config.workerinput["workercount"]
        cores = sorted(os.sched_getaffinity(0))
        mine = cores[number::count] or cores
        os.sched_setaffinity(0, mine)
        torch.set_num_threads(len(mine))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is nightly, skip what needs a GPU, and say what workers take together.

    The faults that a test shows go into the file of ``--junitxml`` with its outcome.

    They take slow tests first and one by one, but for those that share an export and say so with
    the mark ``xdist_group``; then all others of a file at a time, whose fixtures are made once, or
    with the file that the mark names, where the two share fixtures or must not run at once.
    """
    if not config.getoption("--all"):
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
    for item in items:
        rows = {row for mark in item.iter_markers("fault") for row in mark.args}
        item.user_properties.extend(("fault", row) for row in sorted(rows))
    if (problem := device_problem()) is not None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=problem))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
        for item in items:
            if not any(map(item.get_closest_marker, ("slow", "xdist_group"))):
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over the parity that it measured."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["parity"] = [astuple(row) for row in parity.ROWS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker hands over; one that crashed hands over nothing."""
    rows = getattr(node, "workeroutput", {}).get("parity", ())
    parity.ROWS.extend(parity.Row(*row) for row in rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The parity that was measured, if any was."""
    if parity.ROWS:
        terminalreporter.section("parity with other libraries")
        for line in parity.table(parity.ROWS):
            terminalreporter.write_line(line)
