"""Tails, ranges, and the intervals of counts and shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chi2, poisson

from qgen.data import gaussian_events, load_calorimeter, simulate_muon
from qgen.data.dataset import Dataset, Feature
from qgen.metrics import evaluate, outside, outside_limits, rare_events, tail_counts
from qgen.metrics.counting import ONE_SIGMA, effective_count, poisson_interval, share


def normal(seed: int, n: int, d: int = 2) -> Dataset:
    rng = torch.Generator().manual_seed(seed)
    return Dataset(torch.randn(n, d, generator=rng, dtype=torch.float64), tuple(Feature(f"x{i}") for i in range(d)))


@pytest.mark.parametrize("count", [0, 1, 7, 150])
def test_poisson_intervals_are_garwoods(count: int) -> None:
    low, high = poisson_interval(count)
    tail = (1 - ONE_SIGMA) / 2
    assert high == pytest.approx(chi2.ppf(1 - tail, 2 * count + 2) / 2)
    assert poisson.cdf(count, high) == pytest.approx(tail)
    if count:
        assert low == pytest.approx(chi2.ppf(tail, 2 * count) / 2)
        assert poisson.sf(count - 1, low) == pytest.approx(tail)


@pytest.mark.parametrize(("inside", "n"), [(0, 30), (3, 10), (10, 10), (40, 400)])
def test_intervals_of_shares_are_wilsons(inside: int, n: int) -> None:
    found = share(torch.arange(n) < inside, torch.ones(n).double())
    expected = binomtest(inside, n).proportion_ci(ONE_SIGMA, method="wilson")
    assert found.value == inside / n
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.uncertainty == pytest.approx((expected.high - expected.low) / 2)


def test_weights_make_counts_effective() -> None:
    weights = torch.tensor([1.0, 1.0, -0.5])
    assert effective_count(weights) == pytest.approx(1.5**2 / 2.25)
    doubled = share(torch.arange(40) < 10, torch.full((40,), 2.0).double())
    assert doubled == share(torch.arange(40) < 10, torch.ones(40).double())


def test_counts_of_tails_are_counts() -> None:
    truth, generated = normal(0, 2000), normal(1, 1000)
    tail = next(c for c in tail_counts(truth, generated) if c.name == "x1 high")
    x, y = truth.samples[:, 1], generated.samples[:, 1]
    assert tail.edge == np.partition(x.numpy(), -20)[-20]
    assert tail.expected == 20 * 1000 / 2000
    assert tail.found == (y >= tail.edge).sum()
    assert tail.ratio.value == pytest.approx(tail.found / tail.expected)
    low, high = poisson_interval(tail.found)
    assert tail.ratio.interval == pytest.approx((low / tail.expected, high / tail.expected))


@pytest.mark.parametrize("n", [20, 200])
def test_a_perfect_generator_hits_tails_as_often_as_truth_does(n: int) -> None:
    """The edges are true events: taken as outside the tail, few of them would make it too wide by one event."""
    draws = [tail_counts(normal(2 * s, n, 1), normal(2 * s + 1, n, 1)) for s in range(600)]
    found = np.array([[count.ratio.value for count in counts] for counts in draws])
    expected = n / (n + 1)
    assert (abs(found.mean(0) - expected) < 4 * found.std(0) / 600**0.5).all()


FAULTS = {
    "missing": (lambda x: x.clamp(-1.8, 1.8), -5),
    "heavy": (lambda x: 1.5 * x, 5),
    "one-sided": (lambda x: x.clamp_min(-1.8), -2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_in_the_tails_are_seen(fault: str) -> None:
    truth, other, generated = (normal(seed, 4000) for seed in range(3))
    change, expected = FAULTS[fault]
    table = evaluate(
        truth,
        {"wrong": generated.with_samples(change(generated.samples)), "perfect": generated},
        reference=other,
        metrics=["rare_events"],
    )
    wrong, perfect = table.of("wrong"), table.of("perfect")
    assert wrong["rare_events"].pull / expected > 1
    assert max(abs(row.pull) for row in perfect) < 3.5
    assert abs(perfect["rare_events"].floor.value - 1) < 3 * perfect["rare_events"].floor.uncertainty
    if fault == "one-sided":
        assert wrong["rare_events/x0 low"].value.value == 0
        assert wrong["rare_events/x0 low"].value.interval[1] == pytest.approx(1.841 / 40, rel=1e-3)
        assert abs(wrong["rare_events/x0 high"].pull) < 3


def test_growing_tails_are_hit_more_often() -> None:
    truth, generated = normal(0, 2000), normal(1, 2000)
    found = [rare_events(truth, generated.with_samples(s * generated.samples)).value for s in (0.5, 0.8, 1.0, 1.3)]
    assert found == sorted(found)


def test_integer_weights_repeat_events_and_negative_ones_cancel() -> None:
    truth, generated = normal(0, 1000), normal(1, 600)
    times = torch.arange(600) % 3
    repeated = rare_events(truth, generated.take(torch.arange(600).repeat_interleave(times)))
    weighted = rare_events(truth, replace(generated, weights=times.double()))
    assert weighted.value == pytest.approx(repeated.value)
    assert weighted.uncertainty > repeated.uncertainty  # repeated events know no more
    rows = torch.cat([torch.arange(600), torch.arange(100)])
    cancelled = replace(generated.take(rows), weights=torch.cat([torch.ones(600), -torch.ones(100)]))
    expected = rare_events(truth, generated.take(torch.arange(100, 600))).value
    assert rare_events(truth, cancelled).value == pytest.approx(expected)


def test_tails_are_those_of_physics_features() -> None:
    counts = tail_counts(*(simulate_muon(n=500, seed=s).select("energy", "pt").observables() for s in (0, 1)))
    assert [c.name for c in counts] == ["energy low", "energy high", "pt low", "pt high", "x low", "x high", "any"]
    showers = load_calorimeter(grid=(8,), max_events=500)
    table = evaluate(showers, showers, metrics=["rare_events"])
    assert "rare_events/response low" in [row.name for row in table]


def test_constants_have_no_tail() -> None:
    truth = normal(0, 200)
    constant = truth.with_samples(torch.ones_like(truth.samples))
    assert rare_events(constant, truth).value == 1
    half = truth.with_samples(truth.samples * torch.tensor([1.0, 0.0]))
    assert [c.name for c in tail_counts(half, truth)] == ["x0 low", "x0 high", "any"]
    assert np.isfinite(rare_events(truth, constant).value)


def test_the_share_outside_is_counted() -> None:
    truth, generated = normal(0, 500), normal(1, 300)
    table = evaluate(truth, generated, reference=normal(2, 500), metrics=["outside"])
    sample = truth.samples[: table["outside"].n_events]
    assert table["outside"].n_events == 300
    found = outside(truth, generated.with_samples(3 * generated.samples))
    x = 3 * generated.samples
    expected = ((x < truth.samples.amin(0)) | (x > truth.samples.amax(0))).any(1).double().mean().item()
    assert found.value == pytest.approx(expected)
    assert abs(table["outside"].pull) < 3
    assert [row.feature for row in table] == ["x0", "x1", ""]
    assert sample.shape == (300, 2)


def test_a_perfect_generator_has_two_of_n_plus_one_outside() -> None:
    found = [outside(normal(2 * s, 50, 1), normal(2 * s + 1, 50, 1)).value for s in range(400)]
    assert np.mean(found) == pytest.approx(2 / 51, abs=0.004)


def test_only_features_with_limits_have_any_outside() -> None:
    events = gaussian_events(n=400, limits=(-1.0, 1.0))
    assert outside_limits(events, events).value == pytest.approx((events.samples.abs() > 1).any(1).double().mean())
    with pytest.raises(ValueError, match="outside_limits needs features that have limits"):
        outside_limits(normal(0, 50), normal(1, 50))


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match="quantile is 0.7; it must lie between 0 and 0.5"):
        rare_events(normal(0, 50), normal(1, 50), quantile=0.7)
