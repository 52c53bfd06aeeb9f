"""Average precision, F1 and errors: by hand, by brute force, and with intervals that cover."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from swin_deploy.measure.evaluate.scores import (
    Bools,
    Floats,
    average_precision,
    draw_counts,
    errors,
    estimates,
    f1,
    mean_average_precision,
)


def once(images: int) -> Floats:
    return np.ones((1, images))


def floats(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


def holds(*values: int) -> Bools:
    return np.array(values, dtype=bool)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ((0.9, 0.8, 0.7), (1, 1, 0), 1.0),
        ((0.9, 0.8, 0.7), (0, 1, 1), 0.5 * 1 / 2 + 0.5 * 2 / 3),
        ((0.9, 0.8, 0.7, 0.6), (1, 0, 0, 1), 0.5 * 1 + 0.5 * 2 / 4),
        ((0.5, 0.5, 0.5, 0.5), (1, 0, 0, 0), 1 / 4),  # all count together
        ((0.9, 0.5, 0.5), (0, 1, 0), 1 / 3),
        # That of scikit-learn's documentation.
        ((0.1, 0.4, 0.35, 0.8), (0, 0, 1, 1), 0.5 * 1 + 0.5 * 2 / 3),
    ],
)
def test_average_precision_by_hand(scores: Any, truth: Any, expected: float) -> None:
    found = average_precision(floats(*scores), holds(*truth), once(len(scores)))
    assert found == pytest.approx([expected], abs=1e-12)


def test_a_label_that_holds_of_nothing_has_none_and_does_not_count() -> None:
    scores = np.array([[0.9, 0.2], [0.1, 0.3]])
    truth = np.array([[True, False], [False, False]])
    assert np.isnan(average_precision(scores[:, 1], truth[:, 1], once(2))).all()
    assert mean_average_precision(scores, truth, once(2)).tolist() == [1.0]
    assert np.isnan(mean_average_precision(scores, truth & False, once(2))).all()


def area(scores: Floats, truth: Bools) -> float:
    """The area below precision over recall, threshold by threshold, in exact fractions."""
    total, above, found = int(truth.sum()), Fraction(0), Fraction(0)
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = scores >= threshold
        right = int((said & truth).sum())
        recall = Fraction(right, total)
        found += (recall - above) * Fraction(right, int(said.sum()))
        above = recall
    return float(found)


@pytest.mark.parametrize("seed", range(50))
def test_average_precision_is_the_area_by_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = int(generator.integers(1, 40))
    scores = np.round(generator.random(images), int(generator.integers(1, 4)))  # with ties
    truth = generator.random(images) < 0.4
    truth[generator.integers(images)] = True
    found = average_precision(scores, truth, once(images))[0]
    assert found == pytest.approx(area(scores, truth), abs=1e-12)
    # A photo that counts n times is n photos.
    counts = generator.integers(0, 4, images)
    counts[truth.argmax()] += 1
    repeated = area(np.repeat(scores, counts), np.repeat(truth, counts))
    weighed = average_precision(scores, truth, counts[None].astype(np.float64))[0]
    assert weighed == pytest.approx(repeated, abs=1e-12)


def test_f1_by_hand() -> None:
    said = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    truth = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 0]], dtype=bool)
    # Label 0: 2 right, 2 said, 3 hold. Label 1: 1 right, 2 said, 2 hold. Label 2: nothing.
    found = f1(said, truth, once(3))
    assert found["F1 micro"] == pytest.approx([2 * 3 / (4 + 5)])
    assert found["F1 macro"] == pytest.approx([(4 / 5 + 2 / 4) / 2])
    nothing = f1(said & False, truth & False, once(3))
    assert np.isnan([*nothing["F1 micro"], *nothing["F1 macro"]]).all()


def test_errors_by_hand() -> None:
    values, targets = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 4.0], [0.0, 4.0]])
    found = errors(values, targets, once(2))
    assert found["MAE"] == pytest.approx([(0 + 2 + 3 + 1) / 4])
    assert found["RMSE"] == pytest.approx([((0 + 4 + 9 + 1) / 4) ** 0.5])
    second = errors(values, targets, np.array([[0.0, 2.0]]))
    assert second["MAE"] == pytest.approx([2.0])
    assert second["RMSE"] == pytest.approx([(10 / 2) ** 0.5])


def test_intervals_are_those_of_a_mean() -> None:
    """The bootstrap of a mean of 400 photos is as wide as their deviation says."""
    generator = np.random.default_rng(0)
    off = generator.random((400, 1))
    found = estimates("regression", off, np.zeros((400, 1)), draw_counts(400), 0.5)["MAE"]
    low, high = found.interval
    assert low < found.value < high
    expected = 2 * 1.96 * off.std() / 400**0.5
    assert high - low == pytest.approx(expected, rel=0.1)


def test_a_difference_of_the_same_has_no_width() -> None:
    generator = np.random.default_rng(0)
    scores, truth = generator.random((60, 3)), (generator.random((60, 3)) < 0.3) * 1.0
    counts = draw_counts(60)
    own = estimates("multi-label", scores, truth, counts, 0.5)
    again = estimates("multi-label", scores.copy(), truth, counts, 0.5)
    assert set(own) == {"mAP", "F1 micro", "F1 macro"}
    for name, figure in own.items():
        apart = figure - again[name]
        assert (apart.value, apart.interval) == (0, (0, 0))


def test_the_threshold_decides() -> None:
    scores, truth = np.array([[0.6], [0.4]]), np.array([[1.0], [1.0]])
    counts = draw_counts(2)
    half = estimates("multi-label", scores, truth, counts, 0.5)
    low = estimates("multi-label", scores, truth, counts, 0.4)
    assert half["F1 micro"].value == pytest.approx(2 / 3)
    assert low["F1 micro"].value == 1
    assert half["mAP"].value == low["mAP"].value == 1
