"""Objectives: what a generator is asked to minimise, independent of what the generator is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from qgen.generator import DiscreteGenerator, Generator, WeightedEvents
from qgen.random import new_generator
from qgen.training.kernels import bit_factors, gaussian_mixture, product_form, value_factors

__all__ = [
    "MMD",
    "NLL",
    "Batch",
    "DivergedError",
    "EventObjective",
    "Objective",
    "check_differentiable",
    "descend",
    "expectation",
    "generated",
]

DIVERGED_ABOVE = 1e10
Plain = bool | int | float | str | list | dict | None


class DivergedError(ArithmeticError):
    """A loss, a gradient or a weight is not finite, or the loss is beyond 1e10."""


@dataclass(frozen=True)
class Batch:
    """Events in a model's space: ``values (B, n_features)`` and ``condition (B, n_conditions)`` or None."""

    values: Tensor
    condition: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Tensor) -> Batch:
        """The events of these rows."""
        return Batch(self.values[rows], None if self.condition is None else self.condition[rows])

    def joint(self) -> Tensor:
        """Values with their conditions beside them."""
        return self.events().joint()

    def events(self) -> WeightedEvents:
        """The same events, each of equal weight."""
        weights = self.values.new_full((len(self),), 1 / len(self))
        return WeightedEvents(self.values, weights, self.condition, draws=len(self))


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, clip: float | None = None) -> None:
    """One optimiser step down a loss, refused if the loss or a gradient is not finite.

    Args:
        optimiser: holds the parameters to move.
        loss: a scalar that depends on them.
        clip: largest norm of the gradient, longer ones are scaled down to it; none for no limit.

    Raises:
        DivergedError: nothing was moved.
        ValueError: the loss has no gradient.
    """
    value = loss.item()
    if not abs(value) < DIVERGED_ABOVE:
        raise DivergedError(f"the loss is {value:g}")
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on the parameters that are to be trained")
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, clip if clip is not None else torch.inf)
    if not torch.isfinite(norm):
        raise DivergedError(f"the gradient's norm is {norm.item():g} where the loss is {value:g}")
    optimiser.step()


def generated(generator: Generator, batch: Batch, rng: torch.Generator) -> WeightedEvents:
    """Events that stand for the generator under the conditions of a batch, in the batch's type and on its device."""
    events = generator._weighted(len(batch), batch.condition, rng)
    return replace(events, values=events.values.to(batch.values), weights=events.weights.to(batch.values))


def expectation(events: WeightedEvents, numbers: Tensor) -> Tensor:
    """The mean under a generator of a number that each event has, differentiable in numbers and weights.

    Where the weights of independent draws carry the gradient, the mean of the other draws is taken off each number: the
    gradient stays unbiased, since the slopes of a draw's weights have mean zero, and varies less.

    Args:
        events: stand for the generator.
        numbers: one for each event, ``(m,)``.

    >>> events = WeightedEvents(torch.zeros(2, 1), torch.tensor([0.25, 0.75]), None, draws=None)
    >>> expectation(events, torch.tensor([4.0, 8.0]))
    tensor(7.)
    """
    n = events.draws
    if n is None or n < 2 or not events.weights.requires_grad:
        return (events.weights * numbers).sum()
    each = n * (events.weights * numbers).detach().reshape(n, -1).sum(1)
    others = (each.sum() - each) / (n - 1)
    return (events.weights * (numbers - others.repeat_interleave(len(numbers) // n))).sum() + others.mean()


def check_differentiable(what: str, generator: Generator, train: Batch) -> None:
    """Refuse a generator whose events have no gradient in its weights, neither by values nor by probabilities.

    Raises:
        ValueError: the generator and ``what`` needs the gradient are named.
    """
    condition = None if train.condition is None else train.condition[:2]
    with torch.enable_grad():
        drawn = generator._weighted(len(train.values[:2]), condition, new_generator(0))
    if not (drawn.values.requires_grad or drawn.weights.requires_grad):
        raise ValueError(
            f"{what} needs events whose values or probabilities are differentiable in the weights; those of "
            f"{type(generator).__name__} are not"
        )


class Objective(nn.Module):
    """A loss, with whatever it must learn or remember.

    A subclass implements :meth:`loss`, and :meth:`play` and :meth:`optimisers` where it learns something itself. One
    that compares events only derives from :class:`EventObjective`.
    """

    def settings(self) -> dict[str, Any]:
        """Class and options as JSON values: a training goes on from a checkpoint only under the same.

        >>> MMD(bandwidths=[1.0]).settings()
        {'kind': 'MMD', 'space': 'values', 'bandwidths': [1.0], 'samples': None}
        """
        options: dict[str, Any] = {"kind": type(self).__name__}
        for name, value in vars(self).items():
            if isinstance(value, tuple | list):
                value = list(value)
            if not name.startswith("_") and name != "training" and isinstance(value, Plain):
                options[name] = value
        return options

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Build what depends on the generator and the training events; called once before training.

        Args:
            generator: the model that will be trained.
            train: all training events.
            seed: fixes whatever is random in what is built.

        Raises:
            ValueError: the objective cannot train this generator.
        """

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The scalar to minimise, differentiable in the generator's parameters.

        Args:
            generator: the model.
            batch: the events of this step, in the model's space.
            rng: the only source of randomness.
        """
        raise NotImplementedError

    def validation_loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The scalar by which states of a training are compared on the validation events."""
        return self.loss(generator, batch, rng)

    def play(
        self, generator: Generator, batch: Batch, optimisers: dict[str, torch.optim.Optimizer], rng: torch.Generator
    ) -> dict[str, float]:
        """What the objective itself learns before a step of the generator, as numbers to record; nothing here.

        Arguments are those of :meth:`step`.
        """
        return {}

    def step(
        self,
        generator: Generator,
        batch: Batch,
        optimisers: dict[str, torch.optim.Optimizer],
        rng: torch.Generator,
        clip: float | None,
    ) -> dict[str, float]:
        """One training step; the numbers to record, ``loss`` among them.

        Args:
            generator: the model.
            batch: the events of this step, in the model's space.
            optimisers: ``generator``'s, and those of :meth:`optimisers`.
            rng: the only source of randomness.
            clip: largest norm of the generator's gradient, or None.

        Raises:
            DivergedError: something was not finite; the generator was not moved.
        """
        numbers = self.play(generator, batch, optimisers, rng)
        generator.penalty()  # that of events before this step is not asked for
        loss = self.loss(generator, batch, rng)
        penalty = generator.penalty()
        descend(optimisers["generator"], loss if penalty is None else loss + penalty, clip)
        return {"loss": loss.item(), **numbers}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """One optimiser for each player that the objective itself trains; none here.

        A group of parameters with a ``schedule`` (``constant`` or ``cosine``) follows it and not the generator's.
        """
        return {}

    def remarks(self, history: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """What the records of a training say about how it went, a plain sentence each; nothing here."""
        return ()


class EventObjective(Objective):
    """An objective that sees the generator through its events alone: several of them can share the same ones.

    A subclass implements :meth:`on_events`.
    """

    def on_events(self, events: WeightedEvents, batch: Batch) -> Tensor:
        """The scalar to minimise, differentiable in the events' values and weights.

        Args:
            events: stand for the generator, under the conditions of the batch.
            batch: the true events of this step.
        """
        raise NotImplementedError

    def needs_events(self, generator: Generator) -> bool:
        """Whether the loss of this generator is that of events which other objectives may share."""
        return True

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The loss of as many events as the batch holds, or of the generator's whole distribution."""
        return self.on_events(generated(generator, batch, rng), batch)


class NLL(Objective):
    """Negative log likelihood of the events, mean over the batch, in nats and in the model's space.

    Raises:
        ValueError: the generator has no tractable density, or only frequencies of shots: a cell that no shot hits has
            no likelihood.
    """

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Check that there is a likelihood."""
        if not generator.has_log_prob:
            raise ValueError(
                f"NLL needs a tractable density; {type(generator).__name__} has none (use MMD or Adversarial)"
            )
        if isinstance(generator, DiscreteGenerator) and generator.shots is not None:
            raise ValueError(
                f"NLL needs probabilities, not frequencies of shots; the model has {generator.shots} shots (use MMD)"
            )

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """Minus the mean log density."""
        return -generator._log_prob(batch.values, batch.condition).mean()


class MMD(EventObjective):
    r"""Squared maximum mean discrepancy with a mixture of Gaussian kernels (1205.3137; for Born machines 1804.04168).

    .. math:: \mathrm{MMD}^2 = E[k(x, x')] - 2 E[k(x, y)] + E[k(y, y')],
              \quad k(x, y) = \mathrm{mean}_s \exp(-|x - y|^2 / 2 s^2)

    For a :class:`~qgen.generator.DiscreteGenerator` with exact probabilities it is computed from them,
    :math:`(p - q)^T K (p - q)`, with :math:`K` applied as a product over features or bits; with shots, and for every
    other generator, it is the unbiased estimate from events (lemma 6 of Gretton et al., JMLR 13 (2012) 723): no draw
    meets itself, nor the true event whose condition it was drawn under. A whole distribution, of weights :math:`w`, has
    :math:`w^T K w`. Conditions take part through the same kernel.

    Args:
        space: ``values`` compares cells by the values they stand for, ``bits`` by their Hamming distance.
        bandwidths: the ``s`` of the mixture, in standard deviations of a feature (``values``) or bits (``bits``).
            Without any: 0.25, 1 and 4 times the square root of half the number of columns or bits.
        samples: events a sample-based generator draws each step; the batch's size if not given.

    Raises:
        ValueError: no bandwidth, one that is not positive and finite, ``bits`` for a generator without bits, a single
            shot of a circuit, or a generator whose events have no gradient.
    """

    def __init__(
        self,
        space: Literal["values", "bits"] = "values",
        bandwidths: Sequence[Annotated[float, Gt(0)]] | None = None,
        samples: Annotated[int, Ge(2)] | None = None,
    ) -> None:
        super().__init__()
        if space not in ("values", "bits"):
            raise ValueError(f"space is {space!r}; allowed are 'values' and 'bits'")
        if bandwidths is not None and (not bandwidths or not all(0 < s < math.inf for s in bandwidths)):
            raise ValueError(
                f"bandwidths are {list(bandwidths)}; at least one is needed and each must be positive and finite"
            )
        if samples is not None and samples < 2:
            raise ValueError(f"samples is {samples}; at least 2 are needed")
        self.space = space
        self.bandwidths = bandwidths
        self.samples = samples

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Check that the generator has bits if they are asked for, and else that its samples have a gradient."""
        if isinstance(generator, DiscreteGenerator):
            if generator.shots == 1:
                raise ValueError("MMD needs at least 2 shots of a circuit; the model has 1")
            return
        if self.space == "bits":
            raise ValueError(f"MMD on bits needs a generator over bit strings, found {type(generator).__name__}")
        check_differentiable("MMD", generator, train)

    def _scales(self, columns: int) -> list[float]:
        if self.bandwidths is not None:
            return list(self.bandwidths)
        return [scale * (columns / 2) ** 0.5 for scale in (0.25, 1.0, 4.0)]

    def needs_events(self, generator: Generator) -> bool:
        """Cells are compared by their probabilities, and ``samples`` are drawn apart."""
        return self.samples is None and not isinstance(generator, DiscreteGenerator)

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The squared MMD between the generator and the batch."""
        if isinstance(generator, DiscreteGenerator):
            return self._on_cells(generator, batch, rng)
        asked = batch
        if self.samples is not None and self.samples != len(batch):
            rows = torch.randint(len(batch), (self.samples,), generator=rng, device=rng.device)
            asked = batch.take(rows.to(batch.values.device))
        return self.on_events(generated(generator, asked, rng), batch)

    def on_events(self, events: WeightedEvents, batch: Batch) -> Tensor:
        """The squared MMD between weighted events and the batch."""
        x, y, w, n = events.joint(), batch.joint(), events.weights, events.draws
        scales = self._scales(x.shape[1])
        within, across = gaussian_mixture(x, x, scales), gaussian_mixture(x, y, scales)
        same, cross = w @ within @ w, w @ across.mean(1)
        if n is not None:
            blocks = within.reshape(n, len(w) // n, n, -1).diagonal(dim1=0, dim2=2)
            same = (same - torch.einsum("ai,ija,aj->", w.reshape(n, -1), blocks, w.reshape(n, -1))) * n / (n - 1)
        if n == len(batch):  # draw a is under the condition of true event a, which are no independent pair
            own = (w.reshape(n, -1) * across.reshape(n, -1, n).diagonal(dim1=0, dim2=2).T).sum()
            cross = (n * cross - own) / (n - 1)
        return same - 2 * cross + _mean_off_diagonal(gaussian_mixture(y, y, scales))

    def _on_cells(self, generator: DiscreteGenerator, batch: Batch, rng: torch.Generator) -> Tensor:
        cells = generator.discretiser.cell_index(batch.values)
        row, distinct = generator.distinct_conditions(batch.condition, len(batch))
        p = generator.probabilities(distinct, rng)
        weight = torch.bincount(row, minlength=len(p)).to(p) / len(batch)
        q = torch.zeros_like(p)
        one = p.new_full((len(batch),), 1 / len(batch))
        q.index_put_((row.to(p.device), cells.to(p.device)), one, accumulate=True)
        p = p * weight[:, None]
        total = p.new_zeros(())
        on_bits = self.space == "bits"
        if on_bits:  # the kernel is a product over the wires
            p, q = generator.discretiser.by_state(p), generator.discretiser.by_state(q)
        columns = generator.discretiser.n_bits if on_bits else generator.n_features + generator.n_conditions
        scales = self._scales(columns)
        for scale in scales:
            factors = self._factors(generator, scale)
            between = None if distinct is None else gaussian_mixture(distinct, distinct, [scale]).to(p)
            if generator.shots is None:
                total = total + _bilinear(p - q, p - q, factors, between)
                continue
            # a frequency meets itself once in `shots` pairs: taken out row by row, and once for the events
            # from the value alone: its slope meets the independent shots of the gradient and is unbiased as it is
            counted = p.detach()
            alone = (product_form(counted, factors) * counted).sum(1)
            same_p = _bilinear(p, p, factors, between) + ((alone - weight.square()) / (generator.shots - 1)).sum()
            same_q = (_bilinear(q, q, factors, between) * len(batch) - 1) / (len(batch) - 1)
            total = total + same_p - 2 * _bilinear(p, q, factors, between) + same_q
        return total / len(scales)

    def _factors(self, generator: DiscreteGenerator, scale: float) -> list[Tensor]:
        if self.space == "bits":
            return bit_factors(generator.discretiser.n_bits, scale)
        return value_factors(generator.discretiser.representatives(), scale)


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    n = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


def _bilinear(left: Tensor, right: Tensor, factors: Sequence[Tensor], between: Tensor | None) -> Tensor:
    """``sum_uv c(u, v) left_u K right_v``, with ``c`` the kernel between the rows' conditions."""
    applied = product_form(left, factors)
    return (applied * right).sum() if between is None else (between * (applied @ right.T)).sum()
