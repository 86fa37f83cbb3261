from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qgen import fit
from qgen.data import Discretiser
from qgen.generator import WeightedEvents
from qgen.random import new_generator, normal
from qgen.training import MMD, NLL, Adversarial, Correlation, Mixture
from qgen.training.correlation import pearson
from qgen.training.objectives import Batch
from qgen_toys import Affine, Table, linear_events

F64 = torch.float64


def draws(n: int, d: int, seed: int) -> Tensor:
    return normal((n, d), new_generator(seed), dtype=F64)


def test_pearson_with_weights_is_numpys() -> None:
    values, condition = draws(30, 2, 0), draws(30, 1, 1)
    values[:, 1] += values[:, 0] - condition[:, 0]
    weights = torch.rand(30, generator=new_generator(2), dtype=F64)
    covariance = np.cov(torch.cat([values, condition], 1).T.numpy(), aweights=weights.numpy())
    width = np.sqrt(np.diag(covariance))
    events = WeightedEvents(values, weights / weights.sum(), condition, draws=None)
    np.testing.assert_allclose(pearson(events).numpy(), covariance / np.outer(width, width), atol=1e-12)
    plain = Batch(values, condition).events()
    np.testing.assert_allclose(pearson(plain).numpy(), np.corrcoef(plain.joint().T.numpy()), atol=1e-12)


def test_correlation_loss_is_the_mean_over_the_pairs() -> None:
    model, batch = Affine(2, 1), Batch(draws(40, 2, 0), draws(40, 1, 1))
    found = Correlation().loss(model, batch, new_generator(3))
    fake = torch.cat([model._sample(40, batch.condition, new_generator(3)).detach(), batch.condition], 1)
    difference = np.corrcoef(fake.T.numpy()) - np.corrcoef(batch.joint().T.numpy())
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert found.item() == pytest.approx(np.mean([difference[pair] ** 2 for pair in pairs]))
    two = Correlation().on_events(
        WeightedEvents(fake[:, :1], torch.full((40,), 1 / 40), fake[:, 1:], 40),
        batch=Batch(batch.values[:, :1], torch.cat([batch.values[:, 1:], batch.condition], 1)),
    )
    assert two.item() == pytest.approx(np.mean([difference[0, 1] ** 2, difference[0, 2] ** 2]))


def test_correlation_of_a_constant_column_is_finite() -> None:
    values = draws(20, 2, 0)
    values[:, 1] = 3.0
    values.requires_grad_()
    events = WeightedEvents(values, torch.full((20,), 0.05, dtype=F64), None, draws=20)
    loss = Correlation().on_events(events, Batch(draws(20, 2, 1)))
    (slope,) = torch.autograd.grad(loss, values)
    assert loss.isfinite()
    assert slope.isfinite().all()


def test_correlation_of_a_discrete_model_uses_its_probabilities() -> None:
    values = draws(300, 2, 0)
    values[:, 1] += values[:, 0]
    model, batch = Table(Discretiser.fit(values, bits=2)), Batch(values)
    before = Correlation().loss(model, batch, new_generator(0)).item()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for step in range(60):
        Correlation().step(model, batch, {"generator": optimiser}, new_generator(step), None)
    assert before > 0.3
    assert Correlation().loss(model, batch, new_generator(0)).item() < 0.01


class Counting(Affine):
    """Counts how often events are drawn with a gradient."""

    drawn = 0

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        Counting.drawn += torch.is_grad_enabled()
        return super()._sample(n, condition, generator)


def test_a_mixture_is_the_weighted_sum_on_the_same_events() -> None:
    model, batch = Counting(2, 1), Batch(draws(50, 2, 0), draws(50, 1, 1))
    mixture = Mixture([(MMD(), 2.0), (Correlation(), 0.5), (NLL(), 0.1)])
    mixture.prepare(model, batch, 0)
    Counting.drawn = 0
    found = mixture.loss(model, batch, new_generator(4))
    assert Counting.drawn == 1
    parts = [part.loss(model, batch, new_generator(4)) for part in (MMD(), Correlation(), NLL())]
    torch.testing.assert_close(found, 2 * parts[0] + 0.5 * parts[1] + 0.1 * parts[2])


def test_a_mixture_with_a_game_trains_and_records_its_parts() -> None:
    data = linear_events(500)
    model = Affine.for_dataset(data)
    game = {"kind": "adversarial", "weight": 0.5, "discriminator": {"kind": "mlp", "hidden": [8]}}
    mixture = Mixture([{"kind": "mmd"}, game])
    result = fit(model, data, mixture, steps=10, batch_size=64, log_every=1, validate_every=5)
    first = result.history[0]
    assert first["loss"] == pytest.approx(first["mmd"] + 0.5 * first["adversarial"])
    assert {"discriminator_loss", "real_score", "fake_score", "discriminator_accuracy"} < set(first)
    assert mixture.settings()["parts"][1]["weight"] == 0.5
    assert mixture.settings()["parts"][1]["spec"] == {"kind": "mlp", "hidden": [8]}
    assert any(name.startswith("parts.1.discriminator") for name in mixture.state_dict())


def test_two_parts_of_a_kind_are_recorded_apart() -> None:
    mixture = Mixture([{"kind": "mmd"}, {"kind": "mmd", "bandwidths": [0.1]}, {"kind": "correlation"}])
    model, batch = Affine(2), Batch(draws(20, 2, 0))
    assert list(mixture.terms(model, batch, new_generator(0))) == ["mmd_1", "mmd_2", "correlation"]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([], "^parts are empty; a mixture needs at least one$"),
        ([{"kind": "mdm"}], r"^parts\.0\.kind is 'mdm'; allowed are mmd, nll"),
        ([(MMD(), 1.0), (NLL(), 0.0)], r"^parts\.1\.weight is 0\.0; it must be positive and finite$"),
        ([{"kind": "mmd", "weight": "much"}], r"^parts\.0\.weight is 'much'"),
        ([(Adversarial(), 1.0), (Adversarial(), 1.0)], "^parts hold two adversarial objectives; at most one"),
        ([(Mixture([(MMD(), 1.0)]), 1.0)], r"^parts\.0 is a mixture itself; write its parts here$"),
    ],
)
def test_impossible_mixtures_are_named(parts: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Mixture(parts)


def test_parts_refuse_what_they_cannot_train() -> None:
    batch = Batch(draws(20, 1, 0))
    with pytest.raises(ValueError, match="^Correlation needs two features, or a feature and a condition"):
        Mixture([{"kind": "mmd"}, {"kind": "correlation"}]).prepare(Affine(1), batch, 0)
