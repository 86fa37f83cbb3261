from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qgen.metrics import correlation, ks, mmd, wasserstein
from qgen.metrics.columns import spread


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def estimate(metric, truth, generated, w=None, v=None):
    w = torch.ones(len(truth), dtype=torch.float64) if w is None else w
    v = torch.ones(len(generated), dtype=torch.float64) if v is None else v
    return metric.build(truth, generated, 0)(w, v)


tables = st.tuples(st.integers(0, 2**31), st.integers(20, 60), st.integers(20, 60), st.integers(1, 4), st.booleans())


def pair(table):
    """Two samples of different sizes; with ties, of integers in a few values."""
    seed, n, m, d, ties = table
    truth, generated = normal(seed, n, d), 0.3 + 1.2 * normal(seed + 1, m, d)
    return ((2 * truth).round(), (2 * generated).round()) if ties else (truth, generated)


@given(tables)
@settings(max_examples=25, deadline=None)
def test_wasserstein_and_ks_agree_with_scipy_also_on_ties(table):
    truth, generated = pair(table)
    w1, distance = estimate(wasserstein, truth, generated), estimate(ks, truth, generated)
    for i, scale in enumerate(spread(truth)):
        a, b = truth[:, i].numpy(), generated[:, i].numpy()
        assert w1[i].item() == pytest.approx(stats.wasserstein_distance(a, b) / scale.item(), abs=1e-12)
        assert distance[i].item() == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic, abs=1e-12)


@given(tables)
@settings(max_examples=15, deadline=None)
def test_weights_count_events_as_scipy_and_repetition_do(table):
    truth, generated = pair(table)
    rng = torch.Generator().manual_seed(table[0])
    w = torch.randint(0, 3, (len(truth),), generator=rng).double()
    v = torch.randint(0, 3, (len(generated),), generator=rng).double()
    w[0] = v[0] = 1
    values = estimate(wasserstein, truth, generated, w, v)
    for i, scale in enumerate(spread(truth)):
        expected = stats.wasserstein_distance(truth[:, i], generated[:, i], w.numpy(), v.numpy())
        assert values[i].item() == pytest.approx(expected / scale.item(), abs=1e-12)
    repeated = truth.repeat_interleave(w.long(), 0), generated.repeat_interleave(v.long(), 0)
    torch.testing.assert_close(estimate(ks, truth, generated, w, v), estimate(ks, *repeated))
    if truth.shape[1] > 1 and all(len(x) > 1 for x in repeated):
        expected = np.abs(np.subtract(*(pearson(x) for x in repeated)))[np.triu_indices(truth.shape[1], 1)].mean()
        assert estimate(correlation, truth, generated, w, v).item() == pytest.approx(expected, abs=1e-9)


def pearson(x: torch.Tensor) -> np.ndarray:
    """numpy's Pearson matrix, 0 for the pairs with a constant column."""
    varies = np.ptp(x.numpy(), axis=0) > 0
    matrix = np.zeros((x.shape[1], x.shape[1]))
    if varies.any():
        matrix[np.ix_(varies, varies)] = np.corrcoef(x.numpy()[:, varies], rowvar=False)
    return matrix


def test_wasserstein_agrees_with_optimal_transport():
    ot = pytest.importorskip("ot")
    truth, generated = normal(0, 300, 2), normal(1, 200, 2) ** 3
    expected = ot.wasserstein_1d(truth.numpy(), generated.numpy(), p=1) / truth.std(0, correction=0).numpy()
    np.testing.assert_allclose(estimate(wasserstein, truth, generated), expected, rtol=1e-10)


def test_wasserstein_of_a_shift_is_the_shift_in_standard_deviations():
    truth = 3 * normal(0, 500, 2)
    shift = 0.7 * truth.std(0, correction=0)
    torch.testing.assert_close(estimate(wasserstein, truth, truth + shift), torch.full((2,), 0.7).double())


def test_wasserstein_of_a_feature_constant_in_truth_is_in_its_own_unit():
    truth = torch.full((50, 1), 0.1, dtype=torch.float64)
    assert estimate(wasserstein, truth, truth + 2).item() == pytest.approx(2)


def test_ks_of_shifted_gaussians_is_the_closed_form():
    result = ks(normal(0, 20_000, 1), normal(1, 20_000, 1) + 0.8)
    assert result.value == pytest.approx(2 * stats.norm.cdf(0.4) - 1, abs=4 * result.uncertainty)
    assert result.uncertainty < 0.01


def test_correlation_is_that_of_numpy_and_does_not_depend_on_units():
    truth, generated = normal(0, 100, 4), normal(1, 80, 4) @ normal(2, 4, 4)
    difference = np.corrcoef(truth.T) - np.corrcoef(generated.T)
    expected = np.abs(difference[np.triu_indices(4, 1)]).mean()
    assert estimate(correlation, truth, generated).item() == pytest.approx(expected, rel=1e-9)
    unit, offset = torch.tensor([1e-6, 1.0, 1e5, 3.0]).double(), torch.tensor([0.0, 1e5, 7.0, -1.0]).double()
    rescaled = estimate(correlation, truth * unit + offset, generated * unit + offset)
    assert rescaled.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 / 3, -7e-9])
def test_a_constant_column_has_correlation_zero(constant):
    truth = normal(0, 2000, 2)
    truth[:, 1] += truth[:, 0]
    collapsed = torch.stack([normal(1, 2000), torch.full((2000,), constant, dtype=torch.float64)], 1)
    expected = np.corrcoef(truth.T)[0, 1]
    assert estimate(correlation, truth, collapsed).item() == pytest.approx(expected, rel=1e-9)
    assert estimate(correlation, truth, torch.full_like(truth, constant)).item() == pytest.approx(expected, rel=1e-9)


def test_correlation_needs_two_columns():
    with pytest.raises(ValueError, match="correlation needs at least 2 and at most 1000 columns, found 1"):
        correlation(normal(0, 50, 1), normal(1, 50, 1))


def naive_mmd(truth, generated, w, v):
    """The definition, event by event."""
    scale = truth.std(0, unbiased=False)
    a, b = truth / scale, generated / scale
    bandwidth = torch.pdist(a).median()

    def kernel(x, y):
        squared = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        return sum(torch.exp(-squared / (2 * (f * bandwidth) ** 2)) for f in (0.25, 0.5, 1.0, 2.0)) / 4

    def within(x, weights):
        weight = torch.outer(weights, weights)
        weight.fill_diagonal_(0)
        return (weight * kernel(x, x)).sum() / weight.sum()

    across = torch.outer(w, v)
    return within(a, w) + within(b, v) - 2 * (across * kernel(a, b)).sum() / across.sum()


def test_mmd_is_its_definition_with_any_weights():
    truth, generated = 5 + 2 * normal(0, 40, 3), 5 + normal(1, 30, 3)
    rng = torch.Generator().manual_seed(0)
    w, v = torch.rand(40, generator=rng).double(), torch.rand(30, generator=rng).double()
    expected = naive_mmd(truth, generated, w, v)
    assert estimate(mmd, truth, generated, w, v).item() == pytest.approx(expected.item(), rel=1e-4)


def test_mmd_of_gaussians_is_the_closed_form():
    d, shift = 3, 0.5
    median = math.sqrt(2 * stats.chi2.median(d))

    def expected_kernel(distance_squared, s):
        return (s**2 / (s**2 + 2)) ** (d / 2) * math.exp(-distance_squared / (2 * (s**2 + 2)))

    widths = [f * median for f in (0.25, 0.5, 1, 2)]
    expected = sum(2 * expected_kernel(0, s) - 2 * expected_kernel(d * shift**2, s) for s in widths) / 4
    result = mmd(normal(0, 2000, d), normal(1, 2000, d) + shift, n_bootstrap=40)
    assert result.value == pytest.approx(expected, abs=4 * result.uncertainty)
    assert result.uncertainty < 0.1 * expected


def test_mmd_is_unbiased():
    values = torch.tensor([estimate(mmd, normal(2 * k, 40, 2), normal(2 * k + 1, 40, 2)) for k in range(200)])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(len(values))
    assert (values < 0).any()


def test_mmd_draws_from_large_samples_and_equal_events_are_no_distance():
    sorted_truth = normal(0, 5000, 1).sort(0).values
    assert abs(mmd(sorted_truth, normal(1, 5000, 1)).value) < 2e-3
    bits = torch.zeros(60, 8, dtype=torch.float64)
    bits[:10, 0] = 1 / 3
    assert torch.isfinite(estimate(mmd, bits, bits + 0.1))
    constant = torch.full((30, 2), 0.1, dtype=torch.float64)
    assert estimate(mmd, constant, constant).item() == 0


@given(tables)
@settings(max_examples=15, deadline=None)
def test_symmetry_rows_and_equal_samples(table):
    truth, generated = pair(table)
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(table[0]))
    for metric in (wasserstein, ks, mmd, *([correlation] if truth.shape[1] > 1 else [])):
        value = estimate(metric, truth, generated)
        torch.testing.assert_close(estimate(metric, truth[order], generated), value, rtol=1e-9, atol=1e-12)
        assert estimate(metric, truth, truth[order]).max() <= 1e-12
    torch.testing.assert_close(estimate(ks, truth, generated), estimate(ks, generated, truth))
    there, back = estimate(wasserstein, truth, generated), estimate(wasserstein, generated, truth)
    torch.testing.assert_close(there * spread(truth), back * spread(generated))
