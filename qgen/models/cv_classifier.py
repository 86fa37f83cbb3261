r"""Real against fake events: a classifier, its training, and what it reaches on events that it has not seen.

With as many real events as fake ones, both are cut in halves by the seed: one half trains the score :math:`s(x)` by the
cross-entropy :math:`\frac12 E[-\log\sigma(s(r))] + \frac12 E[-\log(1 - \sigma(s(f)))]`, the other one judges it. Any
:class:`~qgen.training.discriminators.Discriminator` may be the score, so that a circuit and a network of the same size
are compared on the same footing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from qgen.metrics.classifier import auc
from qgen.random import derive_seed, new_generator
from qgen.training.discriminators import Discriminator
from qgen.training.objectives import descend

__all__ = ["ClassifierResult", "train_classifier"]

FEWEST_EVENTS = 4


@dataclass(frozen=True)
class ClassifierResult:
    """What a classifier reaches on the held-out half of the events.

    Args:
        accuracy: share of held-out events on their side of the score 0.
        uncertainty: of that share, binomial; see :func:`binomial_uncertainty`.
        auc: probability that a held-out real event scores above a fake one.
        events: number of held-out events, real and fake together.
        training_accuracy: the same share of the events that it was trained on.
        losses: mean cross-entropy in nat of the batches of each tenth of the training.
    """

    accuracy: float
    uncertainty: float
    auc: float
    events: int
    training_accuracy: float
    losses: tuple[float, ...]


def binomial_uncertainty(right: int, n: int) -> float:
    """Standard deviation of a share ``right / n``, with one right and one wrong event added, so that it is never 0.

    >>> round(binomial_uncertainty(50, 100), 3), round(binomial_uncertainty(100, 100), 4)
    (0.05, 0.0099)
    """
    share = (right + 1) / (n + 2)
    return math.sqrt(share * (1 - share) / n)


def train_classifier(
    classifier: Discriminator,
    real: Tensor,
    fake: Tensor,
    steps: int = 300,
    *,
    batch_size: int = 64,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> ClassifierResult:
    """Train a classifier in place by Adam, its rate falling to zero as a cosine, and judge it.

    Args:
        classifier: its score is the logit of being real.
        real: events ``(N, n_features)``, in numbers of order one.
        fake: as many other ones.
        steps: of the optimiser.
        batch_size: real events of a step, and as many fake ones; all of the training half where there are fewer.
        learning_rate: at the first step.
        seed: fixes halves and batches.

    Raises:
        ValueError: tables that do not fit each other, fewer than four events of a kind, or an impossible setting.

    >>> from qgen.training.discriminators import MLP
    >>> rng = torch.Generator().manual_seed(0)
    >>> real, fake = torch.randn(2, 400, 2, generator=rng, dtype=torch.float64)
    >>> found = train_classifier(MLP.for_events(2, 0, hidden=()), real + 2, fake, steps=100)
    >>> found.events, 0.85 < found.accuracy < 1
    (400, True)
    """
    if real.ndim != 2 or real.shape != fake.shape or len(real) < FEWEST_EVENTS:
        raise ValueError(
            f"real events are {tuple(real.shape)}, fake ones {tuple(fake.shape)}; tables of the same shape with at "
            f"least {FEWEST_EVENTS} rows are needed"
        )
    if steps < 1 or batch_size < 1 or not 0 < learning_rate < math.inf:
        raise ValueError(
            f"steps {steps}, batch_size {batch_size} and learning_rate {learning_rate} must all be positive and finite"
        )
    halves = [
        table[torch.randperm(len(table), generator=new_generator(derive_seed(seed, "halves", which)))].tensor_split(2)
        for which, table in (("real", real), ("fake", fake))
    ]
    (train_real, test_real), (train_fake, test_fake) = halves
    rng = new_generator(derive_seed(seed, "batches"))
    optimiser = torch.optim.Adam(classifier.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    for _ in range(steps):
        batch = [table[_rows(len(table), batch_size, rng)] for table in (train_real, train_fake)]
        on_real, on_fake = classifier(torch.cat(batch), None).split([len(part) for part in batch])
        loss = softplus(-on_real).mean() / 2 + softplus(on_fake).mean() / 2
        descend(optimiser, loss)
        schedule.step()
        losses.append(loss.item())
    with torch.no_grad():
        held_out = [classifier(table, None) for table in (test_real, test_fake)]
        trained = [classifier(table, None) for table in (train_real, train_fake)]
    right, n = _right(*held_out), len(test_real) + len(test_fake)
    return ClassifierResult(
        accuracy=right / n,
        uncertainty=binomial_uncertainty(right, n),
        auc=auc(held_out[1], held_out[0], torch.ones(len(test_fake)), torch.ones(len(test_real))).item(),
        events=n,
        training_accuracy=_right(*trained) / (len(train_real) + len(train_fake)),
        losses=tuple(part.mean().item() for part in torch.tensor(losses).tensor_split(min(10, steps))),
    )


def _rows(n: int, batch_size: int, rng: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=rng)[:batch_size]


def _right(on_real: Tensor, on_fake: Tensor) -> int:
    return int((on_real > 0).sum() + (on_fake <= 0).sum())
