"""Precision, recall, density and coverage against the package prdc of their authors, and where it gives 0."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy.spatial.distance import cdist

from qgen.data.dataset import Dataset
from qgen.metrics import coverage, density, evaluate, precision, recall
from qgen.metrics.columns import as_dataset
from qgen.metrics.neighbours import nearest_distances, standardised

METRICS = {"precision": precision, "recall": recall, "density": density, "coverage": coverage}


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(truth: torch.Tensor, generated: torch.Tensor, k: int) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        return compute_prdc(*(x.numpy() for x in standardised(truth, truth, generated)), nearest_k=k)


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 8), st.floats(0.3, 2.0), st.floats(0, 2.0))
@settings(max_examples=20, deadline=None)
def test_values_are_those_of_prdc(seed: int, d: int, k: int, scale: float, shift: float) -> None:
    truth, generated = 5 + 3 * normal(seed, 200, d), 5 + 3 * scale * normal(seed + 1, 150, d) + shift
    expected = reference(truth, generated, k)
    ones = torch.ones(200).double(), torch.ones(150).double()
    for name, metric in METRICS.items():
        assert metric.build(truth, generated, 0, ones, k=k)(*ones).item() == pytest.approx(expected[name], abs=1e-6)


def test_equal_constants_score_one_where_prdc_gives_zero() -> None:
    same = torch.ones(50, 3, dtype=torch.float64)
    assert set(reference(same, same, 5).values()) == {0.0}
    found = [metric(same, same, n_bootstrap=2).value for metric in METRICS.values()]
    assert found == [1, 1, pytest.approx(50 / 49), 1]
    assert [metric(same, same + 1, n_bootstrap=2).value for metric in METRICS.values()] == [0, 0, 0, 0]


def test_many_equal_events_leave_the_density_at_one() -> None:
    truth, generated = normal(0, 2000, 2), normal(1, 2000, 2)
    truth[:600], generated[:600] = 0, 0  # empty showers
    found = density(truth, generated)
    assert abs(found.value - 1) < 3 * found.uncertainty
    assert reference(truth, generated, 5)["density"] < 0.8


@pytest.mark.parametrize("d", [1, 4])
def test_a_perfect_generator_has_the_expected_density_and_coverage(d: int) -> None:
    found = [[m(normal(2 * s, 500, d), normal(2 * s + 1, 500, d)).value for m in (density, coverage)] for s in range(8)]
    expected = 1, 1 - np.prod([(500 - i) / (1000 - i) for i in range(1, 6)])
    assert np.mean(found, 0) == pytest.approx(expected, abs=0.03)


def test_each_sees_its_fault() -> None:
    truth, generated = normal(0, 1000, 2), normal(1, 1000, 2)
    faults = {
        "one half": generated.abs(),
        "noisy": 2 * generated,
        "dense": 0.5 * generated,
        "collapsed": generated[:1].expand(1000, 2),
    }
    table = evaluate(truth, faults, reference=normal(2, 1000, 2), metrics=METRICS)
    pulls = {name: {row.metric: row.pull for row in table.of(name)} for name in faults}
    assert min(-pulls["one half"]["recall"], -pulls["one half"]["coverage"]) > 5
    assert min(-pulls["noisy"]["precision"], -pulls["noisy"]["density"]) > 5
    assert abs(pulls["dense"]["density"]) < 3  # blind to it, as its definition says
    assert pulls["dense"]["precision"] > -3
    assert pulls["one half"]["precision"] > -3
    assert pulls["noisy"]["recall"] > -3
    assert min(-pulls["collapsed"]["recall"], -pulls["collapsed"]["coverage"]) > 5


def test_a_growing_distortion_lowers_them() -> None:
    truth, generated = normal(0, 800, 2), normal(1, 800, 2)
    for metric in METRICS.values():
        found = [metric(truth, generated + shift, n_bootstrap=2).value for shift in (0.0, 1.0, 2.0, 4.0)]
        assert found == sorted(found, reverse=True)


def test_uncertainties_are_those_of_repeated_samples() -> None:
    """Where the values are not near 1: there they are too large."""
    for metric, scale, d in ((precision, 1.5, 8), (density, 1.5, 8), (recall, 0.5, 2), (coverage, 0.5, 2)):
        found = [metric(normal(2 * s, 300, d), scale * normal(2 * s + 1, 300, d)) for s in range(24)]
        spread = np.std([one.value for one in found])
        assert 0.6 < np.mean([one.uncertainty for one in found]) / spread < 1.8


def test_distances_are_exact_far_from_the_origin() -> None:
    a, b = 1e4 + normal(0, 300, 5), 1e4 + normal(1, 200, 5)
    b[:50] = a[:50]
    found = nearest_distances(a, b, 3)
    np.testing.assert_allclose(found, np.sort(cdist(a, b), 1)[:, :3], rtol=1e-12, atol=0)
    assert (found[:50, 0] == 0).all()


def test_mistakes_are_one_line() -> None:
    x = normal(0, 30, 2)
    with pytest.raises(ValueError, match="k is 30; 1 to 29 neighbours are possible in samples of 30 events"):
        precision(x, x, k=30)
    with pytest.raises(ValueError, match="option k of recall is 2.5; a whole number is expected"):
        recall(x, x, k=2.5)


def weighted(events: torch.Tensor, weights: torch.Tensor) -> Dataset:
    return replace(as_dataset("events", events), weights=weights)


@pytest.mark.parametrize("name", METRICS)
def test_weights_make_one_distribution_of_another(name: str) -> None:
    """Events of another distribution with the ratio of the densities as weights, positive or of both signs."""
    metric = METRICS[name]
    found, expected = [], []
    for seed in range(4):
        truth, generated = normal(4 * seed, 800, 2), normal(4 * seed + 1, 800, 2)
        wide = 1.5 * normal(4 * seed + 2, 2000, 2)
        ratio = 1.5**2 * (-wide.square().sum(1) / 2 + (wide / 1.5).square().sum(1) / 2).exp()
        sign = torch.where(torch.arange(800) % 10 < 1, -1.0, 1.0).double()
        expected.append(metric(truth, generated, n_bootstrap=2).value)
        found.append(
            [
                metric(weighted(truth, sign), generated, n_bootstrap=2).value,
                metric(truth, weighted(generated, sign), n_bootstrap=2).value,
                metric(truth, weighted(wide, ratio), n_bootstrap=2).value,
            ]
        )
    assert np.mean(found, 0)[:2] == pytest.approx(np.mean(expected), abs=0.05)
    if name != "recall":  # its balls are where events are, whatever their weights
        assert np.mean(found, 0)[2] == pytest.approx(np.mean(expected), abs=0.05)


def test_weighted_truth_leaves_the_density_at_one() -> None:
    """The balls of a wide sample, weighted as a narrow distribution, that the generated events follow."""
    wide, generated = 1.5 * normal(0, 2000, 2), normal(1, 1000, 2)
    ratio = 1.5**2 * (-wide.square().sum(1) / 2 + (wide / 1.5).square().sum(1) / 2).exp()
    found = density(weighted(wide, ratio), generated)
    assert abs(found.value - 1) < 3 * found.uncertainty < 0.3
    assert density(wide, generated).value > 1 - 0.1


def test_events_of_weight_zero_are_not_there() -> None:
    truth, generated = normal(0, 200, 2), normal(1, 200, 2)
    kept = (torch.arange(200) % 2).double()
    for metric in METRICS.values():
        found = metric.build(truth, generated, 0, (kept, kept))(kept, kept)
        rows = kept.bool()
        ones = torch.ones(100).double()
        # in units of all true events, not of those that are there
        scale = truth.std(0, correction=0) / truth[rows].std(0, correction=0)
        expected = metric.build(truth[rows], generated[rows], 0, (ones, ones))(ones, ones)
        assert abs(found - expected) < (0.05 if (scale - 1).abs().max() > 1e-9 else 1e-9)
