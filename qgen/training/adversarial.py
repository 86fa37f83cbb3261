"""The adversarial objective: a discriminator that learns beside the generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import softplus

from qgen.generator import Generator
from qgen.random import derive_seed, seeded, uniform
from qgen.training.objectives import MMD, Batch, Objective, check_differentiable, descend

__all__ = ["Adversarial", "Discriminator"]

LOSSES = ("non-saturating", "wasserstein-gp")


class Discriminator(nn.Module):
    """A multilayer perceptron that scores events with their conditions, real ones high.

    Args:
        n_inputs: columns of samples and conditions together.
        hidden: width of each hidden layer.
        seed: fixes the initial weights.

    >>> Discriminator(3, (16,), seed=0)(torch.zeros(5, 3, dtype=torch.float64)).shape
    torch.Size([5])
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int], seed: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        with seeded(seed):
            for width in hidden:
                layers += [nn.Linear(n_inputs, width, dtype=torch.float64), nn.LeakyReLU(0.2)]
                n_inputs = width
            self.network = nn.Sequential(*layers, nn.Linear(n_inputs, 1, dtype=torch.float64))

    def forward(self, events: Tensor) -> Tensor:
        """The score of each event, ``(N, n_inputs) -> (N,)``."""
        score: Tensor = self.network(events).squeeze(1)
        return score


class Adversarial(Objective):
    r"""A generative adversarial game (1406.2661), conditional where the data are (1411.1784).

    ``non-saturating``: the generator minimises :math:`-\log D(g)`, the discriminator the cross-entropy.
    ``wasserstein-gp``: Wasserstein distance with gradient penalty (1704.00028). The discriminator has its own Adam
    with betas (0.5, 0.9). States of a training are compared by the MMD on the validation events, since the game's own
    losses do not tell how good a generator is.

    Args:
        loss: which game.
        hidden: width of each hidden layer of the discriminator.
        discriminator_steps: steps of the discriminator for each of the generator; 1, or 3 for ``wasserstein-gp``.
        discriminator_rate: learning rate of the discriminator.
        gradient_penalty: weight of the penalty of ``wasserstein-gp``.

    Raises:
        ValueError: an unknown loss, an option that is not positive and finite, or a generator whose samples have no
            gradient.
    """

    def __init__(
        self,
        loss: Literal["non-saturating", "wasserstein-gp"] = "non-saturating",
        hidden: Sequence[Annotated[int, Ge(1)]] = (64, 64),
        discriminator_steps: Annotated[int, Ge(1)] | None = None,
        discriminator_rate: Annotated[float, Gt(0)] = 3e-3,
        gradient_penalty: Annotated[float, Gt(0)] = 10.0,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}; allowed are {', '.join(map(repr, LOSSES))}")
        steps = discriminator_steps if discriminator_steps is not None else (3 if loss == "wasserstein-gp" else 1)
        if steps < 1 or not 0 < discriminator_rate < math.inf or not 0 < gradient_penalty < math.inf:
            raise ValueError(
                f"discriminator_steps {steps}, discriminator_rate {discriminator_rate} and gradient_penalty "
                f"{gradient_penalty} must all be positive and finite"
            )
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden is {list(hidden)}; every width must be at least 1")
        self.game = loss
        self.hidden = tuple(hidden)
        self.discriminator_steps = steps
        self.discriminator_rate = discriminator_rate
        self.gradient_penalty = gradient_penalty

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Build the discriminator for these events; refuse a generator whose samples have no gradient."""
        check_differentiable("Adversarial", generator, train)
        n_inputs = generator.n_features + generator.n_conditions
        self.discriminator = Discriminator(n_inputs, self.hidden, derive_seed(seed, "discriminator"))
        self.discriminator.to(train.values.device)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """The discriminator's."""
        adam = torch.optim.Adam(self.discriminator.parameters(), lr=self.discriminator_rate, betas=(0.5, 0.9))
        return {"discriminator": adam}

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """What the generator minimises against the discriminator as it stands."""
        score = self.discriminator(self._fake(generator, batch, rng))
        return softplus(-score).mean() if self.game == "non-saturating" else -score.mean()

    def discriminator_loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """What the discriminator minimises against the generator as it stands."""
        real = batch.joint()
        with torch.no_grad():
            fake = self._fake(generator, batch, rng)
        on_real, on_fake = self.discriminator(torch.cat([real, fake])).split([len(real), len(fake)])
        if self.game == "non-saturating":
            return softplus(-on_real).mean() + softplus(on_fake).mean()
        mix = uniform((len(real), 1), rng, dtype=real.dtype, device=real.device)
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(between).sum(), between, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return on_fake.mean() - on_real.mean() + self.gradient_penalty * penalty

    def step(
        self,
        generator: Generator,
        batch: Batch,
        optimisers: dict[str, torch.optim.Optimizer],
        rng: torch.Generator,
        clip: float | None,
    ) -> dict[str, float]:
        """The discriminator's steps, then the generator's."""
        for _ in range(self.discriminator_steps):
            discriminator_loss = self.discriminator_loss(generator, batch, rng)
            descend(optimisers["discriminator"], discriminator_loss)
        loss = self.loss(generator, batch, rng)
        descend(optimisers["generator"], loss, clip)
        return {"loss": loss.item(), "discriminator_loss": discriminator_loss.item()}

    def validation_loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The unbiased squared MMD between generated and validation events."""
        return MMD()._on_samples(generator, batch, rng)

    def _fake(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        return batch.joint(generator._sample(len(batch), batch.condition, rng).to(batch.values))
