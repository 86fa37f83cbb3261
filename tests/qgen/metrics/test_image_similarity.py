"""SSIM of pairs of images against its formula, and the diversity that it measures."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from qgen.data import Dataset, load_calorimeter
from qgen.metrics import evaluate, ssim_distance, ssim_mean, ssim_spread
from qgen.metrics.image_similarity import ssim

GRIDS = [(8,), (8, 8), (5, 5, 5)]


@cache
def showers(grid: tuple[int, ...]) -> Dataset:
    return load_calorimeter(grid=grid, max_events=2500)


def by_definition(x: np.ndarray, y: np.ndarray, largest: float) -> float:
    """Wang et al. 2004, equation 13, one window over the whole image."""
    c1, c2 = (0.01 * largest) ** 2, (0.03 * largest) ** 2
    covariance = np.cov(x, y, bias=True)
    brightness = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    return brightness * (2 * covariance[0, 1] + c2) / (covariance[0, 0] + covariance[1, 1] + c2)


@pytest.mark.parametrize("grid", GRIDS)
def test_it_is_that_of_the_definition(grid: tuple[int, ...]) -> None:
    images = showers(grid).samples[:12]
    found = ssim(images, 100.0)
    expected = [[by_definition(x, y, 100.0) for y in images.numpy()] for x in images.numpy()]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.diagonal(), 1)


def test_values_are_those_of_all_pairs() -> None:
    truth, generated = showers((8, 8)).samples[:40], 1.1 * showers((8, 8)).samples[40:70]
    true, found = (
        [ssim(x, truth.max().item())[i, j].item() for i in range(len(x)) for j in range(i)] for x in (truth, generated)
    )
    ones = torch.ones(40).double(), torch.ones(30).double()
    assert ssim_mean.build(truth, generated, 0)(*ones).item() == pytest.approx(np.mean(found) - np.mean(true))
    assert ssim_spread.build(truth, generated, 0)(*ones).item() == pytest.approx(np.std(found) - np.std(true))
    distance = ssim_distance.build(truth, generated, 0)(*ones).item()
    assert distance == pytest.approx(wasserstein_distance(true, found))


def test_weights_of_zero_remove_events() -> None:
    truth, generated = showers((8,)).samples[:40], showers((8,)).samples[40:100]
    kept = torch.arange(60) < 30
    ones = torch.ones(40).double()
    for metric in (ssim_mean, ssim_spread, ssim_distance):
        weighted = metric.build(truth, generated, 0)(ones, kept.double())
        torch.testing.assert_close(weighted, metric.build(truth, generated[kept], 0)(ones, torch.ones(30).double()))


@pytest.mark.parametrize("grid", GRIDS)
def test_lost_diversity_is_seen(grid: tuple[int, ...]) -> None:
    data = showers(grid)
    truth, other, generated = (data.take(range(400 * i, 400 * i + 400)) for i in range(3))
    x = generated.samples
    alike = generated.with_samples(x + 0.5 * (x.mean(0) - x))
    names = ["ssim_distance", "ssim_mean", "ssim_spread"]
    table = evaluate(truth, {"perfect": generated, "alike": alike}, reference=other, metrics=names)
    assert max(abs(row.pull) for row in table.of("perfect")) < 3
    seen = {row.metric: row.pull for row in table.of("alike")}
    assert seen["ssim_distance"] > 3
    assert seen["ssim_mean"] > 3
    assert seen["ssim_spread"] < -3


def test_a_growing_likeness_grows() -> None:
    data = showers((8, 8))
    truth, x = data.take(range(600)), data.samples[600:1200]
    found = [
        ssim_distance(truth, truth.with_samples(x + share * (x.mean(0) - x)), n_bootstrap=2).value
        for share in (0.0, 0.3, 0.6, 1.0)
    ]
    assert found == sorted(found)


def test_empty_images_are_equal_and_a_table_has_none() -> None:
    empty = showers((8,)).with_samples(torch.zeros_like(showers((8,)).samples))
    assert ssim_distance(empty, empty, n_bootstrap=2).value == 0
    assert ssim_mean(showers((8,)), empty, n_bootstrap=2).value > 0.1
    with pytest.raises(ValueError, match="ssim_mean needs images of at least 2 pixels"):
        ssim_mean(torch.zeros(30, 2), torch.zeros(30, 2))
