"""How far a result is from its reference, and whether that is allowed: one judge, one table.

Graphs, engines, tensors inside them and slots of a batch are all judged here, on devices too: this
needs NumPy and the standard library alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swin_deploy.network.interface import (
    AS_EXPORTED,
    CLASSES,
    LOGITS,
    PROBABILITIES,
    SCORES,
    Interface,
    OutputActivation,
    Precision,
)

FloatArray = NDArray[np.floating]


def mean_power(outputs: FloatArray) -> float:
    """Sum of squares of an image's outputs, averaged over the images: (b, ...) -> number."""
    return float(np.square(outputs.astype(np.float64)).sum() / len(outputs))


def sqnr_db(
    reference: FloatArray, candidate: FloatArray, signal_power: float | None = None
) -> float:
    """Signal to quantisation-noise ratio, in dB, with the noise of the worst image.

    10 log10(signal / noise). The noise is sum (candidate - reference)^2 of the image where that is
    largest, so that one wrong slot of a batch cannot hide behind the others. The signal is the mean
    over the images: a network with few classes gives some images logits close to zero, and
    dividing by those would say more of the image than of the error. Infinite for equal arrays,
    minus infinity where a number that goes into it is not finite; never NaN.

    Args:
        reference: (b, ...).
        candidate: Same shape.
        signal_power: ``mean_power`` over more images than these; None for these.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} differ")
    if reference.size == 0:
        raise ValueError("nothing to compare")
    if not all(np.isfinite(x).all() for x in (reference, candidate, signal_power or 0.0)):
        return -np.inf
    error = (candidate.astype(np.float64) - reference).reshape(len(reference), -1)
    noise = np.square(error).sum(axis=1).max()
    signal = mean_power(reference) if signal_power is None else signal_power
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf


def cosine_similarity(reference: FloatArray, candidate: FloatArray) -> float:
    """Cosine of the angle between two images' outputs; the smallest over the batch.

    Args:
        reference: (b, ...).
        candidate: Same shape.
    """
    a = reference.reshape(len(reference), -1).astype(np.float64)
    b = candidate.reshape(len(candidate), -1).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(((a * b).sum(axis=1) / lengths).min())


def max_abs_error(reference: FloatArray, candidate: FloatArray) -> float:
    """Largest absolute difference, in the unit of the arrays; NaN where either holds one."""
    difference = candidate.astype(np.float64) - reference.astype(np.float64)
    return float(np.abs(difference).max())


def top1_agreement(reference: FloatArray, candidate: FloatArray) -> float:
    """Share of images, 0 to 1, for which both arrays of logits (b, classes) name the same class."""
    return float((reference.argmax(axis=1) == candidate.argmax(axis=1)).mean())


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """Logits (b, classes) -> probabilities, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: FloatArray) -> NDArray[np.float64]:
    """Logits (b, labels) -> the probability of each label by itself, in float64."""
    halved: NDArray[np.float64] = np.tanh(logits.astype(np.float64) / 2)  # overflows nowhere
    return (halved + 1) / 2


_ACTIVATIONS: dict[OutputActivation, Callable[[FloatArray], NDArray[Any]]] = {
    "none": lambda logits: logits,
    "softmax": softmax,
    "sigmoid": sigmoid,
}


def activated(logits: FloatArray, activation: OutputActivation) -> NDArray[Any]:
    """What an activation makes of logits (b, classes): probabilities in float64, or the same."""
    return _ACTIVATIONS[activation](logits)


def best(values: FloatArray, k: int) -> FloatArray:
    """The k largest of each row, in descending order: (b, classes) -> (b, k)."""
    return -np.sort(-values, axis=1)[:, :k]


def wilson_interval(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval that covers the true share in 95 of 100 cases (Wilson, 1927), 0 to 1.

    Args:
        right: How many of the images.
        of: All of them, at least one.
        z: Standard deviations; 1.96 for 95 %.
    """
    share, spread = right / of, z * math.sqrt(right * (of - right) / of + z * z / 4) / (of + z * z)
    middle = (share * of + z * z / 2) / (of + z * z)
    return middle - spread, middle + spread


def mean_sqnr_db(reference: FloatArray, candidate: FloatArray) -> float:
    """As ``sqnr_db``, with the mean noise of all images instead of that of the worst one.

    Args:
        reference: (b, ...).
        candidate: Same shape.
    """
    if not all(np.isfinite(x).all() for x in (reference, candidate)):
        return -np.inf
    noise = mean_power(candidate.astype(np.float64) - reference)
    signal = mean_power(reference)
    if noise == 0:
        return np.inf
    return float(10 * np.log10(signal / noise)) if signal else -np.inf


Compared = Literal[
    "output", "extreme", "tensor", "slot", "simplified", "place", "accuracy", "amplified"
]

# Lowest SQNR that something in a precision may have on its worst image, in dB.
FLOORS: dict[Compared, dict[Precision, float]] = {
    # Outputs against eager FP32. Measured by scripts/measure_floors.py over networks, seeds, noise
    # and photos; docs/proof.md has it. FP32: the worst logits are at 113 dB, and the damage that
    # the tests do leaves less than 35. FP16: the worst logits are at 41.2 dB, of the smallest Swin
    # V2, with every result rounded; compilers round less often. BF16: the worst maps of the same
    # are at 15.2 dB; the floor is 6 dB below, twice the error. INT8: the worst of 1000 digits is at
    # 26.5 dB with swin_pocket (docs/int8.md; 18.5 with the entropy method, which the gate may
    # refuse), about 6 dB above. Damage may leave more than the last two: what tells a right graph
    # from a wrong one there is graph/structure.py. Embeddings are as far off as logits.
    "output": {"fp32": 110.0, "fp16": 40.0, "bf16": 9.0, "int8": 20.0},
    # The same on images that no camera takes. FP16: logits are at 44.6 dB at worst, but scores of
    # classes between which swin_pocket is torn, on a checkerboard, are at 35.4; the floor is about
    # 6 dB below.
    "extreme": {"fp32": 110.0, "fp16": 30.0, "bf16": 9.0, "int8": 20.0},
    # Tensors between blocks, on one image. FP32 and FP16: the worst maps that
    # scripts/measure_floors.py found, in the smallest Swin V2, are at 103.6 and 36.0 dB; FP16 has
    # 6 dB less, twice that error. BF16: 15.2 dB there, and 6 less. INT8: 32.6 dB in swin_pocket on
    # photos, the only one that was looked at; the floor is that of its logits, 20, less 6 dB: a
    # choice, since logits are averages of what stands before them.
    "tensor": {"fp32": 100.0, "fp16": 30.0, "bf16": 9.0, "int8": 14.0},
    # An image in any slot of a batch against the same image alone, on the same runner. Measured
    # with swin_t, swin_pocket, examples/small_v2.toml and networks of the tests, in batches of 2 to
    # 8: ONNX Runtime gives the same bits in every slot, in every precision; PyTorch, which
    # multiplies larger matrices in another order, is at 129.2 dB at worst, in Swin-T. Runtimes of
    # GPUs were not measured; they may round coarsely in another order too, and so these are the
    # floors of outputs.
    "slot": {"fp32": 110.0, "fp16": 40.0, "bf16": 9.0, "int8": 20.0},
    # A graph before and after simplification, on the same runtime: a right one differs by the order
    # of a few sums at most. A bias that is wrong by a thousandth is below
    # (tests/graph/test_graph_simplify.py).
    "simplified": {"fp32": 110.0},
    # From one place that is rounded to the next, the network that was trained against its graph,
    # both with FP32 around (tests/pipeline/test_qat_graph.py).
    "place": {"fp32": 100.0},
    # What is lowest of the floors of INT8 that labelled images have let pass, see
    # ``int8_floor_db``: a choice. Zeros in place of all outputs are at 0 dB, where the noise is as
    # large as the signal; here it is half of it.
    "accuracy": {"int8": 3.0},
    # Outputs of a network that amplifies rounding (pipeline/gate.py), whatever its own FP32
    # is: damage of the form leaves less than 35 dB, and a network whose rounding asks for less
    # than this cannot be told from a damaged one, and is refused.
    "amplified": {"fp32": 60.0},
}
FLOORS_DB = FLOORS["output"]
_MARGIN_DB = 6.0  # twice the error: what an engine may add to a graph that accuracy has judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How far apart two arrays are; the defaults are those of what cannot be compared.

    Attributes:
        sqnr_db: With the noise of the worst image; never NaN.
        cosine: Of the worst image.
        max_abs_error: In the unit of the arrays.
        problem: Why nothing could be compared; empty if something was.
    """

    sqnr_db: float = -math.inf
    cosine: float = math.nan
    max_abs_error: float = math.nan
    problem: str = ""


def difference(
    reference: FloatArray | None, candidate: FloatArray | None, power: float | None = None
) -> Numbers:
    """Compare one result with another.

    Args:
        reference: (b, ...); None if there is none.
        candidate: Likewise.
        power: ``mean_power`` of the reference over all images, of which these may be few; None for
            these.
    """
    if reference is None or candidate is None:
        who = "it" if candidate is None else "the reference"
        return Numbers(problem=f"{who} has no such output")
    if reference.shape != candidate.shape:
        return Numbers(problem=f"shape {candidate.shape}, expected {reference.shape}")
    if not reference.size:
        return Numbers(problem=f"shape {reference.shape} holds nothing to compare")
    if not (np.isfinite(reference).all() and math.isfinite(power or 0.0)):
        return Numbers(problem="the reference itself gives NaN or infinity")
    if bad := int(np.count_nonzero(~np.isfinite(candidate))):
        return Numbers(problem=f"{bad} of {candidate.size} outputs are NaN or infinite")
    return Numbers(
        sqnr_db=sqnr_db(reference, candidate, power),
        cosine=cosine_similarity(reference, candidate),
        max_abs_error=max_abs_error(reference, candidate),
    )


def judge(
    numbers: Numbers, floor_db: float | None, same_class: float | None = None, where: str = ""
) -> str:
    """Why something is not what it should be; empty if it is.

    Args:
        numbers: Of ``difference``.
        floor_db: What its SQNR has to reach; None if it only has to be comparable.
        same_class: Share of images, 0 to 1, that have to be of the same class and are; None where
            they need not be.
        where: The part that the SQNR is of, for the reason.
    """
    if numbers.problem or floor_db is None:
        return numbers.problem
    if not numbers.sqnr_db >= floor_db:  # not "<": whatever is no number fails, too
        place = f" in {where}" if where else ""
        return f"SQNR {numbers.sqnr_db:.1f} dB{place}, needs {floor_db:.0f} dB"
    if same_class is not None and not same_class >= 1:
        return f"top-1 agreement {same_class:.1%}, needs 100 %"
    return ""


def int8_floor_db(passed_db: float | None) -> float:
    """What an INT8 graph, and every engine of it, has to reach on photos, in dB.

    Args:
        passed_db: SQNR of the graph that labelled images have let pass: it may be further off than
            the usual floor, and its engines are held to what it is. None where the floor decided.
    """
    usual = FLOORS_DB["int8"]
    return (
        usual
        if passed_db is None
        else min(usual, max(FLOORS["accuracy"]["int8"], passed_db - _MARGIN_DB))
    )


def ends_of(logits: FloatArray, interface: Interface) -> dict[str, FloatArray]:
    """What the ends of an interface have to give for logits (b, classes), without the classes."""
    every = activated(logits, interface.activation)
    if interface.topk is not None:
        return {SCORES: best(every, interface.topk)}
    return {PROBABILITIES: every} if interface.probabilities else {LOGITS: every}


def powers_of(
    results: Sequence[Mapping[str, FloatArray]], interface: Interface = AS_EXPORTED
) -> dict[str, float]:
    """``mean_power`` of every output over all sets of images, without a second copy of maps.

    Args:
        results: Of each set; at least one.
        interface: Whose ends others have: of logits, what these make of them counts as an output.
    """
    if LOGITS in results[0]:
        results = [{**outputs, **ends_of(outputs[LOGITS], interface)} for outputs in results]
    total = {name: sum(len(outputs[name]) for outputs in results) for name in results[0]}
    return {
        name: sum(mean_power(outputs[name]) * len(outputs[name]) for outputs in results) / count
        for name, count in total.items()
        if name != CLASSES
    }
