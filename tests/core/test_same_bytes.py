"""What was compared with its hash is what is loaded, though its file is another one by then."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from swin_deploy.core.errors import EnvironmentMissingError, UnsafeError
from swin_deploy.core.files import Recorded, sha256
from swin_deploy.engine.build import build_engine
from swin_deploy.engine.open import open_engine
from swin_deploy.engine.runners import cuda, tensorrt
from swin_deploy.engine.runners.base import Runner, run_all
from swin_deploy.engine.runners.tensorrt import TensorRtRunner
from swin_deploy.engine.targets import TARGETS
from swin_deploy.network.interface import BatchRange
from swin_deploy.pipeline.run import RunResult
from swin_deploy.run.finished import require_run
from swin_deploy.runtime import SwinEngine

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)


@pytest.fixture
def swapped(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every engine whose hash was compared is overwritten at once, before anything is loaded.

    Labels and references are read more than once, each time with their hash: they would be refused.
    """
    found: list[Path] = []
    read = Recorded.read

    def swap(file: Recorded) -> bytes:
        content = read(file)
        if file.path.suffix in (".onnx", ".xml", ".bin", ".plan"):
            file.path.write_bytes(b"another network")
            found.append(file.path)
        return content

    monkeypatch.setattr(Recorded, "read", swap)
    return found


@pytest.fixture(scope="module")
def engines(pocket_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines of both runtimes for CPUs."""
    folder = tmp_path_factory.mktemp("engines")
    for name in ("cpu", "cpu-openvino"):
        target, batch = TARGETS[name], BatchRange(low=1, high=4)
        final = folder / target.engine_name("fp32")
        build_engine(target, pocket_run.path / "model.onnx", final, batch, folder / "log")
    return folder


def open_recorded(folder: Path, name: str) -> Runner:
    target = TARGETS[name]
    files = tuple(
        Recorded(path=folder / file, sha256=sha256(folder / file), record="manifest")
        for file in target.engine_files("fp32")
    )
    return open_engine(target, "fp32", files[0].path, 1, recorded=files)


@pytest.mark.parametrize("name", ["cpu", "cpu-openvino"])
def test_an_engine_swapped_after_the_check_is_not_the_one_that_runs(
    engines: Path, tmp_path: Path, name: str, swapped: list[Path]
) -> None:
    folder = Path(shutil.copytree(engines, tmp_path / "copy"))
    with open_engine(
        TARGETS[name], "fp32", engines / TARGETS[name].engine_name("fp32"), 1
    ) as runner:
        expected = run_all(runner, IMAGE)["logits"]
    with open_recorded(folder, name) as runner:
        found = run_all(runner, IMAGE)["logits"]
    assert swapped == [folder / file for file in TARGETS[name].engine_files("fp32")]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["cpu", "cpu-openvino"])
def test_each_file_of_an_engine_that_is_swapped_before_it_is_read_is_refused(
    engines: Path, tmp_path: Path, name: str
) -> None:
    for index, file in enumerate(TARGETS[name].engine_files("fp32")):
        folder = Path(shutil.copytree(engines, tmp_path / str(index)))
        runner = open_recorded(folder, name)
        (folder / file).write_bytes((folder / file).read_bytes() + b" ")
        with pytest.raises(UnsafeError, match="was changed"), runner:
            pass


def test_a_plan_swapped_after_the_check_is_not_the_one_that_is_deserialised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: list[Path]
) -> None:
    plan = tmp_path / "rtx-fp16.plan"
    plan.write_bytes(b"the plan")
    taken: list[bytes] = []
    module = SimpleNamespace(
        __version__="11.4",
        Logger=type("Logger", (), {"ERROR": 0, "__init__": lambda self, level: None}),
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=taken.append),
    )
    monkeypatch.setattr(tensorrt.importlib, "import_module", lambda name: module)
    monkeypatch.setattr(cuda, "use_device", lambda: None)
    monkeypatch.setattr(cuda, "device_name", lambda: "a GPU")
    recorded = Recorded(path=plan, sha256=sha256(plan), record="manifest")
    runner = TensorRtRunner(plan, "tensorrt", "engine", recorded=recorded)
    with pytest.raises(EnvironmentMissingError, match="was not built for"), runner:
        pass
    assert taken == [b"the plan"]
    assert swapped == [plan]
    with pytest.raises(UnsafeError, match="was changed"), runner:
        pass
    assert taken == [b"the plan"]


def test_a_run_hands_out_engines_by_their_recorded_bytes(
    pocket_run: RunResult, tmp_path: Path
) -> None:
    run = require_run(Path(shutil.copytree(pocket_run.path, tmp_path / "run")))
    runner = run.open_engine("cpu-fp32")
    assert not isinstance(runner, str)
    engine = run.path / "engines" / "cpu-fp32.onnx"
    engine.write_bytes((run.path / "model.onnx").read_bytes())  # it would run, too
    with pytest.raises(UnsafeError, match="was changed"), runner:
        pass


def test_an_engine_of_a_bundle_that_is_swapped_between_check_and_load_is_refused(
    digits_folder: Path, tmp_path: Path, swapped: list[Path]
) -> None:
    folder = Path(shutil.copytree(digits_folder, tmp_path / "bundle"))
    with (
        pytest.raises(UnsafeError, match=r"cpu-fp32\.onnx was changed"),
        SwinEngine.load(folder, threads=1),
    ):
        pass
    assert [path.name for path in swapped if "engines" in path.parts] == ["cpu-fp32.onnx"]
