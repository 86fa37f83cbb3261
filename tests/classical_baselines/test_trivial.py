from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from classical_baselines import GaussianCopula, IndependentMarginals, ResampledHistogram
from qgen.data.dataset import Dataset, Feature
from qgen.random import new_generator, normal, uniform

COVARIANCE = torch.tensor([[0.5, 0.1, 0.25], [0.1, 0.5, 0.1], [0.25, 0.1, 0.5]], dtype=torch.float64)


def gaussian(n: int, covariance: torch.Tensor = COVARIANCE, seed: int = 0) -> Dataset:
    d = len(covariance)
    samples = normal((n, d), new_generator(seed), dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    return Dataset(samples, tuple(Feature(f"x{i}") for i in range(d)))


def with_energy(n: int, seed: int = 0) -> Dataset:
    """Two correlated features whose mean and width grow with the energy."""
    rng = new_generator(seed)
    energy = 10 + 90 * uniform((n, 1), rng, dtype=torch.float64)
    z = normal((n, 2), rng, dtype=torch.float64)
    z = torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], 1)
    features = (Feature("a", "GeV"), Feature("b", "GeV"))
    return Dataset(energy + 0.1 * energy * z, features, energy, (Feature("energy", "GeV"),))


def test_histogram_draws_cells_by_their_frequency() -> None:
    data = gaussian(3000)
    model = ResampledHistogram.for_dataset(data, bins=4)
    edges = [(model.edges[i] * data.transform.scale[i] + data.transform.mean[i]).numpy() for i in range(3)]
    outer = [np.concatenate([[-np.inf], e[1:-1], [np.inf]]) for e in edges]
    truth, _ = np.histogramdd(data.train.samples.numpy(), outer)
    n = 200_000
    drawn, _ = np.histogramdd(model.sample(n, generator=new_generator(0)).numpy(), outer)
    assert (drawn[truth == 0] == 0).all()
    expected = truth[truth > 0] / truth.sum() * n
    assert stats.chisquare(drawn[truth > 0], expected).pvalue > 1e-3
    assert model.n_parameters == (truth > 0).sum() - 1 + 3 * 5


@pytest.mark.parametrize("edges", ["linear", "quantile"])
def test_histogram_density_is_frequency_over_volume(edges: str) -> None:
    data = gaussian(2000, COVARIANCE[:2, :2])
    model = ResampledHistogram.for_dataset(data, bins=5, edges=edges)
    walls = model.edges * data.transform.scale[:, None] + data.transform.mean[:, None]
    counts, _, _ = np.histogram2d(*data.train.samples.T.numpy(), [w.numpy() for w in walls])
    centres = torch.cartesian_prod(*(walls[:, 1:] + walls[:, :-1]) / 2)
    volume = torch.outer(walls[0].diff(), walls[1].diff()).flatten()
    expected = torch.from_numpy(counts).flatten() / counts.sum() / volume
    torch.testing.assert_close(model.log_prob(centres).exp(), expected, atol=1e-3, rtol=1e-2)
    assert (model.log_prob(centres).exp() * volume).sum().item() == pytest.approx(1)
    assert torch.isneginf(model.log_prob(torch.tensor([[0.0, 50.0]])))


def test_histogram_is_conditional() -> None:
    data = with_energy(8000)
    model = ResampledHistogram.for_dataset(data, bins=32)
    low = model.sample(2000, torch.tensor([12.0]), new_generator(0))
    high = model.sample(2000, torch.tensor([98.0]), new_generator(0))
    assert low.mean() < 20
    assert high.mean() > 90
    rows = data.train.take(range(500))
    assert torch.isfinite(model.log_prob(rows.samples, rows.conditions)).all()
    assert torch.isneginf(model.log_prob(high[:50], torch.tensor([12.0]))).all()


def test_a_constant_feature_stays_constant() -> None:
    data = gaussian(500)
    data = Dataset(torch.cat([data.samples[:, :2], torch.full((500, 1), 3.0)], 1), data.features)
    for model in (
        ResampledHistogram.for_dataset(data),
        ResampledHistogram.for_dataset(data, edges="quantile"),
        IndependentMarginals.for_dataset(data),
        GaussianCopula.for_dataset(data),
    ):
        samples = model.sample(50, generator=new_generator(0))
        assert (samples[:, 2] == 3).all()
        assert torch.isfinite(model.log_prob(samples)).all()


def test_empty_pixels_stay_empty() -> None:
    data = gaussian(4000)
    data = Dataset(data.samples.clamp(min=0), data.features)
    empty = (data.train.samples == 0).double().mean(0)
    for cls in (ResampledHistogram, IndependentMarginals, GaussianCopula):
        samples = cls.for_dataset(data).sample(4000, generator=new_generator(0))
        torch.testing.assert_close((samples.abs() < 1e-12).double().mean(0), empty, atol=0.03, rtol=0)
        assert samples.min() > -1e-12


@pytest.mark.parametrize("model_class", [IndependentMarginals, GaussianCopula])
def test_marginals_agree_with_the_training_events(model_class: type[IndependentMarginals]) -> None:
    data = gaussian(8000)
    samples = model_class.for_dataset(data).sample(4800, generator=new_generator(0))
    for i in range(3):
        assert stats.ks_2samp(samples[:, i], data.train.samples[:, i]).pvalue > 0.01


def test_marginals_are_independent_and_the_copula_correlates_as_the_events() -> None:
    data = gaussian(20_000)
    truth = data.train.samples.T.corrcoef()
    generator = new_generator(1)
    independent = IndependentMarginals.for_dataset(data).sample(50_000, generator=generator).T.corrcoef()
    copula = GaussianCopula.for_dataset(data)
    correlated = copula.sample(50_000, generator=generator).T.corrcoef()
    torch.testing.assert_close(independent, torch.eye(3, dtype=torch.float64), atol=0.02, rtol=0)
    torch.testing.assert_close(correlated, truth, atol=0.02, rtol=0)
    torch.testing.assert_close(copula.correlation, truth, atol=0.02, rtol=0)
    assert copula.n_parameters == 3 * 101 + 3


def test_rank_correlation_of_the_copula_is_that_of_skewed_events() -> None:
    data = gaussian(6000)
    skewed = Dataset(data.samples.exp(), data.features)
    samples = GaussianCopula.for_dataset(skewed).sample(20_000, generator=new_generator(2))
    truth = stats.spearmanr(skewed.train.samples.numpy()).statistic
    np.testing.assert_allclose(stats.spearmanr(samples.numpy()).statistic, truth, atol=0.04)
    assert (samples > 0).all()


def test_copula_density_is_near_the_gaussian_and_normalised() -> None:
    covariance = torch.tensor([[1.0, 0.7], [0.7, 1.0]], dtype=torch.float64)
    data = gaussian(20_000, covariance)
    model = GaussianCopula.for_dataset(data, knots=41)
    reference = stats.multivariate_normal(np.zeros(2), covariance.numpy())
    test = data.test.samples
    test = test[(test.abs() < 2.5).all(1)]
    assert (model.log_prob(test) - torch.from_numpy(reference.logpdf(test))).mean().abs() < 0.02
    grid = torch.linspace(-4.2, 4.2, 801, dtype=torch.float64)
    density = model.log_prob(torch.cartesian_prod(grid, grid)).exp().reshape(801, 801).numpy()
    total = integrate.trapezoid(integrate.trapezoid(density, grid), grid)
    assert total == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("model_class", [IndependentMarginals, GaussianCopula])
def test_marginals_follow_the_condition(model_class: type[IndependentMarginals]) -> None:
    data = with_energy(20_000)
    model = model_class.for_dataset(data, condition_bins=40)
    samples = model.sample(len(data.test), data.test.conditions, new_generator(0))
    for lower in (10, 40, 70):
        chosen = (data.test.conditions[:, 0] > lower) & (data.test.conditions[:, 0] < lower + 30)
        assert stats.ks_2samp(samples[chosen, 0], data.test.samples[chosen, 0]).pvalue > 1e-3
    relative = (samples - data.test.conditions) / data.test.conditions
    inside = relative.T.corrcoef()[0, 1].item()
    assert model.log_prob(data.train.samples[:100], data.train.conditions[:100]).isfinite().all()
    if model_class is GaussianCopula:
        assert inside == pytest.approx(0.8, abs=0.1)


def test_the_copula_beats_independence_and_the_histogram_covers_training_events() -> None:
    data = gaussian(6000)
    scores = {
        cls.__name__: cls.for_dataset(data).log_prob(data.test.samples).nan_to_num(neginf=-20).mean().item()
        for cls in (IndependentMarginals, GaussianCopula)
    }
    assert scores["GaussianCopula"] > scores["IndependentMarginals"] + 0.1
    assert ResampledHistogram.for_dataset(data).log_prob(data.train.samples).isfinite().all()


def test_fewer_events_than_features() -> None:
    data = gaussian(10, torch.eye(12, dtype=torch.float64))
    for cls in (ResampledHistogram, IndependentMarginals, GaussianCopula):
        samples = cls.for_dataset(data).sample(7, generator=new_generator(0))
        assert samples.shape == (7, 12)
        assert samples.isfinite().all()


@pytest.mark.parametrize(
    ("model_class", "options", "line"),
    [
        (ResampledHistogram, {"bins": 0}, "bins is 0; at least 1 is needed"),
        (ResampledHistogram, {"edges": "log"}, "edges is 'log'; allowed are 'linear' and 'quantile'"),
        (IndependentMarginals, {"knots": 1}, "knots is 1; at least 2 are needed"),
        (GaussianCopula, {"condition_bins": 0}, "condition_bins is 0; at least 1 is needed"),
    ],
)
def test_impossible_options(model_class: type, options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        model_class.for_dataset(gaussian(50), **options)
