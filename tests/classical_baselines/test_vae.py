from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats

from classical_baselines import ConditionalVAE
from classical_baselines.vae import NARROWEST, WIDEST
from qgen.data.dataset import Dataset, Feature
from qgen.data.transforms import Standardise
from qgen.random import new_generator, normal
from qgen.training import Own, fit


def dataset(n: int = 60, n_features: int = 8, n_conditions: int = 1) -> Dataset:
    rng = new_generator(0)
    return Dataset(
        5 + normal((n, n_features), rng, dtype=torch.float64),
        tuple(Feature(f"x{i}") for i in range(n_features)),
        normal((n, n_conditions), rng, dtype=torch.float64),
        tuple(Feature(f"c{i}") for i in range(n_conditions)),
    )


def linear(latent_size: int = 1) -> tuple[ConditionalVAE, torch.Tensor, torch.Tensor]:
    """A decoder of linear means and fixed widths, so that events are normal with mean ``b`` and covariance ``C``."""
    model = ConditionalVAE(2, 1, latent_size=latent_size, hidden=(), transform=Standardise([2.0, -1.0], [0.5, 3.0]))
    (layer,) = model.decoder
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight[2:] = 0  # widths
        layer.bias[2:] = torch.tensor([-1.0, -1.8])
    at = torch.tensor([0.7], dtype=torch.float64)
    slope, offset = layer.weight.detach(), layer.bias.detach()
    widths = torch.exp(NARROWEST + (WIDEST - NARROWEST) * torch.sigmoid(offset[2:] + 2))
    scale, mean = torch.tensor([0.5, 3.0]).double(), torch.tensor([2.0, -1.0]).double()
    loads = slope[:2, :latent_size]
    covariance = scale[:, None] * (loads @ loads.T + torch.diag(widths**2)) * scale
    return model, mean + scale * (slope[:2, latent_size:] @ at + offset[:2]), covariance


def test_samples_of_a_linear_decoder_are_factor_analysis() -> None:
    model, mean, covariance = linear()
    drawn = model.sample(40_000, torch.tensor([0.7]), new_generator(0))
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.02, rtol=0.05)


def test_the_importance_bound_comes_up_to_the_density() -> None:
    """That of a linear decoder is known in closed form; in the mean the bound is below it and rises with the draws."""
    model, mean, covariance = linear()
    condition = torch.tensor([0.7])
    events = model.sample(200, condition, new_generator(0))
    exact = torch.from_numpy(stats.multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(events.numpy()))
    few, some, many = (model.log_prob_bound(events, condition, k, new_generator(1)) for k in (1, 10, 3000))
    assert few.mean() < some.mean() < exact.mean()
    assert (many - exact).abs().median() < 0.05
    assert many.mean().item() == pytest.approx(exact.mean().item(), abs=0.02)


def test_the_loss_is_the_evidence_bound() -> None:
    """Its mean is the mean of the bound with one draw, in the model's space."""
    model, _, _ = linear(latent_size=2)
    condition = torch.zeros(4000, 1, dtype=torch.float64)
    values = torch.tensor([[0.3, -1.2]]).double().expand(4000, -1)
    with torch.no_grad():
        loss = model._own_loss(values, condition, new_generator(0)).item()
    events = model.transform.inverse(values)
    bound = model.log_prob_bound(events, condition, 1, new_generator(1)) - model.transform.log_abs_det(events)
    assert loss == pytest.approx(-bound.mean().item(), abs=5 * bound.std().item() / math.sqrt(4000))


def test_beta_weighs_the_divergence() -> None:
    def loss(beta: float) -> float:
        model = ConditionalVAE(2, beta=beta, hidden=(4,), latent_size=2)
        with torch.no_grad():
            return model._own_loss(torch.ones(10, 2).double(), None, new_generator(0)).item()

    assert loss(3.0) - loss(2.0) == pytest.approx(loss(2.0) - loss(1.0), rel=1e-9)
    assert loss(2.0) > loss(1.0)


@pytest.mark.parametrize("target", [100, 224, 1000, 20_000])
@pytest.mark.parametrize(("n_features", "n_conditions"), [(3, 0), (3, 1), (8, 1)])
def test_asked_for_size_is_reached(target: int, n_features: int, n_conditions: int) -> None:
    model = ConditionalVAE.for_dataset(dataset(20, n_features, n_conditions), n_parameters=target)
    assert model.n_parameters == pytest.approx(target, rel=0.1)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: ConditionalVAE(2, latent_size=0), r"latent_size is 0, hidden is \[128, 128\]; all must be at least 1"),
        (lambda: ConditionalVAE(2, hidden=(4, 0)), r"latent_size is 8, hidden is \[4, 0\]; all must be at least 1"),
        (lambda: ConditionalVAE(2, beta=0), "beta is 0; it must be positive and finite"),
        (lambda: ConditionalVAE(2).log_prob_bound(torch.zeros(3, 2), draws=0), "draws is 0; at least 1 is needed"),
        (
            lambda: ConditionalVAE(2).log_prob_bound(torch.zeros(3, 4)),
            r"samples have shape \(3, 4\); expected \(N, 2\)",
        ),
        (
            lambda: ConditionalVAE.for_dataset(dataset(), n_parameters=20),
            "n_parameters is 20; the closest size of a ConditionalVAE with 8 features and 1 conditions is .*",
        ),
    ],
)
def test_impossible_options(call: Any, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        call()


def test_learns_correlations_that_follow_the_condition() -> None:
    rng = new_generator(3)
    condition = torch.randint(2, (3000, 1), generator=rng).double()
    z = normal((3000, 2), rng, dtype=torch.float64)
    sign = 2 * condition[:, 0] - 1
    x = torch.stack([z[:, 0], sign * 0.8 * z[:, 0] + 0.6 * z[:, 1] + condition[:, 0]], 1)
    data = Dataset(x, (Feature("a"), Feature("b")), condition, (Feature("side"),))
    model = ConditionalVAE.for_dataset(data, hidden=(32,), latent_size=4)
    fit(model, data, Own(), steps=700, learning_rate=0.01)
    for value in (0.0, 1.0):
        drawn = model.sample(3000, torch.tensor([value]), new_generator(5))
        assert drawn.T.corrcoef()[0, 1].item() == pytest.approx(0.8 if value else -0.8, abs=0.1)
        torch.testing.assert_close(drawn.std(0), torch.ones(2).double(), atol=0.1, rtol=0)
        torch.testing.assert_close(drawn.mean(0), torch.tensor([0.0, value]).double(), atol=0.15, rtol=0)


def test_a_constant_feature_is_learned_to_the_smallest_width() -> None:
    data = Dataset(torch.tensor([[3.0, 1.0]]).expand(100, -1), (Feature("a"), Feature("b")))
    model = ConditionalVAE.for_dataset(data, hidden=(8,))
    fit(model, data, Own(), steps=200, learning_rate=0.02)
    drawn = model.sample(1000, None, new_generator(0))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([3.0, 1.0]).double(), atol=0.05, rtol=0)
    assert (drawn.std(0) < 0.2).all()
