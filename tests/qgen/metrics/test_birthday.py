"""The birthday paradox finds supports of known size, and small ones in generated events."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qgen.data import load_calorimeter
from qgen.metrics import METRICS, evaluate, support, support_size, support_ssim
from qgen.metrics.birthday import duplicates
from qgen.metrics.columns import Columns, as_dataset


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(support: int, n: int, seed: int) -> torch.Tensor:
    """How many duplicates each of ``n`` events has, drawn from so many equally probable ones."""
    rows = torch.randint(support, (n,), generator=torch.Generator().manual_seed(seed))
    return duplicates((rows[:, None] != rows).double(), 0.5)


@pytest.mark.parametrize(("size", "n"), [(365, 100), (5000, 300), (50, 200)])
def test_a_known_support_is_found_and_its_interval_covers(size: int, n: int) -> None:
    found = [support_size(drawn(size, n, seed)) for seed in range(200)]
    assert np.median([one.value for one in found]) == pytest.approx(size, rel=0.15)
    covered = np.mean([one.interval[0] <= size <= one.interval[1] for one in found])
    assert 0.6 < covered < 0.9


def test_the_threshold_of_the_paradox() -> None:
    """With 23 people and 365 days, a pair shares a birthday in half of all cases."""
    shared = [bool(drawn(365, 23, seed).any()) for seed in range(1000)]
    assert np.mean(shared) == pytest.approx(0.507, abs=0.05)


def test_an_uneven_support_has_the_uncertainty_of_repeated_samples() -> None:
    """A fifth of the events are equal: their number, not that of pairs, is what fluctuates."""
    found = []
    for seed in range(100):
        some = torch.rand(400, generator=torch.Generator().manual_seed(seed)) < 0.2
        found.append(support_size(duplicates(1.0 - (some[:, None] & some).double(), 0.5)))
    spread = np.std([one.value for one in found])
    assert 0.7 < np.mean([one.uncertainty for one in found]) / spread < 1.4


@pytest.mark.parametrize("kinds", [30, 300])
def test_few_events_repeated_are_seen(kinds: int) -> None:
    truth, generated, other = normal(0, 3, 1500, 2)
    rows = torch.randint(kinds, (1500,), generator=torch.Generator().manual_seed(1))
    table = evaluate(truth, {"few": generated[rows], "all": generated}, reference=other, metrics=["support"])
    few = table.of("few")
    assert few["support"].pull > 3
    size = few["support/size"].value
    assert abs(size.value - kinds) < max(3 * size.uncertainty, 0.15 * kinds)
    assert abs(table.of("all")["support"].pull) < 3
    assert abs(few["support"].floor.value) < 3 * few["support"].floor.uncertainty


def test_a_smaller_support_has_fewer_decades() -> None:
    truth, generated = normal(0, 2, 1500, 2)
    rows = torch.rand(1500, generator=torch.Generator().manual_seed(1))
    found = [support(truth, generated[(rows * k).long()]).value for k in (1000, 300, 100, 30, 1)]
    assert found == sorted(found)


def test_a_noisy_generator_has_a_larger_support_than_truth() -> None:
    truth, generated = normal(0, 2, 1500, 2)
    assert support(truth, 3 * generated).value < -0.5


def test_equal_events_of_truth_are_no_fault() -> None:
    truth, generated = normal(0, 2, 1000, 3)
    truth[:200], generated[:200] = 0, 0
    found = support(truth, generated)
    assert abs(found.value) < 2 * found.uncertainty
    assert support(truth * 0, generated * 0).value == pytest.approx(0, abs=1e-9)
    assert np.isfinite(support(truth * 0, generated).value)


@pytest.mark.parametrize("grid", [(8,), (8, 8), (5, 5, 5)])
def test_images_that_repeat_are_seen_by_their_ssim(grid: tuple[int, ...]) -> None:
    data = load_calorimeter(grid=grid, max_events=2400)
    truth, other, generated = (data.take(range(800 * i, 800 * i + 800)) for i in range(3))
    few = generated.take(torch.arange(40).repeat(20))
    table = evaluate(truth, {"few": few, "all": generated}, reference=other, metrics=["support_ssim"])
    assert table.of("few")["support_ssim"].pull > 5
    assert abs(table.of("all")["support_ssim"].pull) < 3


def test_bad_input_is_one_line() -> None:
    x = normal(0, 50, 2)
    with pytest.raises(ValueError, match="support_ssim needs images of at least 2 pixels"):
        support_ssim(x, x)
    weighted = Columns(as_dataset("truth", x), "samples")
    assert METRICS["support"].problem(weighted) == ""
