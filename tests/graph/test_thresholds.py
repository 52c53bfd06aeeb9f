"""Where each calibration method cuts a distribution off, on ones whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from swin_deploy.core.errors import ConfigError
from swin_deploy.graph.int8 import CALIBRATION_METHODS, CalibrationMethod
from swin_deploy.graph.int8.thresholds import (
    MOST_BINS,
    SMALLEST_THRESHOLD,
    bin_edges,
    count_magnitudes,
    describe_dead,
    measure_tensor,
)

RESOLUTION = 2**-10  # relative width of a bin
GRID = 16 * 2**-10  # relative step from a candidate to the next


def threshold(values: np.ndarray, method: CalibrationMethod, percentile: float = 99.99) -> float:
    return measure_tensor(values.astype(np.float32), 1).threshold(method, percentile)


def normal(count: int = 200_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(count)


def squared_error(values: np.ndarray, threshold: float) -> float:
    """The definition: INT8 and back."""
    scale = threshold / 127
    return float(np.square(np.rint(values / scale).clip(-127, 127) * scale - values).mean())


def test_bins_are_magnitudes_to_eleven_bits() -> None:
    values = np.array([0, 2**-41, 2**-40, 1, 1 + 2**-10, 1 + 2**-11, -1, 2], dtype=np.float32)
    counts = count_magnitudes(values)
    edges = bin_edges(len(counts))
    found = {float(edges[i]): int(counts[i]) for i in np.flatnonzero(counts)}
    assert found == {0.0: 3, 1.0: 3, 1 + 2**-10: 1, 2.0: 1}
    assert counts.sum() == len(values)
    assert edges[-1] == 2 + 2**-9


def test_every_finite_number_has_a_bin() -> None:
    extremes = np.array([np.finfo(np.float32).max, np.finfo(np.float32).tiny, 1e-45], np.float32)
    counts = count_magnitudes(extremes)
    assert len(counts) == MOST_BINS
    assert counts.sum() == 3
    assert np.isfinite(bin_edges(MOST_BINS)).all()
    assert (np.diff(bin_edges(MOST_BINS)[:-1]) > 0).all()
    for method in CALIBRATION_METHODS:
        assert 0 < threshold(extremes, method) <= np.finfo(np.float32).max


def test_parts_add_up_to_the_whole() -> None:
    values = (normal(10_000) * np.linspace(0.1, 30, 10_000)).astype(np.float32)
    whole = measure_tensor(values, 10)
    first, second = measure_tensor(values[:1000], 1), measure_tensor(values[1000:], 9)
    for added in (first + second, second + first):
        np.testing.assert_array_equal(added.counts, whole.counts)
        assert (added.images, added.minimum, added.maximum) == (10, whole.minimum, whole.maximum)


def test_minmax_is_the_largest_magnitude() -> None:
    assert threshold(np.array([-3.25, 0, 1.1]), "minmax") == 3.25
    assert threshold(normal(), "minmax") == np.abs(normal().astype(np.float32)).max()


@pytest.mark.parametrize("percentile", [50, 99, 99.9, 99.99, 100])
def test_the_percentile_is_the_quantile(percentile: float) -> None:
    values = np.linspace(-10, 10, 100_001)
    exact = np.quantile(np.abs(values), percentile / 100, method="inverted_cdf")
    found = threshold(values, "percentile", percentile)
    assert exact * (1 - 1e-6) <= found <= exact * (1 + RESOLUTION)


def test_one_value_in_ten_thousand_is_beyond_the_default_percentile() -> None:
    values = np.ones(20_000)
    values[:2] = 50
    assert threshold(values, "percentile") == pytest.approx(1, rel=RESOLUTION)
    values[:3] = 50
    assert threshold(values, "percentile") == 50


@pytest.mark.parametrize("method", ["entropy", "mse"])
def test_a_uniform_distribution_is_kept_whole(method: CalibrationMethod) -> None:
    values = np.random.default_rng(0).uniform(-3, 3, 100_000)
    assert threshold(values, method) == pytest.approx(3, rel=GRID)


@pytest.mark.fault(31)
@pytest.mark.parametrize("outlier", [50.0, 1e3, 1e6, -1e6, 1e30])
@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_one_far_outlier_is_cut_off(method: CalibrationMethod, outlier: float) -> None:
    values = np.append(normal(), outlier)
    assert 3 < threshold(values, method) < 6
    assert threshold(values, "minmax") == np.float32(abs(outlier))


def test_mse_cuts_an_outlier_off_where_that_costs_less() -> None:
    values = np.append(normal(), 10.0)
    assert threshold(values, "mse") < 6
    values = np.append(normal(), 1e6)  # here cutting it off costs more than all the others
    assert threshold(values, "mse") == pytest.approx(1e6, rel=GRID)


DISTRIBUTIONS = {
    "normal": normal(50_000),
    "Laplace": np.random.default_rng(1).laplace(size=50_000),
    "heavy tails": np.random.default_rng(2).standard_t(3, 50_000),
    "after GELU": np.maximum(normal(50_000), 0.0) - 0.17 * np.exp(-np.square(normal(50_000) + 0.7)),
    "a step": np.concatenate([np.full(900, 0.03), np.full(100, 0.8), np.linspace(0, 1, 500)]),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_is_as_good_as_the_best_of_a_search(name: str) -> None:
    values = DISTRIBUTIONS[name]
    best = min(
        squared_error(values, share * np.abs(values).max()) for share in np.linspace(0.1, 1, 300)
    )
    assert squared_error(values, threshold(values, "mse")) < 1.1 * best


def test_mse_on_two_values_gives_up_the_one_that_costs_less() -> None:
    """The step of 100 / 127 misses 1 by 0.21; cutting 100 off to 1 costs 99 squared."""
    rare, often = (np.concatenate([np.ones(n), [100.0]]) for n in (1000, 10**6))
    assert threshold(rare, "mse") == 100
    kept, cut = squared_error(often, 100), squared_error(often, 1)
    assert cut < kept
    found = threshold(often, "mse")
    assert squared_error(often, found) < 1.01 * cut


def divergence(values: np.ndarray, limit: float) -> float:
    """The definition, on bins of 1/512: the distribution against its 128 levels up to ``limit``."""
    fine, _ = np.histogram(np.abs(values), bins=2**14, range=(0, 32))
    inside = round(limit * 512)
    p, q = fine[:inside].astype(float), np.zeros(inside)
    p[np.flatnonzero(p)[-1]] += fine[inside:].sum()
    level = np.arange(inside) * 128 // inside
    for k in range(128):
        members = (level == k) & (p > 0)
        q[members] = fine[:inside][level == k].sum() / max(members.sum(), 1)
    p, q = p[p > 0] / p.sum(), q[p > 0] / q.sum()
    return float(p @ np.log(p / q))


def test_entropy_finds_the_least_divergence_of_the_definition() -> None:
    values = np.append(normal(), 30.0).astype(np.float32)
    found = round(threshold(values, "entropy") * 512) / 512
    least = min(divergence(values, limit) for limit in np.arange(2.5, 31, 1 / 16))
    assert divergence(values, found) < 1.1 * least
    assert divergence(values, 3.0) > 2 * least
    assert divergence(values, 30.0) > 1.5 * least


@pytest.mark.fault(31)
@pytest.mark.parametrize("method", CALIBRATION_METHODS)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-20, -1e-9])
def test_a_dead_tensor_gets_the_floor_and_a_note(method: CalibrationMethod, value: float) -> None:
    dead = measure_tensor(np.full(100, value, dtype=np.float32), 3)
    assert dead.threshold(method) == SMALLEST_THRESHOLD
    assert np.float16(SMALLEST_THRESHOLD / 127) > 0
    (note,) = describe_dead({"blocks.0/MatMul": dead, "alive": measure_tensor(np.ones(2), 3)})
    assert note.startswith("blocks.0/MatMul is at most")
    assert "on all 3 calibration images" in note


@pytest.mark.fault(31)
@pytest.mark.parametrize("method", CALIBRATION_METHODS)
@pytest.mark.parametrize("value", [1e-3, 1.0, -7.0, 2.0**20])
def test_a_constant_is_its_own_threshold(method: CalibrationMethod, value: float) -> None:
    assert threshold(np.full(100, value), method) == np.float32(abs(value))


@pytest.mark.parametrize("method", CALIBRATION_METHODS)
def test_zeros_do_not_make_the_rest_vanish(method: CalibrationMethod) -> None:
    values = np.zeros(10**6)
    values[:20] = np.linspace(0.5, 1, 20)  # so few that the percentile is zero
    assert threshold(values, method) == pytest.approx(1, rel=2 * GRID)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_counted(bad: float) -> None:
    with pytest.raises(ValueError, match="values from"):
        measure_tensor(np.array([1, bad, 2], dtype=np.float32), 1)


@pytest.mark.parametrize("percentile", [0, -1, 100.1, np.nan])
def test_a_percentile_that_means_nothing_is_refused(percentile: float) -> None:
    with pytest.raises(ConfigError, match="percentile"):
        threshold(normal(10), "percentile", percentile)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of minmax, percentile, entropy, mse"):
        threshold(normal(10), "magic")  # type: ignore[arg-type]
