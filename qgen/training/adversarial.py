"""The adversarial objective: a discriminator that learns beside the generator."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import softplus

from qgen.generator import Generator, WeightedEvents
from qgen.random import derive_seed, uniform
from qgen.training.discriminators import Discriminator, make_discriminator
from qgen.training.objectives import (
    MMD,
    Batch,
    EventObjective,
    check_differentiable,
    descend,
    expectation,
    generated,
)
from qgen.training.optimisers import OPTIMISERS, OptimiserName, ScheduleName, make_optimiser
from qgen.training.remarks import unbalanced

__all__ = ["Adversarial"]

LOSSES = ("non-saturating", "wasserstein-gp", "least-squares")


class Adversarial(EventObjective):
    r"""A generative adversarial game (1406.2661), conditional where the data are (1411.1784).

    With score :math:`s(x)`, real events :math:`r` and generated ones :math:`g`, the generator and the discriminator
    minimise

    - ``non-saturating`` (1406.2661): :math:`E[-\log\sigma(s(g))]` and
      :math:`E[-\log\sigma(s(r))] + E[-\log(1 - \sigma(s(g)))]`;
    - ``wasserstein-gp`` (1704.00028): :math:`-E[s(g)]` and :math:`E[s(g)] - E[s(r)] + \lambda E[(|\nabla s| - 1)^2]`,
      the slope taken at random points between real and generated events, conditions included;
    - ``least-squares`` (1611.04076): :math:`\frac12 E[(s(g) - 1)^2]` and
      :math:`\frac12 E[(s(r) - 1)^2] + \frac12 E[s(g)^2]`.

    The expectation over generated events is the weighted sum of :meth:`~qgen.generator.Generator._weighted`: exact for
    a model that gives all its probabilities. States of a training are compared by the MMD on the validation events,
    since the game's own losses do not tell how good a generator is.

    A record holds, beside the two losses, the mean scores ``real_score`` and ``fake_score`` and
    ``discriminator_accuracy``: the mean of the shares of real and of generated events that lie on their side of the
    score 0, 1/2 (``least-squares``) or half way between the mean scores (``wasserstein-gp``).

    Args:
        loss: which game.
        discriminator: a kind, or ``kind`` with its options, or a :class:`Discriminator` whose weights are the start.
        discriminator_steps: steps of the discriminator for each of the generator; 1, or 3 for ``wasserstein-gp``.
        discriminator_optimiser: of the discriminator.
        discriminator_rate: its learning rate.
        discriminator_betas: of its Adam.
        discriminator_schedule: of its learning rate; the generator's if not given.
        gradient_penalty: weight of the penalty of ``wasserstein-gp``.

    Raises:
        ValueError: an unknown name, an option that is not positive and finite, a discriminator that does not fit the
            events, or a generator whose events have no gradient.
    """

    def __init__(
        self,
        loss: Literal["non-saturating", "wasserstein-gp", "least-squares"] = "non-saturating",
        discriminator: str | Mapping[str, Any] | Discriminator = "mlp",
        discriminator_steps: Annotated[int, Ge(1)] | None = None,
        discriminator_optimiser: OptimiserName = "adam",
        discriminator_rate: Annotated[float, Gt(0)] = 3e-3,
        discriminator_betas: tuple[float, float] = (0.5, 0.9),
        discriminator_schedule: ScheduleName | None = None,
        gradient_penalty: Annotated[float, Gt(0)] = 10.0,
    ) -> None:
        super().__init__()
        named = {
            "loss": (loss, LOSSES),
            "discriminator_optimiser": (discriminator_optimiser, tuple(OPTIMISERS)),
            "discriminator_schedule": (discriminator_schedule, ("constant", "cosine", None)),
        }
        for name, (found, allowed) in named.items():
            if found not in allowed:
                raise ValueError(f"{name} is {found!r}; allowed are {', '.join(map(repr, allowed))}")
        steps = discriminator_steps if discriminator_steps is not None else (3 if loss == "wasserstein-gp" else 1)
        if steps < 1 or not 0 < discriminator_rate < math.inf or not 0 < gradient_penalty < math.inf:
            raise ValueError(
                f"discriminator_steps {steps}, discriminator_rate {discriminator_rate} and gradient_penalty "
                f"{gradient_penalty} must all be positive and finite"
            )
        if not all(0 <= beta < 1 for beta in discriminator_betas):
            raise ValueError(f"discriminator_betas are {list(discriminator_betas)}; both must be in [0, 1)")
        self.game = loss
        self._given: tuple[Discriminator, ...] = ()  # in a tuple it is no part of the state that is saved
        if isinstance(discriminator, Discriminator):
            self._given = (copy.deepcopy(discriminator),)
            self.spec: dict[str, Any] = {"kind": type(discriminator).__name__}
        else:
            self.spec = {"kind": discriminator} if isinstance(discriminator, str) else dict(discriminator)
        self.discriminator_steps = steps
        self.discriminator_optimiser: OptimiserName = discriminator_optimiser
        self.discriminator_rate = discriminator_rate
        self.discriminator_betas = (discriminator_betas[0], discriminator_betas[1])
        self.discriminator_schedule: ScheduleName | None = discriminator_schedule
        self.gradient_penalty = gradient_penalty

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Build the discriminator for these events; refuse one that does not fit and a generator without gradient."""
        check_differentiable("Adversarial", generator, train)
        MMD().prepare(generator, train, seed)
        if self._given:
            self.discriminator = copy.deepcopy(self._given[0])
        else:
            own = derive_seed(seed, "discriminator")
            self.discriminator = make_discriminator(self.spec, generator.n_features, generator.n_conditions, own)
        self.discriminator.to(train.values.device)
        self._try(Batch(train.values[:2], None if train.condition is None else train.condition[:2]))

    def _try(self, two: Batch) -> None:
        name, columns = type(self.discriminator).__name__, two.joint().shape[1]
        try:
            with torch.enable_grad():
                scores = self.discriminator.scores(two.events())
                if self.game == "wasserstein-gp" and not self._penalty(two.values, two.condition).requires_grad:
                    raise ValueError(f"{name} has no second derivatives, which the penalty of wasserstein-gp needs")
        except (RuntimeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{name} does not fit events of {columns} columns with {self.game}: {reason}") from error
        if scores.shape != (len(two),) or not scores.requires_grad:
            found = f"shape {tuple(scores.shape)}" + ("" if scores.requires_grad else " and no gradient")
            raise ValueError(f"{name} gives scores of {found} for {len(two)} events; ({len(two)},) is needed, with one")

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """The discriminator's."""
        made = make_optimiser(
            self.discriminator_optimiser,
            self.discriminator.parameters(),
            self.discriminator_rate,
            self.discriminator_betas,
            self.discriminator_schedule,
        )
        return {"discriminator": made}

    def on_events(self, events: WeightedEvents, batch: Batch) -> Tensor:
        """What the generator minimises against the discriminator as it stands."""
        score = self.discriminator.scores(events)
        if self.game == "non-saturating":
            return expectation(events, softplus(-score))
        if self.game == "least-squares":
            return expectation(events, 0.5 * (score - 1).square())
        return expectation(events, -score)

    def discriminator_loss(
        self, generator: Generator, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """What the discriminator minimises against the generator as it stands, and numbers to record."""
        with torch.no_grad():
            events = generated(generator, batch, rng)
        on_real = self.discriminator.scores(batch.events())
        on_fake = self.discriminator.scores(events)
        if self.game == "non-saturating":
            loss = softplus(-on_real).mean() + expectation(events, softplus(on_fake))
        elif self.game == "least-squares":
            loss = 0.5 * (on_real - 1).square().mean() + 0.5 * expectation(events, on_fake.square())
        else:
            loss = expectation(events, on_fake) - on_real.mean()
            loss = loss + self.gradient_penalty * self._penalty_between(events, batch, rng)
        with torch.no_grad():
            real, fake = on_real.mean().item(), expectation(events, on_fake).item()
            middle = {"non-saturating": 0.0, "least-squares": 0.5, "wasserstein-gp": (real + fake) / 2}[self.game]
            told = (on_real > middle).to(on_real).mean() + expectation(events, (on_fake <= middle).to(on_fake))
        return loss, {"real_score": real, "fake_score": fake, "discriminator_accuracy": told.item() / 2}

    def _penalty_between(self, events: WeightedEvents, batch: Batch, rng: torch.Generator) -> Tensor:
        values, condition = events.values, events.condition
        if not events.draws == len(values) == len(batch):
            rows = torch.multinomial(events.weights.cpu(), len(batch), replacement=True, generator=rng)
            values = values[rows.to(values.device)]
            condition = None if condition is None else condition[rows.to(condition.device)]
        mix = uniform((len(batch), 1), rng, dtype=values.dtype, device=values.device)
        between = mix * batch.values + (1 - mix) * values
        if condition is None or batch.condition is None:
            return self._penalty(between, None)
        return self._penalty(between, mix * batch.condition.to(values) + (1 - mix) * condition.to(values))

    def _penalty(self, values: Tensor, condition: Tensor | None) -> Tensor:
        inputs = [values.detach().requires_grad_()]
        if condition is not None:
            inputs.append(condition.detach().requires_grad_())
        score = self.discriminator(inputs[0], inputs[1] if condition is not None else None)
        slopes = torch.autograd.grad(score.sum(), inputs, create_graph=True)
        return (torch.cat(slopes, dim=1).norm(dim=1) - 1).square().mean()

    def play(
        self, generator: Generator, batch: Batch, optimisers: dict[str, torch.optim.Optimizer], rng: torch.Generator
    ) -> dict[str, float]:
        """The discriminator's steps; its loss, scores and accuracy before the last of them."""
        for _ in range(self.discriminator_steps):
            self.discriminator.penalty()  # that of scores before this step is not asked for
            loss, numbers = self.discriminator_loss(generator, batch, rng)
            penalty = self.discriminator.penalty()
            descend(optimisers["discriminator"], loss if penalty is None else loss + penalty)
        return {"discriminator_loss": loss.item(), **numbers}

    def validation_loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The squared MMD between generated and validation events."""
        return MMD().loss(generator, batch, rng)

    def remarks(self, history: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """Whether the discriminator is far ahead, a Wasserstein critic is meant to be, and what it says of itself."""
        ahead = () if self.game == "wasserstein-gp" else unbalanced(history)
        return ahead + self.discriminator.remarks()
