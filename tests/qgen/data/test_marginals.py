"""Features through their own distributions, and pixels below a threshold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from qgen.data import Marginals, ZeroSuppress, load_calorimeter
from qgen.data.transforms import EnergyFraction, Transform


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def skewed(n: int, seed: int = 1) -> torch.Tensor:
    """An exponential, a log-normal and a normal column."""
    x = torch.randn(n, 3, dtype=torch.float64, generator=rng(seed))
    return torch.stack([-torch.special.ndtr(x[:, 0]).log(), x[:, 1].exp(), x[:, 2]], dim=1)


def test_values_become_uniform_and_uniform_numbers_values() -> None:
    values, others = skewed(5000), skewed(4000, seed=2)
    transform = Marginals.fit(values)
    for shares in transform(others).T:
        assert stats.kstest(shares.numpy(), "uniform").pvalue > 0.001
    drawn = transform.inverse(torch.rand(4000, 3, dtype=torch.float64, generator=rng(3)))
    for mine, theirs in zip(drawn.T, others.T, strict=True):
        assert stats.ks_2samp(mine.numpy(), theirs.numpy()).pvalue > 0.001
    for column, distribution in ((0, stats.expon), (1, stats.lognorm(1)), (2, stats.norm)):
        assert stats.kstest(drawn[:, column].numpy(), distribution.cdf).pvalue > 0.001


def test_draws_keep_the_mean_also_of_long_tails() -> None:
    values = skewed(4000)
    levels = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    drawn = Marginals.fit(values).inverse(levels[:, None].expand(-1, 3))
    away = (drawn.mean(0) - values.mean(0)) / values.std(0)
    assert away.abs().max() < 0.01  # the error of the mean of 4000 events is 0.016


def test_it_is_invertible_within_and_beyond_the_training_values() -> None:
    values = skewed(500)
    transform = Marginals.fit(values)
    far = torch.cat([values, values + 10, values - 10])
    torch.testing.assert_close(transform.inverse(transform(far)), far, rtol=1e-9, atol=1e-9)


def test_the_slope_is_that_of_a_difference() -> None:
    values = skewed(500)
    transform = Marginals.fit(values)
    points = skewed(50, seed=4).requires_grad_()
    slopes = torch.autograd.grad(transform(points).sum(), points)[0]
    expected = slopes.log().sum(1)
    torch.testing.assert_close(transform.log_abs_det(points.detach()), expected)


def test_zero_is_apart_and_comes_back_exactly() -> None:
    values = skewed(1000)[:, :2] * (torch.rand(1000, 2, generator=rng(5)) < torch.tensor([0.7, 0.02]))
    transform = Marginals.fit(values, torch.tensor([True, True]))
    shares = transform(values)
    assert ((shares < 0) == (values == 0)).all()
    assert (transform.inverse(shares)[values == 0] == 0).all()
    torch.testing.assert_close(transform.inverse(shares), values)
    filled = values[values[:, 0] > 0, 0]
    drawn = transform.inverse(torch.rand(2000, 2, dtype=torch.float64, generator=rng(6)))[:, 0]
    assert stats.ks_2samp(drawn.numpy(), filled.numpy()).pvalue > 0.001
    assert transform.log_abs_det(values).isfinite().all()


@pytest.mark.parametrize("column", [[0, 0, 0, 0], [0, 0, 0, 3], [2, 2, 2, 2], [0, 0, 1, 1], [-1, 1, 1, 1]])
def test_few_or_equal_values_are_no_obstacle(column: list[int]) -> None:
    values = torch.tensor(column, dtype=torch.float64)[:, None]
    transform = Marginals.fit(values, torch.tensor([column[0] == 0]))
    torch.testing.assert_close(transform.inverse(transform(values)), values, rtol=1e-9, atol=1e-9)
    assert transform.log_abs_det(values).isfinite().all()


def test_single_precision_is_kept_also_where_values_are_equal() -> None:
    values = torch.tensor([[1.0], [1.0], [1.0], [2.0]])
    transform = Marginals.fit(values)
    shares = transform(values)
    assert shares.dtype == torch.float32
    torch.testing.assert_close(transform.inverse(shares), values)
    assert transform.log_abs_det(values).isfinite().all()


def test_a_thousand_pixels_are_fast_and_restored_from_json() -> None:
    data = load_calorimeter(grid=(16, 8, 8), max_events=600)
    fractions = EnergyFraction()(data.samples, data.conditions)
    transform = Marginals.fit(fractions, (fractions == 0).any(0))
    assert len(transform.levels) <= 100
    text = json.dumps(transform.spec())
    assert len(text) < 4e6
    again = Transform.from_spec(json.loads(text))
    shares = transform(fractions)
    assert torch.equal(again(fractions), shares)
    back = again.inverse(shares)
    assert (back[fractions == 0] == 0).all()
    np.testing.assert_allclose(back.numpy(), fractions.numpy(), rtol=1e-9, atol=1e-18)


def test_what_is_below_the_threshold_is_empty() -> None:
    suppress = ZeroSuppress(0.5)
    energies = torch.tensor([[0.0, 0.49, 0.5, 7.0]]).double()
    assert suppress(energies).tolist() == [[0.0, 0.0, 0.5, 7.0]]
    assert suppress.inverse(torch.tensor([[0.0, 1e-9, 0.6, -0.1]])).tolist() == [[0.0, 0.5, pytest.approx(0.6), 0.0]]
    drawn = suppress.inverse(torch.rand(1, 100, dtype=torch.float64, generator=rng()))
    assert torch.equal(suppress(drawn), drawn)
    assert Transform.from_spec(suppress.spec()).arguments() == {"threshold": 0.5}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Marginals([0.0, 0.5], [[0.0], [1.0]], [False]), r"levels must increase strictly from 0 to 1"),
        (lambda: Marginals([0.0, 1.0], [[0.0], [0.0]], [False]), r"knots of feature 0 must increase strictly"),
        (lambda: Marginals([0.0, 1.0], [[0.1], [1.0]], [True]), r"knots of feature 0 .* from 0 where"),
        (lambda: Marginals([0.0, 1.0], [[0.1, 1.0]], [False]), r"knots have shape \(1, 2\); expected \(2, 1\)"),
        (lambda: Marginals.fit(torch.tensor([[-1.0]]), torch.tensor([True])), r"feature 0 has the value -1"),
        (lambda: ZeroSuppress(0.0), r"threshold is 0.0; it must be positive and finite"),
        (lambda: ZeroSuppress(math.inf), r"threshold is inf"),
    ],
)
def test_misuse_is_one_clear_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
