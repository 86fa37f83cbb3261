r"""Real against fake events: a circuit of optical modes, its training, and what it reaches on events it has not seen.

The circuit is that of the CV quantum GAN's discriminator, tested apart from any game (2101.11132 has such a test; its
sizes, data and training are ours). Its score is the logit of the probability that an event is real,

.. math:: P(\text{real} | x) = \sigma(s(x)), \qquad s(x) = A \, \langle \tfrac12 (a_0 + a_0^\dagger) \rangle + B .

With as many real events as fake ones, both are cut in halves by the seed. One half trains the score by
the cross-entropy

.. math:: \tfrac12 E[-\log\sigma(s(r))] + \tfrac12 E[-\log(1 - \sigma(s(f)))]

and, of a circuit, a penalty on the norm that its states lose beyond the cutoff; the other half judges it. Any
:class:`~qgen.training.discriminators.Discriminator` may be the score, so that a circuit and a network of the same size
are compared on the same footing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from circuits.cv import CVGate, Program
from circuits.cv.basis import BasisKind
from circuits.cv.meshes import Mesh
from qgen.metrics.classifier import auc
from qgen.models.cv_discriminator import INITIAL_RANGE, CVDiscriminator
from qgen.random import derive_seed, new_generator
from qgen.training.discriminators import Discriminator
from qgen.training.objectives import descend

__all__ = ["CVClassifier", "ClassifierResult", "Embedding", "train_classifier"]

Embedding = Literal["displacement", "squeezing"]

FEWEST_EVENTS = 4


class CVClassifier(CVDiscriminator):
    """The probability that an event is real, from a quadrature mean of optical modes.

    Args:
        n_features: columns of an event.
        n_conditions: columns of a condition, 0 for none.
        embedding: how an event enters the vacuum, by displacements or by squeezings of the bounded strengths of
            :class:`~qgen.models.cv_discriminator.CVDiscriminator`. Squeezed vacua have no mean; only the Kerr gates
            behind the network's displacements bring them into a quadrature mean.
        modes: as in :class:`~qgen.models.cv_discriminator.CVDiscriminator`, like the arguments that follow.
        layers: of the CV neural network.
        cutoff: photon number from which states are cut off.
        basis: ``total`` or ``mode``.
        mesh: ``rectangular`` or ``triangular``.
        norm_penalty: weight, in training, of the mean share of their norm that states lose beyond the cutoff. Without
            it a training finds that nearly empty truncated states tell best, which no mode of light ever would.
        initial_range: of the weights of all gates, uniform around zero. Small ones make a score that is linear in the
            event at first, which is a saddle of the loss where nothing linear tells real from fake.
        seed: fixes the initial weights.

    Raises:
        ValueError: another embedding, a negative penalty or range, or what the discriminator refuses.

    >>> judge = CVClassifier(3, embedding="squeezing", layers=1)
    >>> judge.probability(torch.zeros(5, 3)).shape, judge.program.counts["Squeezing"]
    (torch.Size([5]), 6)
    """

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        *,
        embedding: Embedding = "displacement",
        modes: int | None = None,
        layers: int = 2,
        cutoff: int = 6,
        basis: BasisKind = "total",
        mesh: Mesh = "rectangular",
        norm_penalty: float = 10.0,
        initial_range: float = 0.5,
        seed: int = 0,
    ) -> None:
        if embedding not in get_args(Embedding):
            raise ValueError(f"embedding is {embedding!r}; allowed are {', '.join(get_args(Embedding))}")
        if not 0 <= initial_range < math.inf:
            raise ValueError(f"initial_range is {initial_range}; a finite number that is not negative is needed")
        super().__init__(
            n_features,
            n_conditions,
            modes=modes,
            layers=layers,
            cutoff=cutoff,
            basis=basis,
            mesh=mesh,
            norm_penalty=norm_penalty,
            seed=seed,
        )
        with torch.no_grad():
            self.weights.mul_(initial_range / INITIAL_RANGE)
        if embedding == "squeezing":
            inputs, network = self.program.gates[:n_features], self.program.gates[n_features:]
            squeezed = [CVGate("Squeezing", gate.modes, gate.parameters) for gate in inputs]
            self.program = Program(self.program.n_modes, [*squeezed, *network], self.program.n_parameters)

    def probability(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """The probability that each event is real, ``(N, n_features) -> (N,)``."""
        return self(values, condition).sigmoid()

    def norm_lost(self, values: Tensor, condition: Tensor | None = None) -> Tensor:
        """What truncation leaves out of the state of each event, ``(N, n_features) -> (N,)``."""
        states = self._states(self.weights, self.displacements(values, condition))
        return torch.cat([state.norm_lost for state in states])


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
        remarks: of the classifier itself, such as that truncation mattered.
    """

    accuracy: float
    uncertainty: float
    auc: float
    events: int
    training_accuracy: float
    losses: tuple[float, ...]
    remarks: tuple[str, ...] = ()


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
    learning_rate: float = 0.03,
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
        classifier.penalty()  # that of scores before this step is not asked for
        on_real, on_fake = classifier(torch.cat(batch), None).split([len(part) for part in batch])
        loss = softplus(-on_real).mean() / 2 + softplus(on_fake).mean() / 2
        losses.append(loss.item())
        penalty = classifier.penalty()
        descend(optimiser, loss if penalty is None else loss + penalty)
        schedule.step()
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
        remarks=classifier.remarks(),
    )


def _rows(n: int, batch_size: int, rng: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=rng)[:batch_size]


def _right(on_real: Tensor, on_fake: Tensor) -> int:
    return int((on_real > 0).sum() + (on_fake <= 0).sum())
