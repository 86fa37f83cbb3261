from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from qgen.metrics import classifier_auc
from qgen.metrics.classifier import auc


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=30, deadline=None)
def test_area_agrees_with_sklearn_with_ties_and_weights(seed, n, m, ties):
    a, b = normal(seed, n), normal(seed + 1, m) + 0.5
    if ties:
        a, b = a.round(), b.round()
    rng = torch.Generator().manual_seed(seed)
    w, v = 0.1 + torch.rand(n, generator=rng).double(), 0.1 + torch.rand(m, generator=rng).double()
    expected = roc_auc_score([0] * n + [1] * m, torch.cat([a, b]), sample_weight=torch.cat([w, v]))
    assert auc(a, b, w, v).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_shifted_gaussians_give_the_best_possible_area(shift):
    result = classifier_auc(normal(0, 4000, 1), normal(1, 4000, 1) + shift)
    assert result.value == pytest.approx(stats.norm.cdf(shift / 2**0.5), abs=0.02)


def test_disjoint_samples_give_one_and_like_ones_a_half():
    assert classifier_auc(normal(0, 500, 2), normal(1, 500, 2) + 50).value == 1
    like = classifier_auc(normal(0, 1000, 2), normal(1, 1000, 2))
    assert like.value == pytest.approx(0.5, abs=4 * like.uncertainty)


def test_no_event_is_scored_by_a_classifier_that_has_seen_it():
    """On pure noise in many columns a classifier separates its own training events easily."""
    assert classifier_auc(normal(0, 300, 40), normal(1, 300, 40)).value < 0.6


def test_at_most_ten_thousand_events_are_used():
    result = classifier_auc(normal(0, 10_500, 1), normal(1, 50, 1) + 1, n_bootstrap=2)
    assert 0.65 < result.value < 0.9


def test_few_events_still_have_an_uncertainty():
    """A replica may leave out every event of a fold; the others' areas then are the value."""
    rng = torch.Generator().manual_seed(0)
    for seed in range(5):
        truth, generated = torch.randn(2, 20, 1, generator=rng, dtype=torch.float64)
        result = classifier_auc(truth, generated, seed=seed, n_bootstrap=50)
        assert 0 <= result.value <= 1
        assert 0 < result.uncertainty < 0.5
