"""Command lines that are refused by a look, and a child interpreter that cannot look any further.

python refusals.py FOLDER LINES    runs every line there, a JSON list of lists of words
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np

HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "torchvision")
HEAVY_PREFIXES = ("tensorrt",)


@dataclass(frozen=True)
class Refusal:
    """A command line, its exit code, and what its message has to say: every word of it."""

    line: str
    code: int
    words: tuple[str, ...]


def refusal(line: str, code: int, *words: str) -> Refusal:
    return Refusal(line, code, words)


_EXPORT = "export --variant swin_pocket"
_INT8 = f"{_EXPORT} --precision int8"
_QAT = "qat --variant swin_pocket --weights bundled --out tuned"
# In a folder of ``make_folder``; RUN is a finished run.
REFUSALS = (
    refusal("export --variant swim_t", 2, "swim_t"),
    refusal("export", 2, "no network"),
    refusal("export --weights nowhere.pth", 3, "nowhere.pth does not exist"),
    refusal("export --weights photos", 3, "model.safetensors"),
    refusal("export --weights notes.txt", 3, "suffix '.txt'"),
    refusal("export --weights page.pth", 3, "web page"),
    refusal("export --weights hf:../x", 2, "hf:../x"),
    refusal("export --variant swin_t --weights bundled", 2, "swin_pocket"),
    refusal("export --weights tensors.pth --seed 3", 2, "--seed"),
    refusal("export --weights tensors.pth --target orin", 2, "orin"),
    refusal("export --weights tensors.pth --images nowhere", 3, "nowhere"),
    refusal(f"{_EXPORT} --target orin", 2, "orin", "jetson-orin"),
    refusal(f"{_EXPORT} --precision fp17", 2, "fp17"),
    refusal(f"{_EXPORT} --precision fp32 --fp32-nodes layers.3.*", 2, "--fp32-nodes"),
    refusal(f"{_EXPORT} --fp32-nodes=", 2, "empty"),
    refusal(f"{_EXPORT} --precision int8 --target jetson-orin --target cpu", 3, "calibrate"),
    refusal(f"{_EXPORT} --image 33x1 --batch 1", 2, "33"),
    refusal(f"{_EXPORT} --images nowhere", 3, "nowhere is not a folder"),
    refusal(f"{_EXPORT} --images empty", 3, "empty holds no photos"),
    refusal(f"{_EXPORT} --images photos --out photos", 2, "photos lies in photos"),
    refusal(f"{_EXPORT} --topk 11 --image 33x1", 2, "2 things", "--topk 11"),
    refusal("export --config wrong.toml", 2, "windw_size", "depths"),
    refusal("export --config unsized.toml", 2, "does not divide"),
    refusal(f"{_INT8} --calibration nowhere", 3, "nowhere does not exist"),
    refusal(f"{_INT8} --calibration list.txt", 3, "no files", "gone.png"),
    refusal(f"{_INT8} --calibration double.npy", 3, "float64"),
    refusal(f"{_INT8} --calibration small.npy", 3, "(3, 8, 8)"),
    refusal(f"{_INT8} --calibration objects.npy", 8, "Python objects"),
    refusal(f"{_INT8} --calibration photos --calibration-method best", 2, "best"),
    refusal(f"{_INT8} --calibration photos --labelled nowhere", 3, "nowhere"),
    refusal(f"{_INT8} --calibration photos --labelled list.txt", 3, "no label"),
    refusal(
        f"{_INT8} --target orin --images nowhere --calibration empty --out photos",
        *(2, "3 things", "orin", "nowhere", "empty holds no photos"),
    ),
    refusal(
        "export --weights nowhere.pth --target orin --images empty", 2, "3 things", "nowhere.pth"
    ),
    refusal("inspect nowhere.pth", 3, "nowhere.pth"),
    refusal(f"{_QAT} --data nowhere --calibration empty --kind tensorrt", 3, "2 things", "nowhere"),
    refusal(f"{_QAT} --data photos --calibration photos --epochs 0 --lr=-1", 2, "2 things", "-1"),
    refusal(f"{_QAT}/x --val photos --data tuned --calibration list.txt", 2, "3 things"),
    refusal("verify nowhere", 3, "nowhere holds no finished run"),
    refusal("verify RUN --between eager,fp17 --images empty", 2, "fp17", "empty"),
    refusal("verify RUN --limit 0 --batches 0", 2, "3 things"),
    refusal("verify RUN --against nowhere.npz", 3, "nowhere.npz"),
    refusal("verify RUN --against small.npz", 3, "small.npz", "header"),
    refusal("verify RUN --bisect --plot depth.gif", 2, "depth.gif"),
    refusal("bench nowhere", 3, "nowhere does not exist"),
    refusal("bench photos", 3, "no finished run"),
    refusal("bench RUN --rounds 1 --threads 0", 2, "2 things", "rounds = 1"),
    refusal("bench RUN --variant swin_t", 2, "belongs to a run"),
    refusal("bench notes.txt", 8, "notes.txt"),
    refusal("evaluate nowhere --data nothing", 3, "2 things", "nowhere", "nothing"),
    refusal("evaluate RUN --data photos --class-map gone.json", 3, "gone.json"),
    refusal("evaluate RUN --data photos --eager --batch 0", 2, "batch = 0"),
    refusal("evaluate RUN --data photos --flips photos/flips", 2, "lies in photos"),
    refusal("sensitivity RUN --calibration nowhere --images gone", 3, "2 things", "gone"),
    refusal("sensitivity nowhere --calibration photos --max-drop 1", 2, "--max-drop"),
    refusal("scaling --networks swim_t,vit_x --sizes 224,448", 2, "2 things", "vit_x"),
    refusal("scaling --sizes 224 --rounds 1", 2, "2 things", "slope"),
    refusal("cost RUN --gpu b300 --compare nowhere", 2, "b300", "nowhere"),
    refusal("cost notes.txt", 8, "notes.txt"),
    refusal("refit RUN/engines/cpu-fp32.onnx --weights tensors.pth", 2, "no plan"),
    refusal("bundle nowhere --target orin", 2, "2 things", "orin", "nowhere"),
    refusal("bundle RUN --target cpu --sign gone.pem", 3, "gone.pem"),
    refusal("report nowhere photos", 3, "2 things", "nowhere"),
    refusal("predict nowhere gone.jpg", 3, "2 things", "nowhere", "gone.jpg"),
    refusal("predict photos photos --annotate photos/drawn", 2, "lies in photos"),
)
# Of ``python -m swin_deploy.runtime``, which is ``swin.pyz``.
DEVICE_REFUSALS = (
    refusal("info --bundle nowhere", 3, "nowhere"),
    refusal("build --bundle nowhere", 3, "nowhere"),
    refusal("bench --bundle nowhere --seconds 0", 2, "seconds"),
    refusal("bench --bundle nowhere --batch 0", 2, "'0'"),
    refusal("predict --bundle nowhere gone.jpg", 3, "gone.jpg"),
    refusal("predict --bundle nowhere empty", 3, "no photos"),
    refusal("predict --bundle nowhere photos --precision fp17", 2, "fp17"),
    refusal("predict --bundle photos photos --annotate photos/drawn", 2, "lies in photos"),
)


def make_folder(folder: Path) -> None:
    """What the lines name, beside RUN: nothing in it is read beyond its header."""
    (folder / "empty").mkdir()
    (folder / "photos" / "0").mkdir(parents=True)
    (folder / "photos" / "0" / "a.png").write_bytes(b"never read")
    (folder / "notes.txt").write_text("notes\n")
    (folder / "list.txt").write_text("gone.png\n")
    (folder / "page.pth").write_text("<!DOCTYPE html>")
    (folder / "tensors.pth").write_bytes(b"never read")
    sizes = "image_size = 32\nembed_dim = 16\ndepths = [2]\nnum_heads = [1]\n"
    (folder / "wrong.toml").write_text(f"{sizes.replace('[2]', '2')}windw_size = 4\n")
    (folder / "unsized.toml").write_text(f"{sizes.replace('[1]', '[3]')}window_size = 4\n")
    np.save(folder / "double.npy", np.zeros((2, 1, 28, 28)))
    np.save(folder / "small.npy", np.zeros((2, 3, 8, 8), np.float32))
    np.savez(folder / "small.npz", images=np.zeros((2, 3, 8, 8), np.float32))
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)


class Forbidden(MetaPathFinder):
    """Imports nothing that is heavy."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] in HEAVY or name.startswith(HEAVY_PREFIXES):
            raise AssertionError(f"{name} was imported")


def run_lines(lines: Iterable[Sequence[str]], device: bool) -> list[tuple[int | str, str]]:
    """Exit code, or what went wrong, and standard error of every line, one after the other."""
    from swin_deploy.cli.main import run as run_command
    from swin_deploy.runtime.main import run as run_on_device

    results: list[tuple[int | str, str]] = []
    for line in lines:
        output = io.StringIO()
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()):
            try:
                code: int | str = (
                    run_on_device(line, "swin.pyz", Path()) if device else run_command(line)
                )
            except BaseException as error:
                code = repr(error)
        results.append((code, output.getvalue()))
    return results


def main() -> None:
    folder, device, lines = sys.argv[1:]
    os.chdir(folder)
    sys.meta_path.insert(0, Forbidden())
    print(json.dumps(run_lines(json.loads(lines), device == "device")))


if __name__ == "__main__":
    main()
