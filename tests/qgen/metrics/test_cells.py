from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from qgen.metrics import jensen_shannon, joint_cells, separation, total_variation


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def estimate(metric, truth, generated):
    return metric.build(truth, generated, 0)(torch.ones(len(truth)).double(), torch.ones(len(generated)).double())


def masses(truth, generated):
    labels = joint_cells(truth, generated)
    n_cells = int(labels[0].max()) + 1
    return [np.bincount(x, minlength=n_cells) / len(x) for x in labels]


@given(st.integers(0, 2**31), st.integers(20, 3000), st.integers(1, 70), st.floats(0, 0.95))
@settings(max_examples=25, deadline=None)
def test_cells_partition_all_events_and_none_is_thin_in_truth(seed, n, d, zeros):
    truth, generated = normal(seed, n, d), 3 * normal(seed + 1, 100, d)
    truth[torch.rand(n, d, generator=torch.Generator().manual_seed(seed)) < zeros] = 0
    labels, other = joint_cells(truth, generated)
    counts = labels.bincount()
    assert len(labels) == n
    assert len(other) == 100
    assert counts.min() >= min(n, max(20, n // 128))
    assert other.min() >= 0
    assert other.max() < len(counts)


def test_cells_of_a_continuous_sample_have_equal_content_in_many_columns():
    labels, _ = joint_cells(normal(0, 2560, 40), normal(1, 20, 40))
    assert labels.bincount().tolist() == [20] * 128


def test_cells_are_fixed_by_truth_alone():
    truth = normal(0, 500, 3)
    alone, _ = joint_cells(truth, truth)
    beside, _ = joint_cells(truth, normal(1, 77, 3) + 5)
    assert torch.equal(alone, beside)


def test_cells_separate_empty_pixels_from_the_rest():
    truth = torch.zeros(200, 1, dtype=torch.float64)
    truth[:60, 0] = 1 + torch.arange(60.0)
    labels, _ = joint_cells(truth, truth)
    assert len(set(labels[60:].tolist())) == 1
    assert set(labels[60:].tolist()).isdisjoint(labels[:60].tolist())


def test_a_constant_truth_is_one_cell():
    constant = torch.full((100, 2), 0.1, dtype=torch.float64)
    assert estimate(total_variation, constant, constant + 1).item() == 0


@pytest.mark.parametrize("d", [1, 3, 20])
def test_divergences_agree_with_scipy_on_the_same_cells(d):
    truth, generated = normal(0, 1000, d), 1.3 * normal(1, 700, d) + 0.2
    p, q = masses(truth, generated)
    expected = jensenshannon(p, q, base=2) ** 2
    assert estimate(jensen_shannon, truth, generated).item() == pytest.approx(expected, rel=1e-9)
    assert estimate(total_variation, truth, generated).item() == pytest.approx(np.abs(p - q).sum() / 2, rel=1e-9)


def test_total_variation_of_shifted_gaussians_approaches_the_closed_form():
    result = total_variation(normal(0, 20_000, 1), normal(1, 20_000, 1) + 1)
    assert result.value == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=0.02)


def test_jensen_shannon_is_at_most_one_bit():
    truth = torch.cat([normal(0, 500, 1), normal(1, 500, 1) + 100])
    one_side = normal(2, 1000, 1) + 100
    assert estimate(jensen_shannon, truth, one_side).item() == pytest.approx(0.3113, abs=0.02)  # [1/2, 1/2] to [0, 1]
    assert estimate(jensen_shannon, truth, torch.full((1000, 1), 1e6).double()).item() < 1


def test_separation_is_that_of_numpy_histograms():
    truth, generated = normal(0, 1001, 2), 0.5 + normal(1, 800, 2)
    for i, value in enumerate(estimate(separation, truth, generated)):
        a, b = truth[:, i].numpy(), generated[:, i].numpy()
        low, high = np.sort(a)[[5, 995]]
        edges = np.array([-np.inf, a.min(), *np.linspace(low, high, 51), np.nextafter(a.max(), np.inf), np.inf])
        h1, h2 = np.histogram(a, edges)[0] / len(a), np.histogram(b, edges)[0] / len(b)
        assert value.item() == pytest.approx(0.5 * np.sum((h1 - h2) ** 2 / (h1 + h2 + 1e-16)), rel=1e-9)


def test_separation_runs_from_zero_to_one_and_drops_nothing():
    truth = normal(0, 500, 1)
    assert estimate(separation, truth, truth).item() == 0
    for disjoint in (truth + 100, truth - 100, torch.full_like(truth, 1e99)):
        assert estimate(separation, truth, disjoint).item() == pytest.approx(1)
    half_outside = torch.cat([truth[:250], truth[250:] + 100])
    assert estimate(separation, truth, half_outside).item() == pytest.approx(0.25 / 1.5 / 2 + 0.25, abs=0.05)


def test_separation_of_constant_and_nearly_constant_truth():
    constant = torch.full((100, 1), 0.1, dtype=torch.float64)
    assert estimate(separation, constant, constant).item() == 0
    assert estimate(separation, constant, constant + 1e-9).item() == pytest.approx(1)
    spiked = torch.zeros(1000, 1, dtype=torch.float64)
    spiked[0] = 5.0
    assert estimate(separation, spiked, spiked).item() == 0
    assert estimate(separation, spiked, spiked + 2.5).item() == pytest.approx(1)


@given(st.integers(0, 2**31), st.integers(1, 5))
@settings(max_examples=15, deadline=None)
def test_rows_may_come_in_any_order(seed, d):
    truth, generated = normal(seed, 200, d), normal(seed + 1, 150, d) * 1.5
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    for metric in (jensen_shannon, total_variation, separation):
        torch.testing.assert_close(estimate(metric, truth[order], generated), estimate(metric, truth, generated))
        assert estimate(metric, truth, truth[order]).max() == pytest.approx(0, abs=1e-12)
