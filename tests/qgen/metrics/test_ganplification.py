"""Worth of generated events where it is known: resampled events, a fit of the true family, more true events."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from qgen.metrics import QuantileCells, amplification

K = 10
EDGES = stats.norm.ppf(np.arange(1, K) / K)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def resampler(x: torch.Tensor, seed: int):
    rng = torch.Generator().manual_seed(seed)
    return lambda n: x[torch.randint(len(x), (n,), generator=rng)]


def fit(x: torch.Tensor, seed: int):
    rng = torch.Generator().manual_seed(seed)
    return lambda n: x.mean() + x.std(correction=0) * torch.randn(n, 1, generator=rng, dtype=torch.float64)


def test_error_is_the_definitions():
    x = normal(0, 300, 1)
    cells = QuantileCells.between(EDGES)
    counts, _ = np.histogram(x[:, 0], np.concatenate([[-np.inf], EDGES, [np.inf]]))
    assert cells.error(x) == pytest.approx(np.mean((counts / 300 - 1 / K) ** 2), rel=1e-12)


def test_true_events_are_worth_their_number():
    cells = QuantileCells.between(EDGES)
    found = amplification(
        cells,
        [normal(k, 100, 1) for k in range(400)],
        [lambda n, k=k: normal(10_000 + k, n, 1) for k in range(400)],
        [1000],
    )
    for worth, size in ((found.training, 100), (found.generated[0], 1000)):
        assert worth.size == size
        assert worth.events == pytest.approx(size, rel=0.12)
        assert worth.interval[0] < worth.events < worth.interval[1]
    assert found.generated[0].factor == pytest.approx(10, rel=0.12)


def test_resampled_events_are_worth_the_training_events_and_no_more():
    """``N`` draws from ``n`` events have the variances of both: they are worth ``1 / (1/n + 1/N)``."""
    trainings = [normal(k, 100, 1) for k in range(400)]
    found = amplification(
        QuantileCells.between(EDGES), trainings, [resampler(x, k) for k, x in enumerate(trainings)], [100, 400, 10_000]
    )
    for worth in found.generated:
        assert worth.events == pytest.approx(1 / (1 / 100 + 1 / worth.size), rel=0.15)
    assert found.generated[-1].factor < 1.15


def test_a_fit_of_the_true_family_is_worth_what_propagation_of_errors_says():
    density, edges = stats.norm.pdf, np.concatenate([[-np.inf], EDGES, [np.inf]])
    by_mean = -np.diff(density(edges))
    by_width = -np.diff(np.where(np.isinf(edges), 0, edges) * density(edges))
    variance = (by_mean**2 + by_width**2 / 2).mean() / 200  # of shares, for 200 training events
    expected = (1 / K) * (1 - 1 / K) / variance
    trainings = [normal(k, 200, 1) for k in range(300)]
    found = amplification(
        QuantileCells.between(EDGES), trainings, [fit(x, k) for k, x in enumerate(trainings)], [200, 100_000]
    )
    assert expected / 200 > 4
    assert found.generated[1].events == pytest.approx(1 / (1 / expected + 1 / 100_000), rel=0.2)
    assert found.generated[0].events < 200
    assert found.generated[1].uncertainty < 0.15 * found.generated[1].error
    assert str(found).count("\n") == 1


def test_more_columns_and_edges_from_a_finite_sample():
    """Cells from 20,000 true events; their own fluctuation is taken off the error."""
    cells = QuantileCells.of(normal(0, 20_000, 2) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double(), 5)
    assert cells.count == 25
    mixing = torch.tensor([[1.0, 0.8], [0.0, 0.6]]).double()
    errors = [cells.error(normal(1 + k, 5000, 2) @ mixing) for k in range(60)]
    assert cells.worth(float(np.mean(errors))) == pytest.approx(5000, rel=0.3)
    lost_correlation = cells.error(normal(99, 5000, 2))
    assert lost_correlation > 10 * float(np.mean(errors))


def test_a_single_training_has_the_uncertainty_of_its_cells():
    x = normal(0, 100, 1)
    found = amplification(QuantileCells.between(EDGES), [x], [resampler(x, 0)], [50])
    assert found.training.uncertainty == pytest.approx(found.training.error * math.sqrt(2 / 9))


def test_bad_input_is_one_line():
    cells, x = QuantileCells.between(EDGES), normal(0, 100, 1)
    for trainings, generators, sizes, message in (
        ([], [], [10], r"trainings have \[\] events; samples of one size are needed"),
        ([x, x[1:]], [resampler(x, 0)] * 2, [10], r"trainings have \[100, 99\] events"),
        ([x], [], [10], "0 generators for 1 trainings; one for each is needed"),
        ([x], [resampler(x, 0)], [], r"sizes are \[\]; positive numbers are needed"),
        ([x], [lambda n: x], [10], "a generator made 100 events where 10 were asked for"),
        ([x], [lambda n: normal(0, n, 2)], [10], r"events have shape \(10, 2\); expected \(n, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            amplification(cells, trainings, generators, sizes)
    for call, message in (
        (lambda: QuantileCells.of(x, 1), "1 quantiles of each column; at least 2 are needed"),
        (lambda: QuantileCells.of(x, 20), "100 true events for 20 cells; at least 200 are needed"),
        (lambda: QuantileCells.of(torch.zeros(100, 1), 4), "too many equal values for 4 quantiles of each column"),
        (lambda: QuantileCells.of(x[:, 0], 4), r"truth has shape \(100,\)"),
        (lambda: QuantileCells.between([1.0, 0.0]), "finite, increasing ones are needed"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
