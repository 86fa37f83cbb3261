from __future__ import annotations

import itertools
import json
import math
from functools import cache

import pytest
import torch
from scipy.linalg import expm
from torch import Tensor

from classical_baselines import BitFlip
from qgen.bits import BitSets, bit_strings
from qgen.bits.kernels import draw_strings
from qgen.data import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.data.discretiser import Discretiser
from qgen.data.transforms import Compose
from qgen.random import new_generator, normal, uniform
from qgen.training import MMD, NLL, Own, fit

calorimeter = cache(load_calorimeter)


def cells(n_features: int, bits: int, code: str = "binary") -> Discretiser:
    return Discretiser([torch.linspace(0, 1, 2**bits + 1).tolist()] * n_features, code)  # type: ignore[arg-type]


def mixed(model: BitFlip) -> BitFlip:
    """Flips of all probabilities, above and below one half."""
    with torch.no_grad():
        model.logits.copy_(2 * normal((model.generators,), new_generator(3), dtype=torch.float64))
    return model


def by_brute_force(model: BitFlip, condition: Tensor | None) -> Tensor:
    """Probability of each bit string: a sum over which generators flip."""
    chances = model.flip_probabilities(condition)[0].tolist()
    table = torch.zeros(2**model.discretiser.n_bits, dtype=torch.float64)
    generators = [int("".join(str(int(b)) for b in row), 2) for row in model.gates.dense().tolist()]
    for flips in itertools.product((0, 1), repeat=len(chances)):
        state, weight = 0, 1.0
        for flip, chance, generator in zip(flips, chances, generators, strict=True):
            state ^= generator * flip
            weight *= chance if flip else 1 - chance
        table[state] += weight
    return table


@pytest.mark.parametrize("value", [None, -0.6])
def test_probabilities_by_brute_force(value: float | None) -> None:
    model = mixed(BitFlip(cells(2, 2, "gray"), 0 if value is None else 1, generators=12))
    condition = None if value is None else torch.tensor([[value]], dtype=torch.float64)
    known = by_brute_force(model, condition)
    found = model._distribution(condition)[0].detach()
    torch.testing.assert_close(found, known)
    table = model.probabilities(condition, new_generator(0))[0].detach()
    torch.testing.assert_close(table, model.discretiser.by_cell(known))
    bits = bit_strings(4)
    log_prob = model._log_prob_of_bits(bits, None if condition is None else condition.expand(16, -1))
    torch.testing.assert_close(log_prob.exp().detach(), known)


def test_expectations_by_brute_force() -> None:
    model = mixed(BitFlip(cells(2, 2), generators=11))
    table = by_brute_force(model, None)
    strings = bit_strings(4)
    signs = 1 - 2 * ((strings @ strings.T) % 2)
    sets = BitSets.from_dense(strings)
    found = model.string_values(sets, None, 1, new_generator(0)).detach()
    torch.testing.assert_close(found, (signs @ table)[:, None])
    mean, error = model.expectations(sets, generator=new_generator(0))
    torch.testing.assert_close(mean, signs @ table)
    assert not error.any()


def test_it_is_an_iqp_circuit_whose_gates_have_lost_their_coherence() -> None:
    """Each gate as the channel cos^2 rho + sin^2 X rho X; with a single gate the coherent circuit is the same."""
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.complex128)
    one = torch.eye(2, dtype=torch.complex128)
    model = mixed(BitFlip(cells(3, 1), generators=7))
    angles = model.flip_probabilities(None)[0].detach().sqrt().asin()
    rho = torch.zeros(8, 8, dtype=torch.complex128)
    rho[0, 0] = 1
    for angle, string in zip(angles, model.gates.dense(), strict=True):
        gate = torch.ones(1, 1, dtype=torch.complex128)
        for bit in string:
            gate = torch.kron(gate, x if bit else one)
        rho = angle.cos() ** 2 * rho + angle.sin() ** 2 * gate @ rho @ gate
        unitary = torch.from_numpy(expm(1j * angle.item() * gate.numpy()))
        alone = torch.zeros(8, dtype=torch.float64)
        alone[0] = angle.cos() ** 2
        alone[int("".join(str(int(b)) for b in string), 2)] = angle.sin() ** 2
        torch.testing.assert_close((unitary[:, 0].abs() ** 2), alone)
    torch.testing.assert_close(model._distribution(None)[0].detach(), rho.diagonal().real)


def test_draws_follow_the_probabilities() -> None:
    model = mixed(BitFlip(cells(2, 2), 1, generators=14))
    condition = torch.tensor([[1.1]], dtype=torch.float64)
    table = model.probabilities(condition, new_generator(0))[0].detach()
    n = 50_000
    counts = torch.bincount(model._sample_cells(n, condition.expand(n, -1), new_generator(1)), minlength=16)
    chi_square = ((counts - n * table).square() / (n * table)).sum().item()
    assert chi_square < 15 + 5 * math.sqrt(30)


def test_slopes_by_differences() -> None:
    model = mixed(BitFlip(cells(2, 2), 1, generators=9))
    condition = normal((3, 1), new_generator(0), dtype=torch.float64)

    def table(logits: Tensor, slopes: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(
            model, {"logits": logits, "by_condition": slopes}, (condition,), {"of": "x"}
        )
        return found

    model.forward = lambda condition, of: model._distribution(condition)  # type: ignore[assignment]
    inputs = (model.logits.detach().requires_grad_(), model.by_condition.detach().requires_grad_())
    assert torch.autograd.gradcheck(table, inputs)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_own_loss_is_zero_for_its_own_events_and_positive_for_others(conditional: bool) -> None:
    model = mixed(BitFlip(cells(2, 2), 1, conditional=conditional, generators=10))
    rng = new_generator(0)
    condition = 3 * normal((400, 1), rng, dtype=torch.float64)
    with torch.no_grad():
        if conditional:
            model.by_condition.mul_(10)
        same, other = [], []
        for _ in range(30):
            bits = model._draw_bits(400, condition, rng)
            shuffled = condition[torch.randperm(400, generator=rng)]
            values = model.discretiser.decode(bits, rng)
            same.append(model._own_loss(values, condition, rng))
            wrong = values if conditional else values.square()
            other.append(model._own_loss(wrong, shuffled, rng))
    same, other = torch.stack(same), torch.stack(other)
    assert abs(same.mean()) < 4 * same.std() / 30**0.5
    assert other.mean() > 10 * other.std() / 30**0.5


def test_the_own_loss_is_the_mmd_of_bits() -> None:
    """Over all strings it is the expectation of the Gaussian kernel's discrepancy (2503.02934)."""
    model = mixed(BitFlip(cells(2, 2), generators=10))
    values = uniform((40, 2), new_generator(0), dtype=torch.float64)
    found = torch.stack([model._own_loss(values, None, new_generator(seed)) for seed in range(300)]).detach()
    p = model._distribution(None)[0].detach()
    bits = model.discretiser.encode(values).double()
    strings = bit_strings(4)
    exact = 0.0
    for scale in (0.25, 1.0, 4.0):
        s = scale * 2**0.5
        between = torch.exp(-torch.cdist(strings, strings).square() / (2 * s**2))
        to_events = torch.exp(-torch.cdist(strings, bits).square() / (2 * s**2))
        among = torch.exp(-torch.cdist(bits, bits).square() / (2 * s**2))
        events = (among.sum() - 40) / (40 * 39)
        exact += (p @ between @ p - 2 * (p @ to_events).mean() + events).item() / 3
    assert found.mean().item() == pytest.approx(exact, abs=4 * found.std().item() / 300**0.5)


@pytest.mark.parametrize("objective", [Own(), MMD(space="bits"), NLL()], ids=["own", "mmd", "nll"])
def test_learns_what_it_can_represent(objective: Own | MMD | NLL) -> None:
    truth = BitFlip(cells(2, 2), generators=10)
    with torch.no_grad():
        truth.logits.copy_(torch.tensor([-2.0, 1.0, -1.5, 2.0, -3.0, -0.8, -4.0, -1.0, -3.0, -2.0]))
    values = truth.sample(4000, generator=new_generator(0))
    data = Dataset(torch.cat([values, torch.tensor([[0.0, 0.0], [0.999, 0.999]])]), (Feature("a"), Feature("b")))
    model = BitFlip.for_dataset(data, bits=2, code="binary", order="by-feature", tails=0.0)
    fit(model, data, objective, steps=300, learning_rate=0.05, validate_every=50)
    found = model.probabilities(None, new_generator(0))[0].detach()
    known = truth.probabilities(None, new_generator(0))[0].detach()
    assert (found - known).abs().sum() / 2 < 0.08


def test_many_bits_need_no_table() -> None:
    data = calorimeter(grid=(8, 8), max_events=300)
    model = BitFlip.for_dataset(data, weight=1)
    assert not model.has_log_prob
    result = fit(model, data, Own(), steps=30, batch_size=64, learning_rate=0.05, log_every=1)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    c = data.train.conditions[:10]
    assert model.sample(10, c, new_generator(0)).shape == (10, 64)
    with pytest.raises(TypeError, match=r"^BitFlip has no tractable density"):
        model.log_prob(data.samples[:10], c)
    with pytest.raises(ValueError, match=r"^the model has 128 bits; probabilities of all cells are given up to 16"):
        model.probabilities(None, new_generator(0))


@pytest.mark.parametrize("target", [50, 224, 1000])
def test_asked_for_size_is_reached(target: int) -> None:
    data = calorimeter(grid=(8,), max_events=300)
    for conditional in (True, False):
        model = BitFlip.for_dataset(data, n_parameters=target, conditional=conditional)
        assert model.n_parameters == pytest.approx(target, rel=0.1)


def test_impossible_options() -> None:
    data = calorimeter(grid=(8,), max_events=300)
    with pytest.raises(ValueError, match=r"^n_parameters is 700; the closest size of a BitFlip on 8 bits is 510"):
        BitFlip.for_dataset(data, bits=1, n_parameters=700)
    with pytest.raises(ValueError, match=r"^generators is 16; 4 bits have 1 to 15$"):
        BitFlip(cells(2, 2), generators=16)


def test_chosen_generators() -> None:
    data = calorimeter(grid=(4, 4), max_events=600)
    near = BitFlip.for_dataset(data, gates="neighbours", bits=1)
    assert len(near.gates) == 16 + 24
    more = BitFlip.for_dataset(data, gates="neighbours", bits=1, long_range=10)
    assert list(more.gates)[:40] == list(near.gates)
    assert len(more.gates) == 50
    tied = BitFlip.for_dataset(data, gates="neighbours", bits=1, tied=True)
    assert tied.n_parameters == 2 * (16 + 2)  # along x, along y
    probability = tied.flip_probabilities(torch.zeros(1, 1))[0]
    assert len(probability) == 40
    assert len(probability[16:].unique()) == 2
    (
        tied._own_loss(uniform((20, 16), new_generator(0), dtype=torch.float64), torch.zeros(20, 1), new_generator(0))
    ).backward()
    assert tied.logits.grad is not None
    assert tied.logits.grad.all()


@pytest.mark.parametrize("gates", ["all", "neighbours"])
def test_a_model_is_built_again_from_its_arguments(gates: str) -> None:
    data = calorimeter(grid=(4, 4), max_events=600)
    model = BitFlip.for_dataset(
        data,
        bits=1,
        gates=gates,
        tied=gates == "neighbours",
        scales=[1.0, 2.0],
        strings=100,  # type: ignore[arg-type]
    )
    arguments = json.loads(json.dumps(model.arguments()))
    again = BitFlip.from_arguments(arguments, model.transform, model.condition_transform)
    again.load_state_dict(model.state_dict())
    c = data.train.conditions[:50]
    assert torch.equal(again.sample(50, c, new_generator(0)), model.sample(50, c, new_generator(0)))
    assert (again.scales, again.n_strings) == ((1.0, 2.0), 100)
    assert list(again.gates) == list(model.gates)


def test_models_saved_before_generators_could_be_chosen() -> None:
    binned = cells(2, 2)
    old = {"discretiser": binned.spec(), "n_conditions": 1, "conditional": True, "generators": 12}
    model = BitFlip.from_arguments(old, Compose([]), Compose([]))
    assert [len(gate) for gate in model.gates] == [1] * 4 + [2] * 6 + [3] * 2
    assert model.scales == pytest.approx([0.25 * 2**0.5, 2**0.5, 4 * 2**0.5])
    assert sorted(model.state_dict()) == [
        "by_condition",
        "condition_range",
        *(f"discretiser.edges_{i}" for i in range(2)),
        "logits",
    ]


def test_a_start_from_covariances_is_nearer_to_the_events() -> None:
    data = calorimeter(grid=(4, 4), max_events=2000)
    values = data.transform(data.train.samples, data.train.conditions)
    loss = {}
    for start in ("random", "covariance"):
        model = BitFlip.for_dataset(data, conditional=False, gates="neighbours", start=start)  # type: ignore[arg-type]
        rng = new_generator(0)
        with torch.no_grad():
            loss[start] = float(torch.stack([model._own_loss(values, None, rng) for _ in range(5)]).mean())
    assert loss["covariance"] < 0.1 * loss["random"]


def test_a_thousand_bits_and_ten_thousand_generators() -> None:
    """Against the product written out for a few strings; trained and drawn from."""
    n, rng = 1000, new_generator(0)
    pairs = {tuple(sorted(torch.randperm(n, generator=rng)[:2].tolist())) for _ in range(9000)}
    gates = [(i,) for i in range(n)] + sorted(pairs)
    model = BitFlip(cells(n, 1), generators=gates)
    with torch.no_grad():
        model.logits.copy_(2 * normal((len(gates),), rng, dtype=torch.float64))
    strings, _ = draw_strings(n, (20.0,), 6, rng)
    found = model.string_values(strings, None, 1, rng)[:, 0].detach()
    factor = 1 - 2 * model.flip_probabilities(None)[0].detach()
    for string, value in zip(strings, found.tolist(), strict=True):
        odd = [len(set(gate) & set(string)) % 2 == 1 for gate in gates]
        assert value == pytest.approx(float(factor[torch.tensor(odd)].prod()), rel=1e-9)
    values = uniform((50, n), rng, dtype=torch.float64)
    model._own_loss(values, None, rng).backward()
    assert model.logits.grad is not None
    bits = model._draw_bits(1000, None, rng)
    means = BitSets.of(n, [(0,), (1,), (2,)]).signs(bits).mean(1).double()
    exact = model.string_values(BitSets.of(n, [(0,), (1,), (2,)]), None, 1, rng)[:, 0].detach()
    torch.testing.assert_close(means, exact, atol=5 * 1000**-0.5, rtol=0)


@pytest.mark.parametrize("conditional", [False, True])
def test_slopes_of_string_values(conditional: bool) -> None:
    shared = [0, 1, 2, 3, 4, 4, 5]
    gates = [[0], [1], [2], [3], [0, 1], [2, 3], [0, 1, 2]]
    model = BitFlip(cells(2, 2), int(conditional), generators=gates, shared=shared)
    condition = normal((3, 1), new_generator(0), dtype=torch.float64) if conditional else None
    strings = BitSets.of(4, [(0,), (1, 2), (), (0, 1, 2, 3)])

    def values(logits: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(model, {"logits": logits}, (condition,))
        return found

    model.forward = lambda c: model.string_values(strings, c, 3, new_generator(0))  # type: ignore[assignment]
    assert torch.autograd.gradcheck(values, model.logits.detach().clone().requires_grad_())
    assert values(model.logits)[2].eq(1).all()


def test_impossible_generators() -> None:
    data = calorimeter(grid=(8,), max_events=300)
    with pytest.raises(
        ValueError, match=r"^n_parameters chooses the generators; gates, reach, long_range and tied go wit"
    ):
        BitFlip.for_dataset(data, gates="neighbours", n_parameters=100)
    with pytest.raises(ValueError, match=r"^generator 1 has bit 4; the 4 bits are 0 to 3$"):
        BitFlip(cells(2, 2), generators=[[0], [4]])
    with pytest.raises(ValueError, match=r"^generator 2 is \[0, 1\], as is generator 0; each may be there once$"):
        BitFlip(cells(2, 2), generators=[[0, 1], [2], [1, 0]])
    with pytest.raises(ValueError, match=r"^generators are empty; at least one is needed$"):
        BitFlip(cells(2, 2), generators=[])
    with pytest.raises(
        ValueError, match=r"^shared has 2 numbers from 0 to 2 for 2 generators; one each, from 0 without"
    ):
        BitFlip(cells(2, 2), generators=[[0], [1]], shared=[0, 2])
