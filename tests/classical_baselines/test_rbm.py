from __future__ import annotations

import itertools
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from classical_baselines import BoltzmannMachine
from qgen.bits import bit_strings
from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.data.discretiser import Discretiser
from qgen.random import new_generator, normal, uniform
from qgen.training import MMD, NLL, Own, fit

calorimeter = cache(load_calorimeter)


def cells(n_features: int, bits: int, code: str = "binary") -> Discretiser:
    return Discretiser([torch.linspace(0, 1, 2**bits + 1).tolist()] * n_features, code)  # type: ignore[arg-type]


def loud(model: BoltzmannMachine, scale: float = 60) -> BoltzmannMachine:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def log_weights(model: BoltzmannMachine, condition: Tensor | None) -> Tensor:
    """``-E`` of every pair of bits and hidden bits, written out, ``(2**n, 2**hidden)``."""
    found = []
    for v in itertools.product((0.0, 1.0), repeat=model.discretiser.n_bits):
        row = []
        for h in itertools.product((0.0, 1.0), repeat=model.hidden):
            visible, hidden = torch.tensor(v, dtype=torch.float64), torch.tensor(h, dtype=torch.float64)
            bias = model.visible_bias
            if condition is not None:
                bias = bias + model.by_condition @ condition
            row.append(visible @ bias + hidden @ model.hidden_bias + visible @ model.weight @ hidden)
        found.append(torch.stack(row))
    return torch.stack(found).detach()


@pytest.mark.parametrize("hidden", [3, 4, 6])
@pytest.mark.parametrize("value", [None, 0.7])
def test_likelihood_by_brute_force(hidden: int, value: float | None) -> None:
    """Summed over the bits (as many hidden units or more) and over the hidden units (fewer)."""
    model = loud(BoltzmannMachine(cells(2, 2, "gray"), 0 if value is None else 1, hidden=hidden))
    condition = None if value is None else torch.tensor([[value]], dtype=torch.float64)
    weights = log_weights(model, None if condition is None else condition[0])
    joint = weights - weights.logsumexp((0, 1))
    torch.testing.assert_close(model.log_partition(condition).detach(), weights.logsumexp((0, 1))[None])
    bits = bit_strings(4)
    known = joint.logsumexp(1)
    found = model._log_prob_of_bits(bits, None if condition is None else condition.expand(16, -1))
    torch.testing.assert_close(found.detach(), known)
    table = model.probabilities(condition, new_generator(0))[0]
    torch.testing.assert_close(table.detach()[model.discretiser.from_bits(bits)], known.exp())
    assert known.std() > 0.1


def test_partition_function_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    condition = normal((5, 1), new_generator(0), dtype=torch.float64)
    for hidden in (4, 9):
        model = loud(BoltzmannMachine(cells(3, 2), 1, hidden=hidden))
        whole = model.log_partition(condition)
        monkeypatch.setattr("classical_baselines.rbm.AT_ONCE", 40)
        torch.testing.assert_close(model.log_partition(condition), whole)
        monkeypatch.undo()


def test_chains_end_in_the_distribution() -> None:
    model = loud(BoltzmannMachine(cells(2, 2), 1, hidden=5))
    condition = torch.tensor([[-0.8]], dtype=torch.float64)
    table = model.probabilities(condition, new_generator(0))[0].detach()
    n = 20_000
    counts = torch.bincount(model._sample_cells(n, condition.expand(n, -1), new_generator(1)), minlength=16)
    chi_square = ((counts - n * table).square() / (n * table)).sum().item()
    assert chi_square < 15 + 5 * math.sqrt(30)


def test_the_own_loss_has_the_slope_of_the_likelihood() -> None:
    """With chains that have converged, the mean over them."""
    model = loud(BoltzmannMachine(cells(2, 2), hidden=3, chain_steps=10), 30)
    values = uniform((64, 2), new_generator(0), dtype=torch.float64).square()
    exact = torch.autograd.grad(-model._log_prob(values, None).mean(), list(model.parameters()))
    rng = new_generator(1)
    total = [torch.zeros_like(g) for g in exact]
    n = 200
    for _ in range(n):
        found = torch.autograd.grad(model._own_loss(values, None, rng), list(model.parameters()))
        total = [a + b / n for a, b in zip(total, found, strict=True)]
    for a, b in zip(total, exact, strict=True):
        torch.testing.assert_close(a, b, atol=0.012, rtol=0)


def test_validation_leaves_the_chains_alone_and_is_a_likelihood() -> None:
    data = calorimeter(grid=(8,), max_events=300)
    model = BoltzmannMachine.for_dataset(data, bits=1, hidden=4)
    values = data.transform(data.train.samples, data.train.conditions)
    condition = data.condition_transform(data.train.conditions)
    before = model.chains.clone()
    with torch.no_grad():
        loss = model._own_loss(values, condition, new_generator(0))
        bits = model.discretiser.encode(values)
        torch.testing.assert_close(loss, -model._log_prob_of_bits(bits, condition).mean())
    free = BoltzmannMachine.for_dataset(data, bits=1, hidden=4, conditional=False)
    with torch.no_grad():
        free._own_loss(values, condition, new_generator(0))
    assert torch.equal(free.chains, before)
    free._own_loss(values, condition, new_generator(0))
    assert not torch.equal(free.chains, before)


def test_pseudo_likelihood_by_brute_force() -> None:
    model = loud(BoltzmannMachine(cells(2, 2), hidden=3))
    bits = bit_strings(4)
    log_prob = model._log_prob_of_bits(bits, None)
    known = torch.zeros(16, dtype=torch.float64)
    for row in range(16):
        for i in range(4):
            other = row ^ (1 << (3 - i))
            known[row] += (log_prob[row] - torch.logaddexp(log_prob[row], log_prob[other])).detach()
    model.is_summed = False
    with torch.no_grad():
        torch.testing.assert_close(model._validation(bits, None), -known.mean())


def test_beyond_the_sum_there_is_no_density() -> None:
    data = calorimeter(grid=(8, 8), max_events=300)
    model = BoltzmannMachine.for_dataset(data, hidden=21)
    assert not model.has_log_prob
    fit(model, data, Own(), steps=2, batch_size=32)
    c = data.train.conditions[:10]
    assert model.sample(10, c, new_generator(0)).shape == (10, 64)
    with pytest.raises(TypeError, match=r"^BoltzmannMachine has no tractable density"):
        model.log_prob(data.samples[:10], c)
    with pytest.raises(TypeError, match=r"^128 bits and 21 hidden units are too many to sum; up to 20 of one$"):
        model.log_partition(None)
    with pytest.raises(ValueError, match=r"^NLL needs a tractable density"):
        fit(model, data, NLL(), steps=1)
    with pytest.raises(ValueError, match=r"^128 bits in all; at most 62 can be numbered$"):
        fit(model, data, MMD(), steps=1)
    few = BoltzmannMachine.for_dataset(data, hidden=5)
    assert few._log_prob(data.transform(data.samples[:10], c), data.condition_transform(c)).isfinite().all()


@pytest.mark.parametrize("objective", [Own, NLL])
def test_learns_correlated_bits_and_the_condition(objective: Any) -> None:
    rng = new_generator(0)
    c = 2 * uniform((2000, 1), rng, dtype=torch.float64) - 1
    first = (uniform((2000, 1), rng, dtype=torch.float64) < (2 * c).sigmoid()).double()
    flip = (uniform((2000, 1), rng, dtype=torch.float64) < 0.1).double()
    second = (first - flip).abs()
    inside = 0.99 * uniform((2000, 2), rng, dtype=torch.float64)
    data = Dataset(torch.cat([first, second], 1) + inside, (Feature("a"), Feature("b")), c, (Feature("c"),))
    model = BoltzmannMachine.for_dataset(data, bits=1, hidden=4, tails=0.0)
    fit(model, data, objective(), steps=400, learning_rate=0.03, batch_size=256, validate_every=100)
    for value in (-0.8, 0.5):
        inputs = data.condition_transform(torch.tensor([[value]], dtype=torch.float64))
        table = model.probabilities(inputs, new_generator(0))[0].detach()
        p = 1 / (1 + math.exp(-2 * value))
        expected = torch.tensor([0.9 * (1 - p), 0.1 * (1 - p), 0.1 * p, 0.9 * p], dtype=torch.float64)
        torch.testing.assert_close(table, expected, atol=0.06, rtol=0)


@pytest.mark.parametrize("target", [100, 224, 1000])
def test_asked_for_size_is_reached(target: int) -> None:
    data = calorimeter(grid=(8,), max_events=300)
    model = BoltzmannMachine.for_dataset(data, n_parameters=target)
    assert model.n_parameters == pytest.approx(target, rel=0.1)
    with pytest.raises(
        ValueError, match=r"^n_parameters is 40; the closest size of a BoltzmannMachine on 16 bits is 49"
    ):
        BoltzmannMachine.for_dataset(data, n_parameters=40)
    with pytest.raises(ValueError, match=r"^chain_steps is 0; at least 1 is needed$"):
        BoltzmannMachine.for_dataset(data, chain_steps=0)


def test_a_start_from_the_means_has_them() -> None:
    data = calorimeter(grid=(8,), max_events=2000)
    model = BoltzmannMachine.for_dataset(data, bits=1, conditional=False, start="means")
    train = data.train
    bits = model.discretiser.encode(model.transform(train.samples, train.conditions)).double()
    drawn = model._draw_bits(4000, None, new_generator(0)).double()
    assert (drawn.mean(0) - bits.mean(0)).abs().max() < 0.05
    with pytest.raises(ValueError, match=r"^start is 'ones'; allowed are 'random' and 'means'$"):
        BoltzmannMachine.for_dataset(data, start="ones")
