from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from circuits import ansatz
from circuits.backends import Statevector
from qgen import fit
from qgen.data import Dataset, Discretiser, Feature
from qgen.generator import WeightedEvents
from qgen.models import BornMachine
from qgen.random import new_generator, normal
from qgen.training import MMD, Adversarial, Discriminator, MinibatchMLP
from qgen.training.discriminators import discriminator_class, discriminators, make_discriminator
from qgen.training.objectives import Batch, generated
from qgen.training.remarks import unbalanced
from qgen_toys import Affine, Table, linear_events

F64 = torch.float64
SMALL = {"kind": "mlp", "hidden": (8,)}


def draws(n: int, d: int, seed: int) -> Tensor:
    return normal((n, d), new_generator(seed), dtype=F64)


class Bowl(Discriminator):
    """Half the squared length of an event, times a weight that is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=F64))

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        joint = values if condition is None else torch.cat([values, condition], 1)
        return self.weight * joint.square().sum(1) / 2


class Measured(Discriminator):
    """The expectation value of Z on one qubit of a circuit whose angles are the event's values and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.circuit = ansatz.data_reuploading(2, 2, 2)
        self.weights = nn.Parameter(draws(1, self.circuit.n_angles - 2, 3)[0])

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        angles = torch.cat([self.weights.expand(len(values), -1), values], 1)
        return Statevector().expval(self.circuit, angles, ["Z0"])[:, 0]


@pytest.mark.parametrize("game", ["non-saturating", "wasserstein-gp", "least-squares"])
def test_losses_match_their_definitions(game: Any) -> None:
    model, batch = Affine(2), Batch(draws(64, 2, 0))
    objective = Adversarial(game, SMALL)
    objective.prepare(model, batch, seed=1)
    fake = model._sample(64, None, new_generator(7))
    on_real, on_fake = objective.discriminator(batch.values, None), objective.discriminator(fake, None)
    one, zero = torch.ones_like(on_real), torch.zeros_like(on_real)
    found, numbers = objective.discriminator_loss(model, batch, new_generator(7))
    if game == "non-saturating":
        bce = binary_cross_entropy_with_logits
        torch.testing.assert_close(found, bce(on_real, one) + bce(on_fake, zero))
        generator_loss, threshold = bce(on_fake, one), 0.0
    elif game == "least-squares":
        torch.testing.assert_close(found, (mse_loss(on_real, one) + mse_loss(on_fake, zero)) / 2)
        generator_loss, threshold = mse_loss(on_fake, one) / 2, 0.5
    else:
        assert found > on_fake.mean() - on_real.mean()
        generator_loss, threshold = -on_fake.mean(), (on_real.mean() + on_fake.mean()).item() / 2
    torch.testing.assert_close(objective.loss(model, batch, new_generator(7)), generator_loss)
    assert numbers["real_score"] == pytest.approx(on_real.mean().item())
    assert numbers["fake_score"] == pytest.approx(on_fake.mean().item())
    right = (on_real > threshold).sum() + (on_fake <= threshold).sum()
    assert numbers["discriminator_accuracy"] == pytest.approx(right.item() / 128)


@pytest.mark.parametrize("conditional", [False, True])
def test_gradient_penalty_of_a_known_slope(conditional: bool) -> None:
    """The slope of half a squared length is the point itself, conditions included."""
    condition = draws(64, 1, 1) if conditional else None
    model, batch = Affine(2, int(conditional)), Batch(draws(64, 2, 0), condition)
    objective = Adversarial("wasserstein-gp", Bowl(), gradient_penalty=2.0)
    objective.prepare(model, batch, seed=1)
    rng = new_generator(7)
    fake = batch.joint().clone()
    fake[:, :2] = model._sample(64, condition, rng).detach()
    mix = torch.rand(64, 1, generator=rng, dtype=F64)
    between = mix * batch.joint() + (1 - mix) * fake
    penalty = (between.norm(dim=1) - 1).square().mean()
    distance = fake.square().sum(1).mean() / 2 - batch.joint().square().sum(1).mean() / 2
    found, _ = objective.discriminator_loss(model, batch, new_generator(7))
    torch.testing.assert_close(found, distance + 2 * penalty)
    found.backward()
    assert objective.discriminator.weight.grad is not None


@pytest.mark.parametrize("game", ["non-saturating", "wasserstein-gp", "least-squares"])
def test_the_game_of_a_discrete_model_is_the_sum_over_its_cells(game: Any) -> None:
    """With two conditions: every cell counts with its probability and the share of its condition."""
    values, condition = draws(40, 1, 0), (torch.arange(40) % 4 == 0).to(F64)[:, None]
    model, batch = Table(Discretiser.fit(values, bits=2), n_rows=2), Batch(values, condition)
    with torch.no_grad():
        model.logits += draws(2, 4, 1)
    objective = Adversarial(game, SMALL)
    objective.prepare(model, batch, seed=1)
    events = generated(model, batch, new_generator(5))
    assert events.draws is None
    p = model.logits.softmax(1) * torch.tensor([[0.75], [0.25]], dtype=F64)
    score = objective.discriminator(events.values, events.condition)
    each = {
        "non-saturating": -torch.log(torch.sigmoid(score)),
        "wasserstein-gp": -score,
        "least-squares": (score - 1) ** 2 / 2,
    }[game]
    loss = objective.loss(model, batch, new_generator(5))
    torch.testing.assert_close(loss, (p.flatten() * each).sum())
    (found,) = torch.autograd.grad(loss, model.logits)
    (expected,) = torch.autograd.grad((p.flatten() * each.detach()).sum(), model.logits)
    torch.testing.assert_close(found, expected)
    discriminator_loss, numbers = objective.discriminator_loss(model, batch, new_generator(5))
    assert discriminator_loss.isfinite()
    assert 0 <= numbers["discriminator_accuracy"] <= 1


def test_a_born_machine_trains_adversarially() -> None:
    values = draws(800, 2, 0)
    data = Dataset(values, (Feature("a"), Feature("b")))
    model = BornMachine.for_dataset(data, bits=2, layers=2)
    batch = Batch(data.transform(data.train.samples))
    before = MMD().loss(model, batch, new_generator(0)).item()
    objective = Adversarial(discriminator={"kind": "mlp", "hidden": [16]}, discriminator_rate=0.02)
    fit(model, data, objective, steps=100, batch_size=128, learning_rate=0.05, validate_every=20)
    assert MMD().loss(model, batch, new_generator(0)).item() < 0.5 * before


def test_a_quantum_discriminator_has_the_second_derivatives_of_the_penalty() -> None:
    """Against finite differences in its weights."""
    model, batch = Affine(2), Batch(draws(5, 2, 0))
    objective = Adversarial("wasserstein-gp", Measured())
    objective.prepare(model, batch, seed=1)
    weights = objective.discriminator.weights

    def loss() -> Tensor:
        return objective.discriminator_loss(model, batch, new_generator(3))[0]

    (slope,) = torch.autograd.grad(loss(), weights)
    for k in (0, 3, len(weights) - 1):
        values = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                weights[k] += shift
            values.append(loss().item())
            with torch.no_grad():
                weights[k] -= shift
        assert slope[k].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_minibatch_sees_the_spread_of_the_batch() -> None:
    """Two batches with an event in common: its score differs by the other's spread; weights count."""
    model = MinibatchMLP.for_events(1, 0, hidden=())
    layer = model.network[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0, 1.0]]))
        layer.bias.zero_()
    values = draws(20, 1, 0)
    torch.testing.assert_close(model(values, None), values.std().expand(20), rtol=1e-5, atol=0)
    weights = torch.rand(20, generator=new_generator(1), dtype=F64)
    weights = weights / weights.sum()
    mean = (weights * values[:, 0]).sum()
    expected = (weights * (values[:, 0] - mean) ** 2).sum().sqrt()
    found = model.scores(WeightedEvents(values, weights, None, draws=None))
    torch.testing.assert_close(found, expected.expand(20), rtol=1e-5, atol=0)
    same = torch.ones(20, 1, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(model(same, None).sum(), same)
    assert slope.isfinite().all()


@pytest.mark.parametrize("kind", ["mlp", "minibatch"])
def test_discriminators_by_kind(kind: str) -> None:
    assert kind in discriminators()
    first, same, other = (make_discriminator({"kind": kind, "hidden": [4]}, 2, 1, seed=seed) for seed in (0, 0, 1))
    assert isinstance(first, discriminator_class(kind))
    values, condition = draws(6, 2, 0), draws(6, 1, 1)
    assert first(values, condition).shape == (6,)
    assert torch.equal(first(values, condition), same(values, condition))
    assert not torch.equal(first(values, condition), other(values, condition))


def test_a_given_discriminator_is_the_start_of_every_training() -> None:
    given = MinibatchMLP.for_events(2, 1, seed=5, hidden=(4,))
    before = given.network[0].weight.detach().clone()
    data = linear_events(200)
    objective = Adversarial(discriminator=given)
    results = []
    for _ in range(2):
        model = Affine.for_dataset(data)
        fit(model, data, objective, steps=5, batch_size=32)
        results.append(model.mean.detach().clone())
    assert torch.equal(given.network[0].weight, before)
    assert torch.equal(*results)
    assert not torch.equal(objective.discriminator.network[0].weight, before)


def test_the_discriminator_has_an_optimiser_and_a_schedule_of_its_own() -> None:
    data = linear_events(200)
    rates: dict[str, list[float]] = {"generator": [], "discriminator": []}

    class Watched(Adversarial):
        def play(self, generator: Any, batch: Batch, optimisers: Any, rng: torch.Generator) -> dict[str, float]:
            for name, optimiser in optimisers.items():
                rates[name].append(optimiser.param_groups[0]["lr"])
            return super().play(generator, batch, optimisers, rng)

    for schedule, last in (("constant", 0.1), (None, pytest.approx(0.05))):
        objective = Watched(
            discriminator=SMALL,
            discriminator_optimiser="adadelta",
            discriminator_rate=0.1,
            discriminator_schedule=schedule,
        )
        fit(Affine.for_dataset(data), data, objective, steps=2, learning_rate=0.5, schedule="cosine")
        assert rates["generator"][-2:] == [0.5, pytest.approx(0.25)]
        assert rates["discriminator"][-2:] == [0.1, last]
        assert isinstance(objective.optimisers()["discriminator"], torch.optim.Adadelta)


class Narrow(Discriminator):
    """Fits three columns only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1, dtype=F64)

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        return self.layer(values)[:, 0]


class Flat(Bowl):
    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        return super().forward(values, condition).sum()


class Once(Bowl):
    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        return super().forward(values.detach(), condition)


class FirstOrder(torch.autograd.Function):
    """Half the square of a number, once differentiable like the adjoint method of a simulator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


class Adjoint(Bowl):
    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        return FirstOrder.apply(self.weight + values[:, 0])


class Picky(Bowl):
    @classmethod
    def for_events(cls, n_features: int, n_conditions: int, *, seed: int = 0) -> Picky:
        raise ValueError(f"Picky has 2 qubits; {n_features} features are too many")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: Adversarial("least"), r"^loss is 'least'; allowed are 'non-saturating', 'wasserstein-gp', 'least-"),
        (lambda: Adversarial(discriminator_rate=0.0), "must all be positive"),
        (lambda: Adversarial(gradient_penalty=math.nan), "must all be positive and finite"),
        (
            lambda: Adversarial(discriminator_optimiser="adam2"),
            "^discriminator_optimiser is 'adam2'; allowed are 'adam",
        ),
        (lambda: Adversarial(discriminator_schedule="linear"), "^discriminator_schedule is 'linear'; allowed are"),
        (lambda: Adversarial(discriminator_betas=(0.5, 1.0)), r"^discriminator_betas are \[0.5, 1.0\]; both must be"),
        (lambda: prepare({"kind": "mlp", "hidden": (8, 0)}), r"^hidden is \[8, 0\]; every width"),
        (lambda: prepare("mpl"), r"^discriminator 'mpl' is unknown; did you mean 'mlp'\?"),
        (lambda: prepare({}), "^discriminator has kind None; it needs one of"),
        (lambda: prepare({"kind": "mlp", "hiden": [8]}), "^discriminator mlp: .*unexpected keyword argument 'hiden'"),
        (lambda: prepare(Narrow()), "^Narrow does not fit events of 2 columns with non-saturating: .*shapes cannot be"),
        (lambda: prepare(Flat()), r"^Flat gives scores of shape \(\) for 2 events; \(2,\) is needed"),
        (lambda: prepare(Adjoint(), "wasserstein-gp"), "^Adjoint has no second derivatives, which the penalty of wass"),
        (lambda: prepare(Once(), "wasserstein-gp"), "^Once does not fit events of 2 columns with wasserstein-gp: "),
    ],
)
def test_impossible_options_are_named(call: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


def prepare(discriminator: Any, game: Any = "non-saturating") -> None:
    Adversarial(game, discriminator).prepare(Affine(2), Batch(draws(20, 2, 0)), 0)


def test_a_discriminator_that_refuses_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgen.training.discriminators.discriminator_class", lambda kind: Picky)
    with pytest.raises(ValueError, match="^Picky has 2 qubits; 2 features are too many$"):
        prepare("picky")


class Frozen(Affine):
    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        return super()._sample(n, condition, generator).detach()


def test_a_generator_without_gradient_is_refused() -> None:
    line = "^Adversarial needs events whose values or probabilities are differentiable in the weights; those of Frozen"
    with pytest.raises(ValueError, match=line):
        Adversarial().prepare(Frozen(1), Batch(draws(20, 1, 0)), 0)


def test_a_game_without_balance_is_remarked() -> None:
    """A generator that hardly moves, far from the data, against a fast discriminator."""
    data = linear_events(1000)
    model = Affine.for_dataset(data)
    with torch.no_grad():
        model.mean += 10
    settings = {"steps": 60, "batch_size": 64, "learning_rate": 1e-6, "log_every": 5}
    fast = {"discriminator_rate": 0.02, "discriminator": SMALL}
    result = fit(model, data, Adversarial(**fast), **settings)
    (remark,) = result.remarks
    assert remark.startswith("unbalanced: the discriminator tells ")
    assert remark.endswith(f"since step {remark.split()[-1]}")
    last = result.history[-1]
    assert last["discriminator_accuracy"] > 0.95
    assert last["real_score"] > last["fake_score"]
    assert fit(model, data, Adversarial("wasserstein-gp", **fast), **settings).remarks == ()
    fair = Affine.for_dataset(data)
    assert fit(fair, data, Adversarial(**fast), **{**settings, "learning_rate": 0.01}).remarks == ()


def test_unbalanced_needs_a_stretch_to_the_end() -> None:
    def records(*accuracies: float) -> list[dict[str, float]]:
        return [{"step": k + 1, "discriminator_accuracy": a} for k, a in enumerate(accuracies)]

    assert unbalanced(records(*[0.6] * 12, *[0.99] * 4)) != ()
    assert unbalanced(records(*[0.6] * 13, *[0.99] * 4)) == ()
    assert unbalanced(records(*[0.99] * 12, 0.9)) == ()
    assert unbalanced(records(0.99, 0.99, 0.99)) == ()
    assert unbalanced([{"step": 1, "loss": 1.0}]) == ()
