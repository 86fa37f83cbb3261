"""Dropped modes are found, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from qgen.metrics import dropped_modes, evaluate, mode_dropping
from qgen.metrics.columns import as_dataset


def blobs(seed: int, n: int, shares: list[float]) -> torch.Tensor:
    """Narrow modes on a circle, with these shares."""
    rng = torch.Generator().manual_seed(seed)
    which = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=rng)
    angle = which * 2 * torch.pi / len(shares)
    centre = torch.stack([angle.cos(), angle.sin()], 1)
    return centre.double() + 0.05 * torch.randn(n, 2, generator=rng, dtype=torch.float64)


EVEN = [0.125] * 8


def test_p_values_are_those_of_scipys_binomial_test() -> None:
    truth, generated = torch.tensor([0] * 60 + [1] * 40), torch.tensor([0] * 78 + [1] * 2)
    which, p_values = dropped_modes(truth, generated, least=0.5)
    expected = binomtest(2, 42, 40 / 140, alternative="less").pvalue
    assert which.tolist() == [1]
    assert p_values.tolist() == pytest.approx([expected])


@pytest.mark.parametrize("lost", [1, 3])
def test_the_score_is_the_lost_share(lost: int) -> None:
    truth, other = blobs(0, 2000, EVEN), blobs(1, 2000, EVEN)
    generated = blobs(2, 2000, [0.0] * lost + EVEN[lost:])
    table = evaluate(
        truth, generated, reference=other, metrics=["mode_dropping"], options={"mode_dropping": {"modes": 8}}
    )
    row = table["mode_dropping"]
    assert row.value.value == pytest.approx(lost / 8, abs=0.02)
    assert row.floor.value == 0
    assert row.pull > 10
    assert table["mode_dropping/dropped"].value.value == lost
    low, high = row.value.interval
    assert low < lost / 8 < high or abs(row.value.value - lost / 8) < 2 * row.value.uncertainty


def test_false_alarms_are_as_rare_as_stated() -> None:
    alarms = [mode_dropping(blobs(2 * s, 500, EVEN), blobs(2 * s + 1, 500, EVEN)).value > 0 for s in range(60)]
    assert np.mean(alarms) <= 0.02


def test_a_mode_that_is_hit_somewhat_less_is_not_dropped() -> None:
    shares = [0.7 * 0.125, *EVEN[1:]]
    found = mode_dropping(blobs(0, 5000, EVEN), blobs(1, 5000, shares), modes=8)
    assert found.value == 0
    assert mode_dropping(blobs(0, 5000, EVEN), blobs(1, 5000, shares), modes=8, least=1.0).value > 0.1


def test_the_default_number_of_modes_sees_a_dropped_one() -> None:
    found = mode_dropping(blobs(0, 2000, EVEN), blobs(1, 2000, [0.0, *EVEN[1:]]))
    assert found.value == pytest.approx(0.125, abs=0.03)
    assert found.uncertainty > 0


@pytest.mark.parametrize("negative", [0.0, 0.1])
def test_weights_drop_a_mode_and_bring_it_back(negative: float) -> None:
    truth, generated = blobs(0, 4000, EVEN), blobs(1, 4000, EVEN)
    missing = blobs(2, 4000, [0.01, *EVEN[1:]])
    first, second = ((x - torch.tensor([1.0, 0.0])).norm(dim=1) < 0.35 for x in (generated, missing))
    sign = torch.where(torch.arange(4000) < negative * 4000, -1.0, 1.0).double()
    without = replace(as_dataset("generated", generated), weights=torch.where(first, 0.01, 1.0) * sign)
    repaired = replace(as_dataset("generated", missing), weights=torch.where(second, 12.5, 1.0) * sign)
    assert mode_dropping(truth, without, modes=8).value == pytest.approx(0.125, abs=0.02)
    assert mode_dropping(truth, missing, modes=8).value == pytest.approx(0.125, abs=0.02)
    assert mode_dropping(truth, repaired, modes=8).value == 0


def test_constants_have_one_mode() -> None:
    same = torch.ones(1000, 2, dtype=torch.float64)
    found = mode_dropping(same, same)
    assert found.value == 0
    assert found.uncertainty > 0
    assert mode_dropping(blobs(0, 1000, EVEN), same).value > 0.8


def test_mistakes_are_one_line() -> None:
    x = blobs(0, 100, EVEN)
    with pytest.raises(ValueError, match="modes is 1; at least 2"):
        mode_dropping(x, x, modes=1)
    with pytest.raises(ValueError, match="least is 2.0; it must be above 0 and at most 1"):
        mode_dropping(x, x, least=2.0)
    with pytest.raises(ValueError, match="level is 0.0; it must lie between 0 and 1"):
        mode_dropping(x, x, level=0.0)
