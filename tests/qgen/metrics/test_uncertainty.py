"""The bootstrap's spread against the true one, over independent draws of both samples."""

from __future__ import annotations

import pytest
import torch

from qgen.metrics import METRICS, Metric

NAMES = [name for name, m in METRICS.items() if m.by_default] + [
    "kl",
    "kl_published",
    "mean_image_entropy",
    "image_entropy",
    "image_distribution_entropy",
]
"""Metrics of other families have their uncertainties tested beside them."""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def samples(metric: Metric, shift: float, k: int) -> list[torch.Tensor]:
    """Truth and generated events; energies of pixels for what is asked of images."""
    found = [normal(2 * k, 300, 3), shift + (1 + shift) * normal(2 * k + 1, 300, 3)]
    return [x.exp() for x in found] if "image" in metric.name else found


def spreads(metric: Metric, shift: float, repeats: int) -> tuple[float, float]:
    results = [metric(*samples(metric, shift, k), seed=k) for k in range(repeats)]
    values, uncertainties = (torch.tensor([getattr(r, name) for r in results]) for name in ("value", "uncertainty"))
    return values.std().item(), uncertainties.mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_uncertainty_of_an_imperfect_generator_is_the_true_spread(name):
    true, bootstrap = spreads(METRICS[name], 0.3, 15 if name == "classifier_auc" else 40)
    assert 0.6 < bootstrap / true < 1.7


@pytest.mark.parametrize("name", NAMES)
def test_uncertainty_of_a_perfect_generator_is_not_too_small_nor_far_too_large(name):
    true, bootstrap = spreads(METRICS[name], 0.0, 15 if name == "classifier_auc" else 40)
    assert 0.7 < bootstrap / true < 2.8


def test_uncertainty_shrinks_with_the_sample():
    for name in ("wasserstein", "ks", "total_variation"):
        small, large = (METRICS[name](normal(0, n, 2), 0.5 + normal(1, n, 2)).uncertainty for n in (200, 5000))
        assert 2.5 < small / large < 10
