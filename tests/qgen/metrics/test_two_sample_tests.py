"""Tests with p-values: uniform for equal distributions, small where there is a fault, references of others."""

from __future__ import annotations

from dataclasses import replace

import ot
import pytest
import torch
from scipy import stats

from qgen.data.dataset import Dataset, Feature
from qgen.metrics import Metric, classifier_auc, evaluate, kernel_test, likelihood_ratio, mmd, sliced_ks
from qgen.metrics.classifier import auc, auc_variance, p_above_half
from qgen.metrics.permutation import _discrepancy, _kernel, divisions, p_value, pooled_units

PERMUTED = [kernel_test, sliced_ks, likelihood_ratio]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ones(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.float64)


def p_of(metric: Metric, truth: torch.Tensor, generated: torch.Tensor, **settings: int) -> float:
    p = metric(truth, generated, n_bootstrap=2, **settings).p_value
    assert p is not None
    return p


def odd_events(seed: int, n: int, count: int) -> torch.Tensor:
    """Normal events, ``count`` of them in a small clump four standard deviations away."""
    x = normal(seed, n, 2)
    x[:count] = 4 / 2**0.5 + 0.2 * x[:count]
    return x


@pytest.mark.parametrize("metric", PERMUTED, ids=lambda m: m.name)
def test_p_values_are_uniform_for_equal_distributions(metric):
    """Of 40 permutations a p-value is one of 41 steps; their distribution is that of exact permutation tests."""
    found = [p_of(metric, normal(2 * k, 60, 2), normal(2 * k + 1, 60, 2), seed=k, permutations=40) for k in range(120)]
    for steps in (4, 10, 20, 31):
        count = sum(p < (steps + 0.5) / 41 for p in found)
        assert stats.binomtest(count, len(found), steps / 41).pvalue > 1e-3


def test_p_values_of_the_classifier_are_safe_for_equal_distributions():
    """A little too large rather than too small: the factor for shared training events is an upper bound."""
    found = torch.tensor([p_of(classifier_auc, normal(2 * k, 100, 2), normal(2 * k + 1, 100, 2)) for k in range(30)])
    for level in (0.1, 0.25, 0.5):
        count = int((found <= level).sum())
        assert stats.binomtest(count, len(found), level, alternative="greater").pvalue > 1e-3
    assert found.min() < 0.3
    assert found.max() > 0.7


def test_variance_of_the_area_is_that_of_scipys_mann_whitney_test():
    for round_to in (None, 0):
        a, b = normal(0, 50), normal(1, 70) + 0.3
        if round_to is not None:
            a, b = a.round(decimals=round_to), b.round(decimals=round_to)
        theirs = stats.mannwhitneyu(b, a, alternative="greater", use_continuity=False, method="asymptotic").pvalue
        ours = p_above_half(auc(a, b, ones(50), ones(70)), auc_variance(a, b, ones(50), ones(70)))
        assert ours == pytest.approx(theirs, rel=1e-9)
    constant = torch.zeros(20, dtype=torch.float64)
    assert p_above_half(torch.tensor(0.5), auc_variance(constant, constant, ones(20), ones(20))) == 1


def test_weights_of_the_area_count_as_effective_events():
    a, b = normal(0, 4000), normal(1, 4000)
    rng = torch.Generator().manual_seed(2)
    w, v = (torch.rand(4000, generator=rng, dtype=torch.float64) ** 3 for _ in range(2))
    effective = 2 * [1 / 7 / (1 / 4) ** 2]  # <w^2> / <w>^2 of a cube of a uniform number: (1/7) / (1/4)^2
    expected = sum(effective) / (12 * 4000)
    assert auc_variance(a, b, w, v).item() == pytest.approx(expected, rel=0.05)


def test_weights_train_the_classifier():
    """Truth is twice as many events as it should be below zero; weights correct that."""
    x = normal(0, 3000, 1)
    truth = torch.cat([x, x[x[:, 0] < 0] + 1e-6])
    weights = torch.where(truth[:, 0] < 0, 0.5, 1.0).double()
    weighted = Dataset(truth, (Feature("x0"),), weights=weights)
    generated = Dataset(normal(1, 3000, 1), (Feature("x0"),))
    assert classifier_auc(replace(weighted, weights=None), generated).value > 0.55
    assert classifier_auc(weighted, generated).value == pytest.approx(0.5, abs=0.03)


def test_kernel_statistic_is_the_textbooks():
    """Squared discrepancy by its definition with loops, and zero-mean up to its uncertainty."""
    x = pooled_units(normal(0, 12, 2), normal(1, 9, 2) + 0.5)
    kernel = _kernel(x)
    a, b = kernel[:12, :12], kernel[12:, 12:]
    expected = a.sum() / (12 * 11) + b.sum() / (9 * 8) - 2 * kernel[:12, 12:].mean()
    inside = torch.cat([ones(12), 0 * ones(9)])[None]
    assert _discrepancy(kernel, inside, ones(21))[0].item() == pytest.approx(expected.item(), abs=1e-12)
    distance = torch.from_numpy(ot.dist(x.numpy(), x.numpy()))
    bandwidth = distance[distance > 0].median()
    gaussians = [(-distance / (2 * factor**2 * bandwidth)).exp() for factor in (0.25, 0.5, 1, 2)]
    torch.testing.assert_close(kernel, (sum(gaussians) / 4).fill_diagonal_(0))


def test_sliced_ks_of_one_column_is_scipys():
    truth, generated = normal(0, 300, 1).round(decimals=1), (normal(1, 300, 1) + 0.2).round(decimals=1)
    expected = stats.ks_2samp(truth[:, 0], generated[:, 0]).statistic
    assert sliced_ks(truth, generated, slices=3).value == pytest.approx(expected, abs=1e-12)


def test_permutation_p_value_agrees_with_the_kolmogorov_smirnov_test():
    truth, generated = normal(0, 150, 1), normal(1, 150, 1) + 0.2
    expected = stats.ks_2samp(truth[:, 0], generated[:, 0]).pvalue
    found = p_of(sliced_ks, truth, generated, slices=1, permutations=2000)
    assert found == pytest.approx(expected, abs=4 * (expected / 2000) ** 0.5)


def test_divisions_are_of_the_sizes_found_and_differ():
    inside = divisions(30, 80, 50, seed=0)
    assert inside[0, :30].sum() == 30
    assert (inside.sum(1) == 30).all()
    assert len(inside.unique(dim=0)) == 51
    assert p_value(torch.zeros(21)) == 1


@pytest.mark.parametrize("metric", [*PERMUTED, classifier_auc], ids=lambda m: m.name)
def test_grows_with_distortion_and_sees_it(metric):
    truth, generated = normal(0, 600, 3), normal(1, 600, 3)
    found = [metric(truth, factor * generated) for factor in (1.0, 1.3, 1.6)]
    assert found[0].value < found[1].value < found[2].value
    assert found[0].p_value > 0.02
    assert found[2].p_value < 0.02
    row = evaluate(normal(2, 1200, 3), 1.6 * generated, metrics=[metric.name])[metric.name]
    assert row.pull > 3


@pytest.mark.parametrize("metric", [*PERMUTED, classifier_auc], ids=lambda m: m.name)
def test_lost_correlation_is_seen(metric):
    truth, generated = normal(0, 1000, 2), normal(1, 1000, 2)
    truth[:, 1] = 0.7 * truth[:, 0] + 0.51**0.5 * truth[:, 1]
    assert p_of(metric, truth, generated) < 0.02


def test_the_learned_ratio_sees_a_rare_excess_that_ks_and_kernels_do_not():
    found = {
        m.name: [p_of(m, normal(100 + k, 2000, 2), odd_events(k, 2000, 20), seed=k) for k in range(3)]
        for m in (likelihood_ratio, kernel_test, sliced_ks)
    }
    assert max(found["likelihood_ratio"]) < 0.02
    assert sorted(found["kernel_test"])[1] > 0.1
    assert sorted(found["sliced_ks"])[1] > 0.1
    assert stats.ks_2samp(normal(100, 2000, 2)[:, 0], odd_events(0, 2000, 20)[:, 0]).pvalue > 0.05


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6])
def test_the_learned_ratio_is_the_divergence_of_shifted_normal_distributions(shift):
    found = [likelihood_ratio(normal(2 * k, 2000, 1), normal(2 * k + 1, 2000, 1) + shift, seed=k) for k in range(4)]
    mean = sum(r.value for r in found) / 4
    assert mean == pytest.approx(shift**2 / 2, abs=2 * found[0].uncertainty)


@pytest.mark.parametrize("metric", [*PERMUTED, classifier_auc], ids=lambda m: m.name)
def test_collapsed_constant_and_far_events_are_scored(metric):
    truth = normal(0, 100, 2)
    for generated in (truth[:1].expand(100, 2), normal(1, 100, 2) * 1e6, torch.zeros(100, 2).double() + 1e30):
        result = metric(truth, generated)
        assert 0 < result.p_value < 0.02
    constant = torch.ones(100, 2, dtype=torch.float64)
    assert metric(constant, constant).p_value == 1


def test_mmd_and_its_test_agree_where_both_samples_are_equally_wide():
    truth, generated = normal(0, 1000, 2), normal(1, 1000, 2) + 0.4
    assert kernel_test(truth, generated).value == pytest.approx(mmd(truth, generated).value, rel=0.2)


def test_bad_options_are_one_line():
    truth, generated = normal(0, 50, 2), normal(1, 50, 2)
    for metric, options, message in (
        (kernel_test, {"permutations": 5}, "option permutations of kernel_test is 5; at least 20 are needed"),
        (sliced_ks, {"slices": 0}, "option slices of sliced_ks is 0; at least 1 is needed"),
        (likelihood_ratio, {"centres": 1}, "option centres of likelihood_ratio is 1; at least 2 are needed"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(truth, generated, **options)
