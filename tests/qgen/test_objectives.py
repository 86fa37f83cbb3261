from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qgen.data import Discretiser
from qgen.generator import WeightedEvents
from qgen.random import new_generator, normal
from qgen.training import MMD, NLL, Adversarial
from qgen.training.kernels import bit_factors, gaussian_mixture, product_form, value_factors
from qgen.training.objectives import Batch, DivergedError, EventObjective, descend, expectation, generated
from qgen_toys import Affine, Table

F64 = torch.float64


def draws(n: int, d: int, seed: int) -> Tensor:
    return normal((n, d), new_generator(seed), dtype=F64)


def dense_kernel(points: Tensor, bandwidths: list[float]) -> Tensor:
    return torch.stack([torch.exp(-torch.cdist(points, points).square() / (2 * s * s)) for s in bandwidths]).mean(0)


def test_mixture_is_the_mean_of_gaussians() -> None:
    x, y = draws(5, 3, 0), draws(4, 3, 1)
    expected = sum(torch.exp(-torch.cdist(x, y).square() / (2 * s * s)) for s in (0.5, 2.0)) / 2
    torch.testing.assert_close(gaussian_mixture(x, y, [0.5, 2.0]), expected)


def test_product_form_equals_the_dense_kernel_on_values() -> None:
    grids = [draws(4, 1, 0).flatten(), draws(2, 1, 1).flatten(), draws(8, 1, 2).flatten()]
    left = draws(3, 64, 3)
    dense = dense_kernel(torch.cartesian_prod(*grids), [0.7])
    torch.testing.assert_close(product_form(left, value_factors(grids, 0.7)), left @ dense)


def test_product_form_equals_the_dense_kernel_on_bits() -> None:
    bits = torch.cartesian_prod(*[torch.arange(2, dtype=F64)] * 4)
    left = draws(2, 16, 3)
    torch.testing.assert_close(product_form(left, bit_factors(4, 1.3)), left @ dense_kernel(bits, [1.3]))


@pytest.mark.parametrize("on", ["values", "bits"])
def test_mmd_on_cells_equals_the_double_sum(on: str) -> None:
    events = draws(50, 2, 0)
    model = Table(Discretiser.fit(events, bits=2))
    with torch.no_grad():
        model.logits += draws(1, 16, 1)
    q = torch.bincount(model.discretiser.cell_index(events), minlength=16) / 50
    difference = model.logits.softmax(1)[0] - q
    if on == "values":
        points = torch.cartesian_prod(*model.discretiser.representatives())
    else:
        points = torch.cartesian_prod(*[torch.arange(2, dtype=F64)] * 4)
    expected = difference @ dense_kernel(points, [0.5, 1.5]) @ difference
    found = MMD(on, bandwidths=[0.5, 1.5]).loss(model, Batch(events), new_generator(0))
    torch.testing.assert_close(found, expected)


def test_conditional_mmd_on_cells_equals_the_double_sum() -> None:
    events, condition = draws(40, 1, 0), (torch.arange(40) % 3).to(F64)[:, None]
    model = Table(Discretiser.fit(events, bits=2), n_rows=3)
    with torch.no_grad():
        model.logits += draws(3, 4, 1)
    points = torch.cartesian_prod(torch.arange(3, dtype=F64), model.discretiser.representatives()[0])
    p = torch.stack([model.logits[row].softmax(0) * (condition == row).sum() / 40 for row in range(3)]).flatten()
    cells = condition[:, 0].long() * 4 + model.discretiser.cell_index(events)
    difference = p - torch.bincount(cells, minlength=12) / 40
    expected = difference @ dense_kernel(points, [0.8]) @ difference
    found = MMD(bandwidths=[0.8]).loss(model, Batch(events, condition), new_generator(0))
    torch.testing.assert_close(found, expected)


def test_mmd_from_shots_is_unbiased() -> None:
    """Its mean over repetitions is the exact double sum over distinct pairs, for two conditions at once."""
    events, condition = draws(30, 1, 0), (torch.arange(30) % 2).to(F64)[:, None]
    exact = Table(Discretiser.fit(events, bits=2), n_rows=2)
    with torch.no_grad():
        exact.logits += draws(2, 4, 1)
    noisy = Table(exact.discretiser, n_rows=2, shots=5)
    noisy.load_state_dict(exact.state_dict())
    objective, batch, rng = MMD(bandwidths=[0.6]), Batch(events, condition), new_generator(2)
    found = torch.stack([objective.loss(noisy, batch, rng).detach() for _ in range(3000)])
    biased = objective.loss(exact, batch, rng)
    # the exact loss keeps each event's meeting with itself, (1 - V) / (n - 1) above the unbiased one
    cells = condition[:, 0].long() * 4 + exact.discretiser.cell_index(events)
    q = torch.bincount(cells, minlength=8) / 30
    points = torch.cartesian_prod(torch.arange(2, dtype=F64), exact.discretiser.representatives()[0])
    v = q.to(F64) @ dense_kernel(points, [0.6]) @ q.to(F64)
    expected = biased + (30 * v - 1) / 29 - v
    assert abs(found.mean() - expected) < 4 * found.std() / math.sqrt(len(found))
    assert found.std() > 0


@pytest.mark.parametrize("shots", [2, 5])
def test_gradient_of_mmd_from_shots_is_unbiased(shots: int) -> None:
    """With a slope that does not know of the shots, as the parameter-shift rule gives it."""
    events, condition = draws(30, 1, 0), (torch.arange(30) % 2).to(F64)[:, None]
    exact = Table(Discretiser.fit(events, bits=2), n_rows=2)
    with torch.no_grad():
        exact.logits += draws(2, 4, 1)
    noisy = Table(exact.discretiser, n_rows=2, shots=shots)
    noisy.load_state_dict(exact.state_dict())
    objective, batch, rng = MMD(bandwidths=[0.6]), Batch(events, condition), new_generator(2)
    (expected,) = torch.autograd.grad(objective.loss(exact, batch, rng), exact.logits)
    found = torch.stack([torch.autograd.grad(objective.loss(noisy, batch, rng), noisy.logits)[0] for _ in range(2000)])
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() < 4.5 * error).all()
    assert error.max() < 0.1 * expected.abs().max()


def test_mmd_between_normals_matches_its_closed_form() -> None:
    """For N(0, 1) against N(d, 1) in one dimension, E k = s / sqrt(s^2 + 2) exp(-d^2 / 2 (s^2 + 2))."""
    s, shift = 1.0, 0.7
    model = Affine(1)
    with torch.no_grad():
        model.mean += shift
    batches = [Batch(draws(2000, 1, 5 + repeat)) for repeat in range(10)]
    losses = [MMD(bandwidths=[s]).loss(model, batch, new_generator(1)).item() for batch in batches]
    found = sum(losses) / len(losses)
    norm = s / math.sqrt(s * s + 2)
    expected = 2 * norm * (1 - math.exp(-shift * shift / (2 * (s * s + 2))))
    assert found == pytest.approx(expected, abs=0.006)
    assert found > 0.03


def test_nll_is_the_entropy_at_the_truth() -> None:
    loss = NLL().loss(Affine(2), Batch(draws(20_000, 2, 0)), new_generator(0)).item()
    assert loss == pytest.approx(1 + math.log(2 * math.pi), abs=0.03)


def test_nll_of_cells_is_cross_entropy_plus_log_volume() -> None:
    events = torch.rand(1000, 1, dtype=F64, generator=new_generator(0))
    model = Table(Discretiser.fit(events, bits=2, edges="linear"))
    width = (events.max() - events.min()).item() / 4
    loss = NLL().loss(model, Batch(events), new_generator(0)).item()
    assert loss == pytest.approx(math.log(4) + math.log(width), abs=1e-9)


def test_descend_refuses_what_is_not_finite() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=F64))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    with pytest.raises(DivergedError, match="loss is nan"):
        descend(optimiser, (weight * torch.nan).sum())
    with pytest.raises(DivergedError, match="gradient's norm is inf"):
        descend(optimiser, weight.sqrt().sum())
    with pytest.raises(DivergedError, match="loss is 1e\\+11"):
        descend(optimiser, weight.sum() + 1e11)
    assert weight.item() == 0


def test_descend_clips() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, dtype=F64))
    descend(torch.optim.SGD([weight], lr=1.0), 30 * weight[0] + 40 * weight[1], clip=0.5)
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.3, -0.4], dtype=F64))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: MMD("cells"), "space is 'cells'; allowed"),
        (lambda: MMD(bandwidths=[]), "at least one is needed"),
        (lambda: MMD(bandwidths=[1.0, -1.0]), "each must be positive"),
        (lambda: MMD(samples=1), "samples is 1"),
        (lambda: MMD(bandwidths=[math.inf]), "each must be positive and finite"),
        (lambda: MMD("bits").prepare(Affine(1), Batch(draws(4, 1, 0)), 0), "needs a generator over bit strings"),
    ],
)
def test_impossible_options_are_named(call: object, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        call()


def test_nll_of_many_conditions_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    events, condition = draws(30, 1, 0), (torch.arange(30) % 5).to(F64)[:, None]
    model = Table(Discretiser.fit(events, bits=2), n_rows=5)
    with torch.no_grad():
        model.logits += draws(5, 4, 1)
    whole = model._log_prob(events, condition)
    (slope,) = torch.autograd.grad(whole.mean(), model.logits)
    monkeypatch.setattr("qgen.generator.PROBABILITIES_AT_ONCE", 8)  # two conditions
    parts = model._log_prob(events, condition)
    assert torch.equal(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.mean(), model.logits)[0], slope)


def test_nll_needs_exact_probabilities() -> None:
    events = draws(20, 1, 0)
    model = Table(Discretiser.fit(events, bits=1), shots=7)
    with pytest.raises(ValueError, match="NLL needs probabilities, not frequencies of shots; the model has 7 shots"):
        NLL().prepare(model, Batch(events), 0)


def test_nll_needs_a_density() -> None:
    model = Affine(1)
    model.has_log_prob = False
    with pytest.raises(ValueError, match="NLL needs a tractable density; Affine has none"):
        NLL().prepare(model, Batch(draws(4, 1, 0)), 0)


def test_a_loss_without_gradient_is_refused() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=F64))
    with pytest.raises(ValueError, match="does not depend on the parameters"):
        descend(torch.optim.SGD([weight], lr=1.0), torch.zeros((), dtype=F64))


def test_mmd_of_weighted_events_equals_the_double_sum() -> None:
    x, y, weights = draws(6, 2, 0), draws(5, 2, 1), torch.tensor([0.1, 0.3, 0.0, 0.2, 0.25, 0.15], dtype=F64)
    joint = dense_kernel(torch.cat([x, y]), [0.5, 1.5])
    inside = [weights[i] * weights[j] * joint[i, j] for i in range(6) for j in range(6)]
    apart = [weights[i] * weights[j] * joint[i, j] for i in range(6) for j in range(6) if i != j]
    across = sum(weights[i] * joint[i, 6 + j] / 5 for i in range(6) for j in range(5))
    true = sum(joint[6 + i, 6 + j] / 20 for i in range(5) for j in range(5) if i != j)
    objective = MMD(bandwidths=[0.5, 1.5])
    whole = objective.on_events(WeightedEvents(x, weights, None, draws=None), Batch(y))
    torch.testing.assert_close(whole, sum(inside) - 2 * across + true)
    drawn = objective.on_events(WeightedEvents(x, weights, None, draws=6), Batch(y))
    torch.testing.assert_close(drawn, sum(apart) * 6 / 5 - 2 * across + true)


def test_mmd_of_draws_of_several_events_is_unbiased() -> None:
    """Draws under the conditions of the batch, each as two events with their probabilities; closed sums over all."""
    levels = torch.tensor([-1.0, 0.5], dtype=F64)
    share = torch.tensor([[0.7, 0.3], [0.2, 0.8]], dtype=F64)  # of the two values, under either condition
    objective, rng, n = MMD(bandwidths=[0.7]), new_generator(0), 6

    def once() -> tuple[Tensor, Tensor]:
        condition = torch.randint(2, (n,), generator=rng)
        true = levels[torch.multinomial(share.flip(0)[condition], 1, generator=rng).flatten()]
        p = share.clone().requires_grad_()
        column = condition.to(F64)[:, None]
        events = WeightedEvents(
            levels.repeat(n)[:, None], (p[condition] / n).flatten(), column.repeat_interleave(2, 0), draws=n
        )
        loss = objective.on_events(events, Batch(true[:, None], column))
        return loss.detach(), torch.autograd.grad(loss, p)[0]

    losses, slopes = map(torch.stack, zip(*(once() for _ in range(4000)), strict=True))
    points = torch.cartesian_prod(torch.arange(2, dtype=F64), levels)
    p = share.clone().requires_grad_()
    difference = ((p - share.flip(0)) / 2).flatten()
    expected = difference @ dense_kernel(points, [0.7]) @ difference
    (slope,) = torch.autograd.grad(expected, p)
    for found, wanted in ((losses, expected.detach()), (slopes, slope)):
        error = found.std(0) / math.sqrt(len(found))
        assert ((found.mean(0) - wanted).abs() < 4.5 * error).all()
        assert (error < 0.05 * wanted.abs().max()).all()


def test_expectation_over_draws_of_several_events_has_the_exact_gradient() -> None:
    share = torch.tensor([0.2, 0.8], dtype=F64, requires_grad=True)
    numbers = draws(6, 1, 0).flatten()
    value = expectation(WeightedEvents(numbers[:, None], share.repeat(3) / 3, None, draws=3), numbers)
    torch.testing.assert_close(value, (share.repeat(3) * numbers).sum() / 3)
    (slope,) = torch.autograd.grad(value, share)
    pairs = numbers.reshape(3, 2).mean(0)
    torch.testing.assert_close(slope[1] - slope[0], pairs[1] - pairs[0])  # along the line of shares with sum 1


def test_events_of_a_machine_with_shots_are_all_its_cells() -> None:
    """The gradient of an expectation through frequencies is unbiased, also of cells that no shot hit."""
    events, condition = draws(30, 1, 0), (torch.arange(30) % 2).to(F64)[:, None]
    model = Table(Discretiser.fit(events, bits=3), n_rows=2, shots=3)
    with torch.no_grad():
        model.logits += draws(2, 8, 1)
    numbers = draws(16, 1, 3).flatten()
    rng = new_generator(2)

    def gradient() -> Tensor:
        found = generated(model, Batch(events, condition), rng)
        assert found.draws is None
        return torch.autograd.grad(expectation(found, numbers), model.logits)[0]

    found = torch.stack([gradient() for _ in range(300)])
    exact = (model.logits.softmax(1).flatten() * numbers).sum() / 2
    (expected,) = torch.autograd.grad(exact, model.logits)
    torch.testing.assert_close(found.mean(0), expected)  # these toys' slopes do not know of the shots


@pytest.mark.parametrize("of", ["mmd", "adversarial"])
def test_gradient_by_score_function_is_unbiased(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws with weights whose slope is the score, against the sum over all cells."""
    batch = Batch(draws(12, 1, 0))
    model = Table(Discretiser.fit(batch.values, bits=2))
    with torch.no_grad():
        model.logits += draws(1, 4, 1)
    centres = model.discretiser.representatives()[0]
    monkeypatch.setattr(type(model.discretiser), "decode", lambda self, cells, rng: centres[cells][:, None])
    objective: EventObjective = MMD(bandwidths=[0.6]) if of == "mmd" else Adversarial()
    objective.prepare(model, batch, 0)
    rng = new_generator(2)

    def gradient() -> Tensor:
        return torch.autograd.grad(objective.on_events(generated(model, batch, rng), batch), model.logits)[0]

    expected = gradient()
    assert torch.equal(expected, gradient())
    monkeypatch.setattr("qgen.generator.CELLS_AT_ONCE", 0)
    assert generated(model, batch, rng).draws == 12
    found = torch.stack([gradient() for _ in range(1500)])
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() < 4.5 * error).all()
    assert error.max() < 0.1 * expected.abs().max()


def test_the_baseline_of_an_expectation_lowers_its_gradients_variance() -> None:
    weights = torch.full((50,), 1 / 50, dtype=F64, requires_grad=True)
    numbers = 10 + draws(50, 1, 0).flatten()
    events = WeightedEvents(numbers[:, None], weights, None, draws=50)
    value = expectation(events, numbers)
    torch.testing.assert_close(value, numbers.mean())
    (slope,) = torch.autograd.grad(value, weights)
    assert slope.abs().max() < 0.5 * numbers.abs().max()
    assert abs(slope.mean()) < 1e-9
