"""Wrong networks that noise at a few batch sizes does not show: the gate has to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import behind
from conftest import TRAINED, Silent
from gates import failed, published, request
from swin_deploy.core.errors import VerificationError
from swin_deploy.data.images import FP32_INPUT, make_noise
from swin_deploy.engine.runners.base import run_all
from swin_deploy.engine.runners.onnxruntime import OnnxRuntimeRunner
from swin_deploy.measure.verify.outputs import make_extremes
from swin_deploy.network.interface import BatchRange, Interface
from swin_deploy.pipeline.run import run_export
from swin_deploy.runtime.build import compare_engine
from swin_deploy.runtime.trust import open_bundle

ENGINE = "engine:cpu-fp32", "engines/cpu-fp32.onnx"


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        (behind.halve_at_batch(2), {"noise x2"}),
        (behind.nan_where("flat"), {"black x1", "white x1", "grey x1"}),
        (behind.nan_where("far"), {"spikes x2"}),
    ],
    ids=["one batch size", "flat images", "values beyond 6"],
)
def test_an_engine_that_is_wrong_for_some_calls_is_refused(
    change: behind.Change, inputs: set[str], gate_copy: Path
) -> None:
    before = published(gate_copy)
    with pytest.raises(VerificationError, match="engine cpu-fp32 disagrees") as caught:
        run_export(request(gate_copy), Silent(), behind.behind(*ENGINE, change))
    assert caught.value.exit_code == 5
    assert {seen for _, seen in failed(caught.value)} >= inputs
    assert {candidate for candidate, _ in failed(caught.value)} == {"engine cpu-fp32"}
    assert published(gate_copy) == before


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        (behind.halve_at_batch(2), {"noise x2", "noise, one x2"}),
        (behind.nan_where("flat"), {"extremes"}),
        (behind.nan_where("far"), {"extremes"}),
    ],
    ids=["one batch size", "flat images", "values beyond 6"],
)
def test_so_is_one_that_was_built_on_a_device(
    digits_folder: Path, change: behind.Change, inputs: set[str], tmp_path: Path
) -> None:
    shipped, path = open_bundle(digits_folder), tmp_path / "engine.onnx"
    onnx.save(onnx.load(digits_folder / shipped.graphs["fp32"].file), path)
    sizes = shipped.batch.checked_sizes()
    assert all(compare_engine(shipped, "fp32", path, sizes))
    change(path)
    rows = compare_engine(shipped, "fp32", path, sizes)
    assert {row.inputs for row in rows if not row} == inputs


def test_sizes_of_a_large_batch_are_drawn_and_can_be_drawn_again(tmp_path: Path) -> None:
    def export(seed: int | None) -> tuple[set[str], dict[str, Any], list[str]]:
        listener = Silent()
        asked = request(tmp_path, batch=BatchRange(low=1, high=16), gate_seed=seed)
        result = run_export(asked, listener)
        rows = result.verification["comparisons"]
        seen = {r["inputs"] for r in rows if r["inputs"].startswith("noise")}
        return seen, result.verification["batches"], listener.notes

    seen, drawn, notes = export(None)
    assert seen == {f"noise x{size}" for size in drawn["sizes"]}
    assert {1, 16} < set(drawn["sizes"])
    assert len(seen) == 5
    (said,) = [note for note in notes if f"--gate-seed {drawn['seed']} draws the same" in note]
    unchanged, kept, repeated = export(None)  # nothing is drawn where nothing is verified again
    assert (unchanged, kept) == (seen, drawn)
    assert said in repeated
    again, the_same, _ = export(drawn["seed"])
    assert again == seen
    assert the_same == drawn


PIXELS = Interface(activation="softmax", topk=3, io="uint8")


@pytest.mark.parametrize(
    ("target", "interface"),
    [
        ("cpu", Interface(topk=1)),
        ("cpu", PIXELS),
        ("cpu-openvino", Interface(activation="softmax")),
        ("cpu-openvino", PIXELS),
    ],
    ids=["best class", "best of pixels", "probabilities, OpenVINO", "best of pixels, OpenVINO"],
)
def test_classes_that_never_win_are_compared(
    target: str, interface: Interface, gate_copy: Path
) -> None:
    """The logits of every graph and engine, though none gives them any more."""
    asked = request(gate_copy, interface=interface, targets=(target,))
    result = run_export(asked, Silent())
    rows = result.verification["comparisons"]
    before = {r["candidate"] for r in rows if "before its ends" in r["candidate"]}
    assert before == {
        f"{n}, before its ends" for n in ("onnx, simplified", f"engine {target}-fp32")
    }
    assert {r["output"] for r in rows if r["candidate"] in before} == {"logits"}


def test_an_engine_in_which_classes_cannot_win_is_refused(gate_copy: Path) -> None:
    """Those that never win on the images of the gate, so that its outputs are all right."""
    taken, steps = FP32_INPUT, TRAINED.preprocessing
    seen = [make_noise(size, 1, (32, 32)) for size in (1, 2, 3, 4)]
    seen += make_extremes(taken, steps, (32, 32))
    with OnnxRuntimeRunner(gate_copy / "model.raw.onnx") as runner:
        logits = [run_all(runner, images.images)["logits"] for images in seen]
    losers = sorted({*range(10)} - {*np.concatenate(logits).argmax(axis=1).tolist()})
    assert losers

    def impossible(bias: np.ndarray) -> np.ndarray:
        bias[losers] = -1e4
        return bias

    asked = request(gate_copy, interface=Interface(topk=1))
    change = behind.edit_head_bias(impossible)
    with pytest.raises(VerificationError) as caught:
        run_export(asked, Silent(), behind.behind(*ENGINE, change))
    assert {name for name, _ in failed(caught.value)} == {"engine cpu-fp32, before its ends"}


def test_ends_are_what_they_are_by_definition(gate_copy: Path) -> None:
    """A number added between the logits and TopK is no part of either."""

    def change(path: Path) -> None:
        model = onnx.load(path)
        (last,) = (node for node in model.graph.node if node.op_type == "TopK")
        index = list(model.graph.node).index(last)
        add = helper.make_node("Abs", [last.input[0]], ["other"])
        last.input[0] = "other"
        model.graph.node.insert(index, add)
        onnx.save(model, path)

    asked = request(gate_copy, interface=Interface(activation="softmax", topk=10))
    with pytest.raises(VerificationError, match="Abs, not Softmax"):
        run_export(asked, Silent(), behind.behind(*ENGINE, change))
