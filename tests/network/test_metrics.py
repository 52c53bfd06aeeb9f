"""The numbers behind every verdict, on arrays whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from swin_deploy.network import judge as metrics
from swin_deploy.network.judge import cosine_similarity, max_abs_error, sqnr_db, top1_agreement

REFERENCE = np.array([[3.0, 4.0], [1.0, 0.0]])


def test_sqnr_is_the_mean_signal_over_the_worst_noise() -> None:
    candidate = REFERENCE + np.array([[0.0, 0.1], [0.0, 0.0]])
    assert sqnr_db(REFERENCE, candidate) == pytest.approx(10 * np.log10(13 / 0.01))
    candidate[1] = [1.0, 1.0]
    assert sqnr_db(REFERENCE, candidate) == pytest.approx(10 * np.log10(13 / 1))
    assert sqnr_db(REFERENCE, candidate, signal_power=100) == pytest.approx(20)


def test_more_equal_images_do_not_dilute_a_wrong_one() -> None:
    reference = np.ones((64, 10))
    candidate = reference.copy()
    candidate[17] = -1
    assert sqnr_db(reference, candidate) == pytest.approx(10 * np.log10(1 / 4))


def test_equal_arrays_are_infinitely_close() -> None:
    assert sqnr_db(REFERENCE, REFERENCE.copy()) == np.inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_far(bad: float) -> None:
    assert sqnr_db(REFERENCE, np.array([[3.0, 4.0], [bad, 0.0]])) == -np.inf
    assert sqnr_db(np.array([[3.0, 4.0], [bad, 0.0]]), REFERENCE) == -np.inf
    assert sqnr_db(REFERENCE, REFERENCE + 1, signal_power=bad) == -np.inf


def test_a_zero_reference_with_any_error_is_infinitely_far() -> None:
    assert sqnr_db(np.zeros((1, 2)), np.ones((1, 2))) == -np.inf


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="nothing to compare"):
        sqnr_db(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match="differ"):
        sqnr_db(np.zeros((1, 2)), np.zeros((2, 1)))


def test_cosine_error_and_agreement() -> None:
    candidate = np.array([[4.0, 3.0], [1.0, 0.0]])
    assert cosine_similarity(REFERENCE, candidate) == pytest.approx(24 / 25)
    assert max_abs_error(REFERENCE, candidate) == 1.0
    assert top1_agreement(REFERENCE, candidate) == 0.5


def test_probabilities_are_exact_and_do_not_overflow() -> None:
    logits = np.log(np.array([[1.0, 3.0], [2.0, 2.0]])) + np.array([[0.0], [5000.0]])
    np.testing.assert_allclose(metrics.softmax(logits), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-12)


def test_the_best_come_in_order() -> None:
    values = np.array([[1.0, 3.0, 2.0], [-1.0, -3.0, -2.0]])
    np.testing.assert_array_equal(metrics.best(values, 2), [[3.0, 2.0], [-1.0, -2.0]])


def test_the_interval_of_a_share() -> None:
    """Of the textbook for 8 of 10, and by hand for one standard deviation."""
    assert metrics.wilson_interval(8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-5)
    spread = (8 * 2 / 10 + 1 / 4) ** 0.5 / 11
    assert metrics.wilson_interval(8, 10, z=1) == pytest.approx(
        (8.5 / 11 - spread, 8.5 / 11 + spread)
    )


def test_mean_noise_is_that_of_all_images() -> None:
    reference, noise = np.ones((2, 1)), np.array([[0.1], [0.0]])
    assert metrics.mean_sqnr_db(reference, reference + noise) == pytest.approx(23.0103)
    assert metrics.mean_sqnr_db(reference, reference) == np.inf
    assert metrics.mean_sqnr_db(reference, reference * np.nan) == -np.inf
    assert metrics.mean_sqnr_db(reference * 0, reference) == -np.inf
