"""The extrapolation to infinitely many events, where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from qgen.metrics import METRICS, mmd


def normal(seed: int, n: int) -> torch.Tensor:
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CASES = {
    "wasserstein, alike": ("wasserstein", 300, 0.0, 0.0),
    "wasserstein, shifted": ("wasserstein", 300, 0.3, 0.3),
    "ks, alike": ("ks", 300, 0.0, 0.0),
    "kl, alike": ("kl", 3000, 0.0, 0.0),
    "kl, shifted": ("kl", 3000, 0.3, 0.3**2 / 2),
    "jensen_shannon, alike": ("jensen_shannon", 1000, 0.0, 0.0),
    "total_variation, alike": ("total_variation", 1000, 0.0, 0.0),
    "separation, alike": ("separation", 1000, 0.0, 0.0),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_nearer_to_the_truth_than_the_value_and_near(case: str) -> None:
    name, n, shift, expected = CASES[case]
    results = [METRICS[name](normal(2 * k, n), normal(2 * k + 1, n) + shift, seed=k) for k in range(25)]
    values, limits = (torch.tensor([getattr(r, what) for r in results]) for what in ("value", "extrapolated"))
    bias = abs(values.mean() - expected)
    assert bias > 2 * values.std() / 5 or shift  # there is something to correct
    assert abs(limits.mean() - expected) < max(3.5 * limits.std() / 5, 0.15 * bias)


def test_an_unbiased_metric_has_none() -> None:
    assert mmd(normal(0, 100), normal(1, 100)).extrapolated is None


def test_it_stands_in_what_is_written() -> None:
    result = METRICS["ks"](normal(0, 100), normal(1, 100))
    assert result.to_dict()["extrapolated"] == result.extrapolated
    assert math.isfinite(result.extrapolated)
