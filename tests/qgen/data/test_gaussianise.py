"""Gaussianisation: invertible, normal and white on what it was fitted to, with the right Jacobian."""

from __future__ import annotations

import json

import pytest
import torch
from scipy import stats
from torch import Tensor

from qgen.data import load_calorimeter, simulate_muon
from qgen.data.gaussianise import Gaussianise, NormalCDF
from qgen.data.transforms import Compose, Transform
from qgen.random import new_generator, normal, uniform


def events(n: int = 4000, n_conditions: int = 1) -> tuple[Tensor, Tensor | None]:
    """Skewed and correlated features whose mean and width follow the condition."""
    rng = new_generator(0)
    condition = 10 + 90 * uniform((n, n_conditions), rng, dtype=torch.float64)
    z = normal((n, 3), rng, dtype=torch.float64).cumsum(1)
    values = (0.5 * z).exp()
    if n_conditions:
        values = condition[:, :1].log() + condition[:, :1].sqrt() * values
    return values, condition if n_conditions else None


@pytest.mark.parametrize("n_conditions", [0, 1, 2])
def test_training_events_become_independent_normal_numbers(n_conditions: int) -> None:
    values, condition = events(n_conditions=n_conditions)
    y = Gaussianise.fit(values, condition)(values, condition)
    assert torch.allclose(y.T.cov(), torch.eye(3, dtype=torch.float64), atol=1e-6)
    for column in y.T:
        assert stats.kstest(column.numpy(), "norm").statistic < 0.03
    if condition is not None:
        halves = [y[(condition[:, 0] > 55) == upper] for upper in (False, True)]
        for half in halves:
            assert half.mean(0).abs().max() < 0.1
            assert (half.std(0) - 1).abs().max() < 0.1


@pytest.mark.parametrize("n_conditions", [0, 1])
def test_there_and_back_also_beyond_the_outermost_events(n_conditions: int) -> None:
    values, condition = events(n_conditions=n_conditions)
    transform = Gaussianise.fit(values, condition)
    wide = values.mean(0) + 3 * (values - values.mean(0))
    assert torch.allclose(transform.inverse(transform(wide, condition), condition), wide, rtol=1e-9, atol=1e-9)


def test_jacobian_is_autograds() -> None:
    values, condition = events(60)
    transform = Compose([Gaussianise.fit(values, condition), NormalCDF()])
    for i in range(5):
        one = condition[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda x, one=one: transform(x[None], one)[0], values[i])
        assert torch.allclose(
            transform.log_abs_det(values[i : i + 1], one), torch.linalg.slogdet(jacobian).logabsdet[None]
        )


def test_normal_cdf_is_scipys() -> None:
    x = torch.linspace(-5, 5, 11, dtype=torch.float64)[:, None]
    assert torch.allclose(NormalCDF()(x), torch.from_numpy(stats.norm.cdf(x.numpy())))
    assert torch.allclose(NormalCDF().inverse(NormalCDF()(x)), x)
    assert torch.allclose(NormalCDF().log_abs_det(x), torch.from_numpy(stats.norm.logpdf(x[:, 0].numpy())))
    assert NormalCDF().inverse(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).isfinite().all()


def test_saved_and_made_again() -> None:
    values, condition = events(200)
    transform = Gaussianise.fit(values, condition)
    again = Transform.from_spec(json.loads(json.dumps(transform.spec())))
    assert torch.equal(again(values, condition), transform(values, condition))


def test_a_value_that_many_events_share_and_real_events() -> None:
    showers = load_calorimeter(grid=(8, 2), axes=("layer", "x"), max_events=800)
    muons = simulate_muon(500, beam_energy=[50.0, 200.0]).select("x", "pt", "eta")
    for data in (showers, muons):
        values = data.transform(data.samples, data.conditions)
        transform = Gaussianise.fit(values, data.conditions)
        y = transform(values, data.conditions)
        assert y.isfinite().all()
        assert torch.allclose(transform.inverse(y, data.conditions), values, atol=1e-6)


def test_beyond_the_conditions_of_the_fit_it_stays_as_at_their_edge() -> None:
    values, condition = events()
    transform = Gaussianise.fit(values, condition)
    edge, beyond = condition.max().expand(3, 1), (2 * condition.max()).expand(3, 1)
    assert torch.equal(transform(values[:3], edge), transform(values[:3], beyond))


def test_error_lines() -> None:
    values, condition = events(100)
    with pytest.raises(ValueError, match=r"^10 events; at least 20 are needed for a Gaussianisation$"):
        Gaussianise.fit(values[:10], condition[:10])
    with pytest.raises(ValueError, match=r"^feature 1 is constant \(3\); it cannot be made normal$"):
        Gaussianise.fit(torch.stack([values[:, 0], torch.full((100,), 3.0, dtype=torch.float64)], 1))
    with pytest.raises(ValueError, match=r"^features are linearly dependent; leave one out$"):
        Gaussianise.fit(values[:, [0, 0]])
    with pytest.raises(ValueError, match=r"^Gaussianise needs a condition of 1 columns, found none$"):
        Gaussianise.fit(values, condition)(values)
