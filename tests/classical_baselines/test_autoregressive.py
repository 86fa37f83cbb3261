from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from classical_baselines import Autoregressive
from qgen.bits import bit_strings
from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.data.discretiser import Discretiser
from qgen.random import new_generator, normal, uniform
from qgen.training import MMD, NLL, fit

calorimeter = cache(load_calorimeter)


def cells(n_features: int, bits: int, code: str = "binary", order: str = "by-feature") -> Discretiser:
    edges = torch.linspace(0, 1, 2**bits + 1).tolist()
    return Discretiser([edges] * n_features, code, order)  # type: ignore[arg-type]


def loud(model: Autoregressive) -> Autoregressive:
    """The model with weights large enough to matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("n_conditions", [0, 2])
def test_probabilities_sum_to_one(hidden: int, n_conditions: int) -> None:
    model = loud(Autoregressive(cells(3, 2, "gray", "snake"), n_conditions, hidden=hidden))
    condition = normal((4, n_conditions), new_generator(0), dtype=torch.float64) if n_conditions else None
    table = model.probabilities(condition, new_generator(0))
    assert table.shape == (4 if n_conditions else 1, 64)
    torch.testing.assert_close(table.sum(1), torch.ones_like(table[:, 0]))
    assert table.std() > 0.003


def test_bits_depend_on_those_before_alone() -> None:
    model = loud(Autoregressive(cells(4, 2), 1, hidden=20))
    bits = (bit_strings(8)[::7] + 0).requires_grad_()
    condition = torch.zeros(len(bits), 1, dtype=torch.float64)
    jacobian = torch.stack(
        [torch.autograd.grad(model._logits(bits, condition)[:, i].sum(), bits)[0].abs().sum(0) for i in range(8)]
    )
    assert (jacobian.triu() == 0).all()
    assert (jacobian[torch.ones(8, 8).tril(-1).bool()] > 0).all()


def test_draws_follow_the_probabilities() -> None:
    model = loud(Autoregressive(cells(2, 3, "gray", "interleaved"), 1, hidden=9))
    condition = torch.tensor([[1.3]], dtype=torch.float64)
    table = model.probabilities(condition, new_generator(0))[0].detach()
    n = 50_000
    counts = torch.bincount(model._sample_cells(n, condition.expand(n, -1), new_generator(1)), minlength=64)
    chi_square = ((counts - n * table).square() / (n * table)).sum().item()
    assert chi_square < 63 + 5 * math.sqrt(2 * 63)


def test_large_samples_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loud(Autoregressive(cells(3, 2), hidden=5))
    whole = model.sample(200, generator=new_generator(0))
    monkeypatch.setattr("classical_baselines.autoregressive.AT_ONCE", 400)
    assert torch.equal(model.sample(200, generator=new_generator(0)), whole)


def test_density_is_that_of_the_cells() -> None:
    model = loud(Autoregressive(cells(2, 2, "gray", "snake"), hidden=3))
    values = uniform((500, 2), new_generator(0), dtype=torch.float64)
    table = model.probabilities(None, new_generator(0))[0]
    expected = (table * 16)[model.discretiser.cell_index(values)].log()
    torch.testing.assert_close(model.log_prob(values), expected.detach())


def test_without_hidden_units_it_is_a_logistic_regression() -> None:
    rng = new_generator(0)
    x = (uniform((2000, 2), rng, dtype=torch.float64) < 0.4).double()
    y = (uniform((2000, 1), rng, dtype=torch.float64) < (2 * x[:, :1] - 1.5 * x[:, 1:] - 0.3).sigmoid()).double()
    values = (torch.cat([x, y], 1) + 0.5) / 2
    model = Autoregressive(cells(3, 1), hidden=0)
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -model._log_prob(values, None).mean()
        value.backward()
        return value

    optimiser.step(loss)
    known = LogisticRegression(C=1e8, tol=1e-10).fit(2 * x.numpy() - 1, y[:, 0].numpy())
    torch.testing.assert_close(model.direct[2, :2].detach(), torch.from_numpy(known.coef_[0]), rtol=1e-3, atol=1e-3)
    assert model.bias[2].item() == pytest.approx(known.intercept_[0], abs=2e-3)


def test_learns_any_distribution_of_few_bits() -> None:
    """The parity of three bits, which no pair of bits shows."""
    strings = bit_strings(3)
    even = strings[strings.sum(1) % 2 == 0].repeat(300, 1)
    noise = 0.99 * uniform((len(even), 3), new_generator(0), dtype=torch.float64)
    data = Dataset((even + noise) / 2, tuple(Feature(f"x{i}") for i in range(3)))
    model = Autoregressive.for_dataset(data, bits=1, hidden=16, tails=0.0)
    fit(model, data, NLL(), steps=300, learning_rate=0.03)
    table = model.probabilities(None, new_generator(0))[0].detach()
    expected = torch.where(strings.sum(1) % 2 == 0, 0.25, 0.0).double()
    torch.testing.assert_close(table, expected, atol=0.03, rtol=0)


@pytest.mark.parametrize(("grid", "bits"), [((8,), 4), ((8, 8), 2)])
def test_many_bits_need_no_table(grid: tuple[int, ...], bits: int) -> None:
    data = calorimeter(grid=grid, max_events=600)
    model = Autoregressive.for_dataset(data, bits=bits)
    result = fit(model, data, NLL(), steps=10, batch_size=64, log_every=1)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    c = data.train.conditions[:100]
    samples = model.sample(100, c, new_generator(0))
    assert samples.shape == (100, math.prod(grid))
    assert model.log_prob(samples, c).isfinite().all()
    with pytest.raises(ValueError, match=rf"^the model has {math.prod(grid) * bits} bits; probabilities of all cells"):
        model.probabilities(None, new_generator(0))


def test_weights_of_draws_carry_the_gradient_of_expectations() -> None:
    """Under many conditions draws stand for the distribution; their mean slope is that of the exact expectation."""
    model = loud(Autoregressive(cells(2, 2), 1, hidden=2))
    condition = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    table = model.probabilities(condition, new_generator(0))
    first = 0.25 * torch.arange(16).div(4, rounding_mode="floor")
    exact = torch.autograd.grad((table @ first.double()).mean(), model.bias)[0]
    many = torch.linspace(-1, 1, 4, dtype=torch.float64).repeat_interleave(10_000)[:, None]
    spread = many + 1e-9 * torch.arange(len(many))[:, None]
    events = model._weighted(len(many), spread, new_generator(1))
    assert events.draws == len(many)
    values = (events.values[:, 0] * 4).floor() / 4
    found = torch.autograd.grad((events.weights * (values - values.mean())).sum(), model.bias)[0]
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0)


def test_mmd_trains_it_on_cells() -> None:
    rng = new_generator(0)
    data = Dataset(normal((600, 2), rng, dtype=torch.float64).cumsum(1), (Feature("a"), Feature("b")))
    model = Autoregressive.for_dataset(data, bits=2)
    result = fit(model, data, MMD(), steps=60, learning_rate=0.03)
    assert result.history[-1]["loss"] < 0.3 * result.history[0]["loss"]


@pytest.mark.parametrize("target", [150, 224, 1000, 5000])
@pytest.mark.parametrize("conditional", [True, False])
def test_asked_for_size_is_reached_and_counted(target: int, conditional: bool) -> None:
    data = calorimeter(grid=(8,), max_events=600)
    model = Autoregressive.for_dataset(data, bits=2, n_parameters=target, conditional=conditional)
    assert model.n_parameters == pytest.approx(target, rel=0.1)
    bits = (uniform((4000, 16), new_generator(0), dtype=torch.float64) < 0.5).double()
    condition = normal((4000, 1), new_generator(1), dtype=torch.float64)
    model._log_prob_of_bits(bits, condition).sum().backward()
    assert sum(int((p.grad != 0).sum()) for p in model.parameters() if p.grad is not None) == model.n_parameters


def test_impossible_options() -> None:
    data = calorimeter(grid=(8,), max_events=600)
    with pytest.raises(
        ValueError, match=r"^n_parameters is 50; the closest size of an Autoregressive on 16 bits is 152"
    ):
        Autoregressive.for_dataset(data, bits=2, n_parameters=50)
    with pytest.raises(ValueError, match=r"^hidden is -1; at least 0 is needed$"):
        Autoregressive.for_dataset(data, hidden=-1)
    with pytest.raises(ValueError, match=r"^frame is 'whitened'; allowed are 'features', 'gaussian', 'marginals'$"):
        Autoregressive.for_dataset(data, frame="whitened")  # type: ignore[arg-type]


def test_empty_pixels_have_a_cell_of_their_own() -> None:
    data = calorimeter(grid=(8, 8), max_events=600)
    model = Autoregressive.for_dataset(data, bits=2)
    train = data.train
    back = model.transform.inverse(
        model.discretiser.roundtrip(model.transform(train.samples, train.conditions), new_generator(0)),
        train.conditions,
    )
    often = (train.samples == 0).double().mean(0) > 0.01
    assert often.sum() > 10
    assert torch.equal((back == 0)[:, often], (train.samples == 0)[:, often])


def test_very_many_bits_have_no_direct_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classical_baselines.autoregressive.DIRECT_UP_TO", 5)
    model = loud(Autoregressive(cells(3, 2), 1, hidden=9))
    assert not hasattr(model, "direct")
    assert model.n_parameters == 6 * 2 + 9 * (6 + 1 + 1)
    condition = torch.tensor([[0.4]], dtype=torch.float64)
    table = model.probabilities(condition, new_generator(0))[0].detach()
    assert table.sum().item() == pytest.approx(1)
    counts = torch.bincount(model._sample_cells(50_000, condition.expand(50_000, -1), new_generator(1)), minlength=64)
    assert ((counts - 50_000 * table).square() / (50_000 * table)).sum().item() < 63 + 5 * math.sqrt(2 * 63)
