"""The gate: the same inputs through the eager network and through everything made from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from swin_deploy.best_classes import problem_of_classes, worst_of_classes
from swin_deploy.data.inputs import InputSet
from swin_deploy.interface import AS_EXPORTED, CLASSES, LOGITS, PROBABILITIES, SCORES, Interface
from swin_deploy.judge import FLOORS_DB, difference, powers_of
from swin_deploy.metrics import FloatArray, softmax, top1_agreement
from swin_deploy.narrow import present
from swin_deploy.precisions import Precision
from swin_deploy.runners.base import Runner, run_all
from swin_deploy.verify.comparison import Comparison
from swin_deploy.verify.extremes import hold, is_extreme, takes_part

Outputs = Mapping[str, FloatArray]  # of one set of images, by name


def compare(
    candidate: str,
    inputs: str,
    reference: FloatArray | None,
    outputs: FloatArray | None,
    precision: Precision,
    output: str = LOGITS,
    signal_power: float | None = None,
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
    """
    numbers = difference(reference, outputs, signal_power)
    agreement = None
    if output in (LOGITS, PROBABILITIES) and not numbers.problem:
        agreement = top1_agreement(present(reference), present(outputs))  # or a problem
    return Comparison(
        candidate=candidate,
        inputs=inputs,
        output=output,
        precision=precision,
        floor_db=FLOORS_DB[precision],
        top1_agreement=agreement,
        **asdict(numbers),
    )


def compare_outputs(
    candidate: str,
    inputs: str,
    reference: Outputs,
    outputs: Outputs,
    precision: Precision,
    signal_powers: Mapping[str, float] | None = None,
    interface: Interface = AS_EXPORTED,
) -> list[Comparison]:
    """``compare`` for every output by name; one that only one of the two has is a failure.

    Where the reference gives logits and the candidate does not, it has to give what ``interface``
    makes of them. Where both name the best classes alone, their scores are compared, and how often
    the first class is the same.
    """
    powers, agreement = signal_powers or {}, None
    if CLASSES in reference and CLASSES in outputs:
        named, found = reference[CLASSES], outputs[CLASSES]
        if named.shape != found.shape:
            problem = f"classes of shape {found.shape}, expected {named.shape}"
            return [_without_numbers(candidate, inputs, precision, problem)]
        agreement = float((named[:, 0] == found[:, 0]).mean())
        reference, outputs = (
            {name: array for name, array in side.items() if name != CLASSES}
            for side in (reference, outputs)
        )
    elif LOGITS in reference and LOGITS not in outputs:
        every = softmax(reference[LOGITS]) if interface.softmax else reference[LOGITS]
        reference = {PROBABILITIES if interface.softmax else LOGITS: every}
        if interface.topk is not None:
            if problem := problem_of_classes(outputs, every, interface.topk):
                return [_without_numbers(candidate, inputs, precision, problem)]
            best, agreement = worst_of_classes(
                outputs[SCORES], outputs[CLASSES], every, powers.get(SCORES)
            )
            reference, outputs = {SCORES: best}, {SCORES: outputs[SCORES]}
    rows = [
        compare(
            candidate, inputs, reference.get(name), outputs.get(name), precision, name,
            powers.get(name),
        )
        for name in dict.fromkeys((*reference, *outputs))
    ]  # fmt: skip
    return rows if agreement is None else [replace(r, top1_agreement=agreement) for r in rows]


def _without_numbers(candidate: str, inputs: str, precision: Precision, problem: str) -> Comparison:
    """The row of scores that cannot be compared."""
    row = compare(candidate, inputs, None, None, precision, SCORES)
    return replace(row, problem=problem)


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
    powers = powers_of(expected, interface)
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
