from __future__ import annotations

import math

import pytest
import torch

from qgen.models.cv_classifier import binomial_uncertainty, train_classifier
from qgen.random import new_generator, normal
from qgen.training.discriminators import MLP


def tables(n, columns, seed=0):
    return normal((2, n, columns), new_generator(seed), dtype=torch.float64)


def test_a_linear_score_reaches_the_best_accuracy_there_is():
    real, fake = tables(4000, 2)
    found = train_classifier(MLP.for_events(2, 0, hidden=()), real + torch.tensor([1.2, 0.9]), fake, steps=300)
    best = 0.5 * (1 + math.erf(0.75 / math.sqrt(2)))  # normal distribution function of half the distance 1.5
    area = 0.5 * (1 + math.erf(1.5 / 2))
    assert found.events == 4000
    assert found.uncertainty == pytest.approx(math.sqrt(best * (1 - best) / 4000), rel=0.05)
    assert abs(found.accuracy - best) < 3 * found.uncertainty
    assert abs(found.auc - area) < 0.02
    assert found.losses[-1] < found.losses[0] < math.log(2)


def test_events_that_were_learned_by_heart_do_not_judge():
    real, fake = tables(60, 8)
    found = train_classifier(MLP.for_events(8, 0, hidden=(64, 64)), real, fake, steps=300, learning_rate=0.01)
    assert found.training_accuracy > 0.95
    assert abs(found.accuracy - 0.5) < 3 * found.uncertainty


def test_the_seed_fixes_all():
    real, fake = tables(100, 2)
    judges = [MLP.for_events(2, 0, hidden=(8,), seed=3) for _ in range(3)]
    first, again, other = (
        train_classifier(judge, real + 0.5, fake, steps=20, seed=seed)
        for judge, seed in zip(judges, (1, 1, 2), strict=True)
    )
    assert first == again != other
    assert binomial_uncertainty(100, 100) > 0


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (torch.zeros(8, 2), torch.zeros(7, 2), {}, r"real events are \(8, 2\), fake ones \(7, 2\); tables of the same"),
        (torch.zeros(2, 2), torch.zeros(2, 2), {}, r"real events are \(2, 2\)"),
        (torch.zeros(8, 2), torch.zeros(8, 2), {"steps": 0}, "steps 0, batch_size 64"),
        (torch.zeros(8, 2), torch.zeros(8, 2), {"learning_rate": math.nan}, "steps 300, batch_size 64"),
    ],
)
def test_faults(real, fake, options, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        train_classifier(MLP.for_events(2, 0), real, fake, **options)
