"""The gate: the same inputs through the eager network and through everything made from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from swin_deploy.best_classes import problem_of_classes, worst_of_classes
from swin_deploy.data.inputs import InputSet
from swin_deploy.interface import AS_EXPORTED, CLASSES, LOGITS, PROBABILITIES, SCORES, Interface
from swin_deploy.metrics import (
    FloatArray,
    cosine_similarity,
    max_abs_error,
    mean_power,
    softmax,
    sqnr_db,
    top1_agreement,
)
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner, run_all
from swin_deploy.verify.comparison import FLOORS_DB, Comparison
from swin_deploy.verify.extremes import hold, is_extreme, takes_part


def compare(
    candidate: str,
    inputs: str,
    reference: FloatArray | None,
    outputs: FloatArray | None,
    precision: Precision,
    output: str = LOGITS,
    signal_power: float | None = None,
    floor_db: float | None = None,
    agreement: float | None = None,
) -> Comparison:
    """Compare one output of two networks for the same inputs.

    Args:
        candidate: Name for the tables.
        inputs: Name for the tables.
        reference: (b, ...), of the eager network; None if it has no such output.
        outputs: Of the candidate; None likewise.
        precision: Selects the floor; FP32 has to name the same classes as well.
        output: Which one; logits (b, classes) name a class per image, other outputs do not.
        signal_power: ``mean_power`` of the eager outputs over all images of the verification, of
            which these may be few; None for these.
        floor_db: What FP32 has to reach, where it is not the usual floor.
        agreement: Share of images, 0 to 1, of one class, where the outputs do not tell it.
    """
    floor = FLOORS_DB[precision]
    if floor_db is not None and precision == "fp32":
        floor = floor_db
    reason, numbers = "", (-math.inf, math.nan, math.nan)
    if reference is None or outputs is None:
        reason = f"{'it' if outputs is None else 'the eager network'} has no such output"
    elif reference.shape != outputs.shape:
        reason = f"shape {outputs.shape}, expected {reference.shape}"
    elif not np.isfinite(reference).all():
        reason = "the eager network itself gives NaN or infinity"
    elif bad := int(np.count_nonzero(~np.isfinite(outputs))):
        reason = f"{bad} of {outputs.size} outputs are NaN or infinite"
    else:
        numbers = (
            sqnr_db(reference, outputs, signal_power),
            cosine_similarity(reference, outputs),
            max_abs_error(reference, outputs),
        )
        if output in (LOGITS, PROBABILITIES):
            agreement = top1_agreement(reference, outputs)
        if not numbers[0] >= floor:
            reason = f"SQNR {numbers[0]:.1f} dB, needs {floor:.0f} dB"
        elif precision == "fp32" and agreement is not None and agreement < 1:
            reason = f"top-1 agreement {agreement:.1%}, needs 100 %"
    return Comparison(
        candidate=candidate,
        inputs=inputs,
        output=output,
        sqnr_db=numbers[0],
        cosine=numbers[1],
        max_abs_error=numbers[2],
        top1_agreement=agreement,
        floor_db=floor,
        reason=reason,
    )


def rejudge(comparison: Comparison, floors: Mapping[tuple[str, str], float]) -> Comparison:
    """An FP32 comparison that missed the usual floor, held to another one.

    Args:
        comparison: Returned as it is unless it missed the FP32 floor.
        floors: (inputs, output) -> dB.
    """
    floor = floors.get((comparison.inputs, comparison.output))
    usual = comparison.floor_db == FLOORS_DB["fp32"]
    if floor is None or not usual or not comparison.below_floor:
        return comparison
    reason = ""
    if comparison.sqnr_db < floor:
        reason = f"SQNR {comparison.sqnr_db:.1f} dB, needs {floor:.0f} dB"
    elif comparison.top1_agreement is not None and comparison.top1_agreement < 1:
        reason = f"top-1 agreement {comparison.top1_agreement:.1%}, needs 100 %"
    return replace(comparison, floor_db=floor, reason=reason)


def without_floor(comparison: Comparison) -> Comparison:
    """A comparison that only has to be finite and of the right shape.

    What INT8 is held to on noise: its ranges are those of photos, on which it was verified.
    """
    reason = "" if comparison.below_floor else comparison.reason
    return replace(comparison, floor_db=-math.inf, reason=reason)


def compare_outputs(
    candidate: str,
    inputs: str,
    reference: Mapping[str, FloatArray],
    outputs: Mapping[str, FloatArray],
    precision: Precision,
    signal_powers: Mapping[str, float] | None = None,
    floors_db: Mapping[str, float] | None = None,
    interface: Interface = AS_EXPORTED,
) -> list[Comparison]:
    """``compare`` for every output by name; one that only one of the two has is a failure.

    Where the reference gives logits and the candidate does not, it has to give what ``interface``
    makes of them.
    """
    powers, floors = signal_powers or {}, floors_db or {}
    if LOGITS in reference and LOGITS not in outputs:
        every = softmax(reference[LOGITS]) if interface.softmax else reference[LOGITS]
        if interface.topk is not None:
            floor = floors.get(SCORES)
            return [compare_best(candidate, inputs, every, outputs, precision, floor)]
        reference = {PROBABILITIES if interface.softmax else LOGITS: every}
    return [
        compare(
            candidate,
            inputs,
            reference.get(name),
            outputs.get(name),
            precision,
            name,
            powers.get(name),
            floors.get(name),
        )
        for name in dict.fromkeys((*reference, *outputs))
    ]


def compare_best(
    candidate: str,
    inputs: str,
    every: FloatArray,
    outputs: Mapping[str, FloatArray],
    precision: Precision,
    floor_db: float | None = None,
) -> Comparison:
    """``compare`` for the scores of the best classes.

    Args:
        candidate: Name for the tables.
        inputs: Name for the tables.
        every: The eager network's values of all classes, (b, classes): logits or probabilities.
        outputs: "scores" (b, k) and "classes" (b, k) of the candidate.
        precision: As ``compare`` takes it.
        floor_db: As ``compare`` takes it.
    """
    if problem := problem_of_classes(outputs, every):
        row = compare(candidate, inputs, None, None, precision, SCORES)
        return replace(row, reason=problem)
    scores = outputs[SCORES]
    reference, agreement = worst_of_classes(scores, outputs[CLASSES], every)
    return compare(
        candidate,
        inputs,
        reference,
        scores,
        precision,
        SCORES,
        floor_db=floor_db,
        agreement=agreement,
    )


def compare_runners(
    reference: Runner,
    candidates: Iterable[tuple[Runner, Precision]],
    inputs: Sequence[InputSet],
    interface: Interface = AS_EXPORTED,
) -> tuple[Comparison, ...]:
    """Compare every candidate with the reference on every set of inputs, output by output.

    One candidate is open at a time, so that large networks do not pile up in memory.

    Args:
        reference: The eager network.
        candidates: With the precision that selects the floor.
        inputs: Images.
        interface: What candidates give that do not give the outputs of the reference.
    """
    with reference:
        expected = [run_all(reference, images.images) for images in inputs]
    powers = {name: _power_over_all([arrays[name] for arrays in expected]) for name in expected[0]}
    comparisons: list[Comparison] = []
    for runner, precision in candidates:
        with runner:
            for images, arrays in zip(inputs, expected, strict=True):
                if not takes_part(precision, images):
                    continue
                outputs = run_all(runner, images.images)
                rows = compare_outputs(
                    runner.name,
                    images.name,
                    arrays,
                    outputs,
                    precision,
                    powers,
                    interface=interface,
                )
                comparisons += hold(rows, precision) if is_extreme(images) else rows
    return tuple(comparisons)


def _power_over_all(arrays: Sequence[FloatArray]) -> float:
    """``mean_power`` of all of them together, without a second copy of large maps."""
    return sum(mean_power(array) * len(array) for array in arrays) / sum(map(len, arrays))
