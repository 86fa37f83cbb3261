"""MMD's kernels, the energy distance and MMD in blocks against scikit-learn, scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.gaussian_process.kernels import Matern, RationalQuadratic
from sklearn.metrics.pairwise import euclidean_distances, polynomial_kernel, rbf_kernel

from qgen.data.dataset import Dataset, Feature
from qgen.metrics import energy_distance, evaluate, mmd, mmd_blocks
from qgen.metrics.columns import spread
from qgen.metrics.kernels import KERNELS


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ones(x: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(x), dtype=torch.float64)


def of_all(metric, truth: torch.Tensor, generated: torch.Tensor, **options) -> float:
    """The value of all pairs, without replicas."""
    return metric.build(truth, generated, 0, **options)(ones(truth), ones(generated)).item()


def references(median: float, widths: tuple[float, ...]):
    """Kernels of scikit-learn, on what is in truth's standard deviations about its mean."""
    sizes = [width * median for width in widths]

    def mean(kernels):
        return lambda x, y: sum(k(x, y) for k in kernels) / len(kernels)

    return {
        "gaussian": mean([lambda x, y, s=s: rbf_kernel(x, y, gamma=1 / (2 * s**2)) for s in sizes]),
        "rational_quadratic": mean([RationalQuadratic(s, alpha=1.0) for s in sizes]),
        "laplace": mean([Matern(s, nu=0.5) for s in sizes]),
        "polynomial": lambda x, y: polynomial_kernel(x, y, degree=3),
        "energy": lambda x, y: -euclidean_distances(x, y),
    }


def unbiased(kernel, x: np.ndarray, y: np.ndarray) -> float:
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(x, x), kernel(y, y))]
    return sum(within) - 2 * kernel(x, y).mean()


@pytest.mark.parametrize("widths", [(0.25, 0.5, 1.0, 2.0), (0.7,)])
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_scikit_learns(name: str, widths: tuple[float, ...]) -> None:
    truth, generated = 5 + 2 * normal(0, 60, 3), 5 + normal(1, 40, 3)
    scaled = truth / spread(truth)
    x, y = ((z / spread(truth) - scaled.mean(0)).numpy() for z in (truth, generated))
    pairs = np.sort(euclidean_distances(x)[np.triu_indices(60, 1)])
    # torch's median of an even number of values is the lower one
    kernel = references(pairs[(len(pairs) - 1) // 2], widths)[name]
    found = of_all(mmd, truth, generated, kernel=name, widths=widths)
    assert found == pytest.approx(unbiased(kernel, x, y), rel=1e-9)


@given(st.integers(0, 2**31), st.integers(20, 60), st.integers(20, 60))
@settings(max_examples=20, deadline=None)
def test_energy_distance_is_scipys_without_its_bias(seed: int, n: int, m: int) -> None:
    truth, generated = normal(seed, n, 1), 0.5 + 2 * normal(seed + 1, m, 1)
    found = of_all(energy_distance, truth, generated)
    a, b = (x[:, 0].numpy() / spread(truth).item() for x in (truth, generated))
    biased = stats.energy_distance(a, b) ** 2
    among = [np.abs(x[:, None] - x).sum() for x in (a, b)]
    bias = sum(total / (k * (k - 1)) - total / k**2 for total, k in zip(among, (n, m), strict=True))
    assert found == pytest.approx(biased - bias, abs=1e-7)
    assert found == pytest.approx(of_all(mmd, truth, generated, kernel="energy"), rel=1e-12)


def test_energy_distance_of_gaussians_is_the_closed_form() -> None:
    """E|x - y| of normal variables is that of one normal variable, folded."""
    shift, width = 0.5, 1.5

    def folded(mean: float, sigma: float) -> float:
        return stats.foldnorm(abs(mean) / sigma, scale=sigma).mean()

    expected = 2 * folded(shift, math.hypot(1, width)) - folded(0, math.sqrt(2)) - folded(0, math.sqrt(2) * width)
    found = energy_distance(normal(0, 2000, 1), shift + width * normal(1, 2000, 1))
    assert found.value == pytest.approx(expected, abs=4 * found.uncertainty)
    assert found.uncertainty < 0.2 * expected


@pytest.mark.parametrize("name", KERNELS)
def test_all_pairs_and_blocks_estimate_the_same(name: str) -> None:
    truth, generated = normal(0, 2000, 2), 0.4 + normal(1, 2000, 2)
    all_pairs = mmd(truth, generated, kernel=name)
    blocks = mmd_blocks(truth, generated, kernel=name, block=100)
    assert blocks.value == pytest.approx(all_pairs.value, abs=2 * (all_pairs.uncertainty + blocks.uncertainty))
    assert all_pairs.value > 4 * all_pairs.uncertainty


def test_blocks_are_the_mean_of_their_pairs() -> None:
    """Blocks of one sample against blocks of the other, each estimated by all its pairs."""
    truth, generated = normal(0, 400, 2), normal(1, 400, 2) + 0.3
    found = mmd_blocks(truth, generated, block=40, kernel="energy")
    scaled = [x / spread(truth) for x in (truth, generated)]
    from qgen.metrics.kernels import _shuffled

    rows = [_shuffled(400, 0, which).tensor_split(10) for which in ("truth", "generated")]
    kernel = references(1.0, (1.0,))["energy"]
    values = [unbiased(kernel, scaled[0][i].numpy(), scaled[1][j].numpy()) for i, j in zip(*rows, strict=True)]
    assert found.value == pytest.approx(np.mean(values), rel=1e-6)
    assert found.uncertainty == pytest.approx(np.std(values, ddof=1) / math.sqrt(10), rel=1e-6)


@pytest.mark.parametrize("metric", [mmd, energy_distance, mmd_blocks])
def test_they_are_unbiased(metric) -> None:
    assert metric.bias == 0
    values = []
    for k in range(150):
        a, b = normal(2 * k, 40, 2), normal(2 * k + 1, 40, 2)
        given = {"weights": (ones(a), ones(b))} if "weights" in metric.asks else {}
        built = metric.build(a, b, k, **given)
        values.append(built.value if metric is mmd_blocks else built(ones(a), ones(b)).item())
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_uncertainty_of_blocks_is_the_spread_between_samples(shift: float) -> None:
    found = [mmd_blocks(normal(2 * s, 500, 3), normal(2 * s + 1, 500, 3) + shift, seed=s) for s in range(60)]
    spread_found = np.std([f.value for f in found])
    assert np.sqrt(np.mean([f.uncertainty**2 for f in found])) == pytest.approx(spread_found, rel=0.3)


def test_blocks_see_with_many_events_what_few_do_not_show() -> None:
    truth, other, generated = normal(0, 15_000, 2), normal(1, 15_000, 2), normal(2, 15_000, 2) + 0.075
    table = evaluate(truth, generated, reference=other, metrics=["mmd", "mmd_blocks"], n_bootstrap=10)
    assert table["mmd_blocks"].pull > 3
    assert table["mmd_blocks"].pull > table["mmd"].pull


def test_blocks_count_weights_of_both_signs() -> None:
    truth, generated = normal(0, 1000, 2), normal(1, 900, 2)
    wrong = normal(2, 50, 2) + 5
    features = (Feature("a"), Feature("b"))
    weights = torch.cat([ones(generated), ones(wrong), -ones(wrong)])
    cancelled = Dataset(torch.cat([generated, wrong, wrong]), features, weights=weights)
    there = Dataset(torch.cat([generated, wrong, wrong]), features, weights=weights.abs())
    true = Dataset(truth, features)
    for metric in (mmd_blocks, mmd, energy_distance):
        found = metric(true, cancelled)
        assert abs(found.value) < 3 * found.uncertainty
        assert metric(true, there).value > 10 * abs(found.value)


def test_bad_options_are_one_line() -> None:
    a, b = normal(0, 50, 2), normal(1, 50, 2)
    with pytest.raises(ValueError, match="kernel 'gausian' is unknown; did you mean 'gaussian'"):
        mmd(a, b, kernel="gausian")
    for widths in ((), (1.0, 0.0), (math.inf,)):
        with pytest.raises(ValueError, match=r"widths are .*; at least one is needed, each positive and finite"):
            mmd(a, b, widths=widths)
    with pytest.raises(ValueError, match="block is 1; a whole number of at least 2 events is needed"):
        mmd_blocks(a, b, block=1)
