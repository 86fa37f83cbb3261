"""PRD against the authors' code (github.com/msmsajjadi/precision-recall-distributions) and the golden case."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qgen.metrics import prd_auc, prd_curve, prd_f8, prd_f_eighth
from qgen.metrics.precision_recall import prd_of_shares

TRUE, FALSE = (torch.tensor(p, dtype=torch.float64) for p in ([0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]))
# compute_prd(FALSE, TRUE, num_angles=9) of the authors' prd_score.py; with its 1001 angles, the trapezoidal area under
# the curve and prd_to_max_f_beta_pair
PRECISION = [0.0, 0.198912367, 0.348528137, 0.500453591, 0.6, 0.748981729, 0.841421356, 1.0, 1.0]
AREA, F8 = 0.6906832374717273, 0.9557915017483665


def test_the_curve_is_that_of_the_authors_code() -> None:
    curve = prd_of_shares(TRUE, FALSE, angles=9)
    assert curve.precision.tolist() == pytest.approx(PRECISION, abs=1e-8)
    assert curve.recall.tolist() == pytest.approx(PRECISION[::-1], abs=1e-8)
    curve = prd_of_shares(TRUE, FALSE)
    assert curve.auc == pytest.approx(AREA, abs=1e-12)
    assert curve.f(8) == pytest.approx(F8, abs=1e-12)
    assert curve.f(1 / 8) == pytest.approx(F8, abs=1e-8)


def test_samples_score_as_in_the_authors_code() -> None:
    """compute_prd_from_embedding of these in truth's standard deviations, numpy's seeds 0 to 7: mean, spread."""
    rng = np.random.default_rng(1)
    truth, generated = rng.normal(size=(2000, 3)), rng.normal(size=(2000, 3)) * 0.6 + 0.4
    curve = prd_curve(torch.from_numpy(truth), torch.from_numpy(generated))
    found = curve.auc, curve.f(8), curve.f(1 / 8)
    reference = [(0.5994, 0.0031), (0.7899, 0.0061), (0.9464, 0.0030)]
    for value, (mean, spread) in zip(found, reference, strict=True):
        assert value == pytest.approx(mean, abs=3 * spread)


def test_half_the_support_is_precise_and_half_complete() -> None:
    """Golden values 1, 1/2, F8 .5039 and F1/8 .9848."""
    truth = torch.arange(20.0, dtype=torch.float64).repeat(50)[:, None]
    curve = prd_curve(truth, truth[truth[:, 0] < 10])
    assert curve.precision.max() == pytest.approx(1)
    assert curve.recall.max() == pytest.approx(0.5)
    assert curve.auc == pytest.approx(0.5, abs=1e-3)
    assert (curve.f(8), curve.f(1 / 8)) == (pytest.approx(0.5039, abs=1e-4), pytest.approx(0.9848, abs=1e-4))


def test_equal_samples_score_one_and_disjoint_ones_nothing() -> None:
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for metric in (prd_auc, prd_f8, prd_f_eighth):
        assert metric(x, x, n_bootstrap=2).value == pytest.approx(1, abs=1e-6)
        assert metric(x, x + 100, n_bootstrap=2).value == pytest.approx(0, abs=1e-6)


def test_exchanged_samples_exchange_precision_and_recall() -> None:
    curve, other = prd_of_shares(TRUE, FALSE), prd_of_shares(FALSE, TRUE)
    torch.testing.assert_close(curve.precision, other.recall.flip(-1), atol=1e-6, rtol=0)


def test_weights_count_in_the_clusters() -> None:
    truth = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(20)[:, None]
    estimate = prd_auc.build(truth, truth, 0)
    ones, kept = torch.ones(40).double(), truth[:, 0]
    assert estimate(ones, ones).item() == pytest.approx(1)
    assert estimate(ones, kept).item() == pytest.approx(0.5, abs=1e-3)


def test_mistakes_are_one_line() -> None:
    x = torch.zeros(30, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="clusters is 1, runs is 10; at least 2 clusters"):
        prd_curve(x, x, clusters=1)
    with pytest.raises(ValueError, match="angles is 2; at least 3"):
        prd_of_shares(TRUE, FALSE, angles=2)
    with pytest.raises(ValueError, match="truth: shares must not be negative"):
        prd_of_shares(2 * TRUE, FALSE)
