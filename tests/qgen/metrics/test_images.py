from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from qgen.data import load_calorimeter, simulate_muon
from qgen.metrics import (
    METRICS,
    evaluate,
    image_distribution_entropy,
    image_entropy,
    mean_image_entropy,
    relative_entropy,
)

NAMES = ["mean_image_entropy", "image_entropy", "image_distribution_entropy"]
MEANS = torch.tensor([[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)


def shares(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(frequency: float, n: int = 1000, means: torch.Tensor = MEANS) -> torch.Tensor:
    """Events that are the first image with this frequency and else the second, each of a total energy of its own."""
    kind = (torch.arange(n) >= frequency * n).long()
    return means[kind] * (1 + 9 * shares(0, n, 1))


@given(st.integers(0, 2**31), st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_relative_entropy_is_that_of_scipy_where_no_share_is_small(seed: int, k: int) -> None:
    p, q = shares(seed, 5, k), 0.01 + shares(seed + 1, 5, k)
    np.testing.assert_allclose(relative_entropy(p, q).numpy(), entropy(p.numpy(), q.numpy(), axis=1), rtol=1e-9)


@given(st.integers(0, 2**31), st.integers(2, 40), st.floats(0, 0.9))
@settings(max_examples=30, deadline=None)
def test_relative_entropy_is_finite_not_negative_and_zero_for_equal_shares(seed: int, k: int, empty: float) -> None:
    p, q = shares(seed, k), shares(seed + 1, k)
    p[1:][shares(seed + 2, k - 1) < empty] = 0
    q[1:][shares(seed + 3, k - 1) < empty] = 0
    value = relative_entropy(p, q)
    assert 0 <= value.item() + 1e-12 < np.log(1e6) + 1e-3
    assert relative_entropy(p, 3 * p).abs() < 1e-4


def test_a_missing_pixel_costs_the_logarithm_of_the_least_share() -> None:
    p = torch.tensor([0.5, 0.5], dtype=torch.float64)
    q = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert relative_entropy(p, q).item() == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.5 / 1e-6), abs=1e-5)
    assert relative_entropy(q, p).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("bad", [[-1.0, 2.0], [0.0, 0.0], [float("nan"), 1.0]])
def test_shares_that_are_none_are_refused(bad: list[float]) -> None:
    good = torch.ones(2)
    with pytest.raises(ValueError, match="^p must have finite shares, none negative and not all 0$"):
        relative_entropy(torch.tensor(bad), good)
    with pytest.raises(ValueError, match="^q must have finite shares"):
        relative_entropy(good, torch.tensor(bad))


def test_they_see_what_they_are_for_and_nothing_else() -> None:
    truth = images(0.5)
    often = images(0.8)
    assert image_distribution_entropy(truth, often).value == pytest.approx(entropy([0.5, 0.5], [0.8, 0.2]), abs=1e-6)
    assert image_entropy(truth, often).value == pytest.approx(0, abs=1e-6)
    mixed = [0.5 * MEANS[0] + 0.5 * MEANS[1], 0.8 * MEANS[0] + 0.2 * MEANS[1]]
    assert mean_image_entropy(truth, often).value == pytest.approx(entropy(*(m.numpy() for m in mixed)), abs=1e-6)
    # other images, drawn as often
    other = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.1, 0.3, 0.3, 0.3]], dtype=torch.float64)
    shapes = images(0.5, means=other)
    assert image_distribution_entropy(truth, shapes).value == pytest.approx(0, abs=1e-9)
    each = entropy(MEANS.numpy().T, other.numpy().T.clip(1e-6))
    assert image_entropy(truth, shapes).value == pytest.approx(each.mean(), abs=1e-4)
    # the energy scale is none of their business
    for metric in (mean_image_entropy, image_entropy, image_distribution_entropy):
        assert metric(truth, 100 * truth).value == pytest.approx(0, abs=1e-6)


def test_a_kind_that_is_never_generated() -> None:
    truth, only = images(0.5), images(1.0)
    expected = entropy([0.5, 0.5], [1, 0.0005])
    assert image_distribution_entropy(truth, only).value == pytest.approx(expected, rel=1e-3)
    assert image_entropy(truth, only).value > 1


def test_events_without_energy_are_left_out() -> None:
    truth = images(0.5)
    padded = torch.cat([truth, torch.zeros(300, 4).double()])
    for metric in (mean_image_entropy, image_entropy):
        assert metric(truth, padded).value == pytest.approx(metric(truth, truth).value, abs=1e-9)
    assert mean_image_entropy(truth, torch.zeros(30, 4)).value == pytest.approx(
        entropy([0.4, 0.2, 0.2, 0.2], [1, 1, 1, 1]), abs=1e-9
    )


def test_generated_energies_below_zero_count_as_none() -> None:
    truth, noisy = images(0.5), images(0.5)
    noisy[noisy == 0] = -0.1
    for metric in (mean_image_entropy, image_entropy, image_distribution_entropy):
        assert metric(truth, noisy).value == pytest.approx(metric(truth, truth).value, abs=1e-9)


def test_what_is_no_image_and_a_truth_without_energy_are_refused() -> None:
    muons = simulate_muon(100)
    for truth in (muons, muons.select("energy", "pt"), -images(0.5)):
        with pytest.raises(ValueError, match="^mean_image_entropy needs energies of pixels, which are not negative$"):
            mean_image_entropy(truth, truth)
    with pytest.raises(ValueError, match="^truth has no event with energy, so no images$"):
        image_entropy(torch.zeros(30, 4), images(0.5))


def test_they_are_taken_where_asked_for() -> None:
    data = load_calorimeter(max_events=400)
    assert all(not METRICS[name].by_default for name in NAMES)
    table = evaluate(data.train, data.test, metrics=NAMES)
    assert [row.name for row in table] == NAMES
    assert all(abs(row.value.value - row.floor.value) < 0.2 for row in table)
