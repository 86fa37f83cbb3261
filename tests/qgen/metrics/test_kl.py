"""Both divergences against numpy and scipy, and how they behave with finite samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from qgen.data import gamma_events, gaussian_events
from qgen.metrics import METRICS, evaluate, histogram_kl, kl, kl_published


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(truth: torch.Tensor, generated: torch.Tensor, low: float, high: float) -> float:
    edges = np.linspace(low, high, 100)
    p, q = (np.histogram(x.numpy(), edges)[0] / len(x) for x in (truth, generated))
    return float(entropy(np.where(p == 0, 1e-100, p), np.where(q == 0, 1e-100, q)))


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_published_definition_within_the_limits_of_a_feature(shift: float) -> None:
    truth, generated = (gaussian_events(n=5000, seed=s) for s in (1, 2))
    generated = generated.with_samples(generated.samples * (1 + shift) + shift)
    row = {
        f.name: reference(truth.samples[:, i], generated.samples[:, i], -4.0, 4.0) for i, f in enumerate(truth.features)
    }
    found = kl_published(truth, generated, n_bootstrap=2).value
    assert found == pytest.approx(np.mean(list(row.values())), rel=1e-9)
    inside = truth.with_samples(truth.samples.clamp(-4, 4))
    assert kl_published(inside, generated, n_bootstrap=2).value == pytest.approx(found, rel=1e-9)


def test_published_definition_on_the_range_of_truth() -> None:
    truth, generated = normal(0, 3000, 2), 1.1 * normal(1, 3000, 2)
    expected = [reference(a, b, a.min().item(), a.max().item()) for a, b in zip(truth.T, generated.T, strict=True)]
    assert kl_published(truth, generated, n_bootstrap=2).value == pytest.approx(np.mean(expected), rel=1e-9)


def test_one_lone_true_event_costs_what_the_definition_says() -> None:
    p, q = torch.tensor([0.9999, 0.0001]), torch.tensor([1.0, 0.0])
    assert histogram_kl(p, q).item() == pytest.approx(1e-4 * math.log(1e-4 / 1e-100), rel=1e-2)
    assert histogram_kl(q, p).item() == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(("build", "low", "high"), [(gamma_events, 0.15, 0.3), (gaussian_events, 0.085, 0.12)])
def test_truth_against_truth_in_the_published_definition(build, low: float, high: float) -> None:
    """Two samples of truth of 10,000 events score on average what is published for the generator, or worse."""
    values = [
        kl_published(build(n=10_000, seed=2 * s), build(n=10_000, seed=2 * s + 1), n_bootstrap=2).value
        for s in range(40)
    ]
    assert low < np.mean(values) < high


def exact(shift: float) -> float:
    return shift**2 / 2


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_ours_comes_near_the_divergence_of_two_normal_distributions(shift: float) -> None:
    found = kl(normal(0, 40_000, 1), normal(1, 40_000, 1) + shift, n_bootstrap=2).value
    assert found == pytest.approx(exact(shift), rel=0.12)


def test_ours_between_samples_of_truth_falls_with_their_size() -> None:
    """With K bins and n events in each sample it is about K / n."""
    for n, bins in ((2000, 64), (20_000, 128)):
        values = [kl(normal(2 * s, n, 1), normal(2 * s + 1, n, 1), n_bootstrap=2).value for s in range(10)]
        assert np.mean(values) == pytest.approx(bins / n, rel=0.35)


def test_ours_charges_a_missing_half_by_the_evidence() -> None:
    losses = [kl(normal(0, n, 1), normal(1, n, 1).abs(), n_bootstrap=2).value for n in (500, 5000, 50_000)]
    assert losses[0] < losses[1] < losses[2] < 10
    collapsed = kl(normal(0, 5000, 1), torch.zeros(5000, 1, dtype=torch.float64), n_bootstrap=2).value
    assert math.isfinite(collapsed)
    assert collapsed > 3


def test_ours_of_a_discrete_truth() -> None:
    truth = (normal(0, 4000, 1) > 0).double()
    assert kl(truth, truth, n_bootstrap=2).value < 1e-3
    assert kl(truth, torch.ones_like(truth), n_bootstrap=2).value == pytest.approx(
        0.5 * math.log(0.5 / 1.2e-4), rel=0.15
    )


def test_both_are_asked_for_and_have_floors() -> None:
    truth, other, generated = normal(0, 3000, 1), normal(1, 3000, 1), normal(2, 3000, 1) + 0.5
    assert {"kl", "kl_published"} & {
        row.metric for row in evaluate(truth[:200], generated[:200], n_bootstrap=2)
    } == set()
    table = evaluate(truth, generated, reference=other, metrics=["kl", "kl_published"])
    assert table["kl"].value.value == pytest.approx(exact(0.5), rel=0.4)
    assert table["kl"].floor.value < 0.05
    assert table["kl_published"].floor.value > table["kl"].floor.value
    for name in ("kl", "kl_published"):
        assert not METRICS[name].by_default
        assert table[name].value.value > table[name].floor.value
