"""Discriminators: networks that score events, real ones high, and the kinds that a configuration may name.

A package declares its kinds in its ``pyproject.toml``::

    [project.entry-points."qgen.discriminators"]
    my_discriminator = "my_package.my_module:MyDiscriminator"

after which ``discriminator: {kind: my_discriminator}`` works in configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge
from torch import Tensor, nn

from qgen.generator import WeightedEvents
from qgen.random import seeded
from qgen.text import unknown

__all__ = ["MLP", "Discriminator", "MinibatchMLP", "discriminator_class", "discriminators", "make_discriminator"]

SMALLEST_VARIANCE = 1e-8
"""Added to a variance over a batch, so that its root has a slope where all events agree."""


class Discriminator(nn.Module):
    """A score for each event under its condition, real ones high.

    A subclass implements :meth:`forward` and, to be named in a configuration, :meth:`for_events`, whose keyword
    arguments are its options. Scores must be differentiable in the weights, and for ``wasserstein-gp`` twice, in the
    events and in the weights.
    """

    @classmethod
    def for_events(cls, n_features: int, n_conditions: int, *args: Any, **options: Any) -> Self:
        """A fresh discriminator of events with these numbers of columns, its weights fixed by the option ``seed``.

        Raises:
            ValueError: it cannot take such events.
        """
        raise NotImplementedError

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        """The score of each event, ``(N,)``.

        Args:
            values: ``(N, n_features)`` in the transform's space.
            condition: ``(N, n_conditions)`` in the condition transform's space, or None.
        """
        raise NotImplementedError

    def scores(self, events: WeightedEvents) -> Tensor:
        """The score of each of some weighted events; only one that looks at a batch as a whole needs their weights."""
        found: Tensor = self(events.values, events.condition)
        return found

    def penalty(self) -> Tensor | None:
        """What a training adds to the loss of the scores since this was last asked, a scalar; nothing here."""
        return None

    def remarks(self) -> tuple[str, ...]:
        """What a training says of the discriminator itself at the end, a plain sentence each; nothing here."""
        return ()


class MLP(Discriminator):
    """A multilayer perceptron on values and conditions, LeakyReLU(0.2) between its layers.

    With ``spectral_norm`` every matrix of weights is divided by its largest singular value (1802.05957), so that the
    score changes at most as much as its inputs. The value is followed by one step of power iteration for each batch of
    training; its vectors are part of the state, so that a training that was interrupted goes on as if it had not been.

    Args:
        n_inputs: columns of values and conditions together.
        hidden: width of each hidden layer; none for a linear score.
        seed: fixes the initial weights.
        spectral_norm: whether to bound the slope of every layer by 1.

    Raises:
        ValueError: a width below 1.

    >>> MLP.for_events(3, 1, hidden=(16,))(torch.zeros(5, 3), torch.zeros(5, 1)).shape
    torch.Size([5])
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int], seed: int, spectral_norm: bool = False) -> None:
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden is {list(hidden)}; every width must be at least 1")
        layers: list[nn.Module] = []
        with seeded(seed):
            for width in hidden:
                layers += [_linear(n_inputs, width, spectral_norm), nn.LeakyReLU(0.2)]
                n_inputs = width
            self.network = nn.Sequential(*layers, _linear(n_inputs, 1, spectral_norm))

    @classmethod
    def for_events(
        cls,
        n_features: int,
        n_conditions: int,
        *,
        seed: int = 0,
        hidden: Sequence[Annotated[int, Ge(1)]] = (64, 64),
        spectral_norm: bool = False,
    ) -> Self:
        """A fresh network.

        Args:
            n_features: columns of an event.
            n_conditions: columns of a condition.
            seed: fixes the initial weights.
            hidden: width of each hidden layer; none for a linear score.
            spectral_norm: whether to divide the weights of every layer by their largest singular value.
        """
        return cls(cls._columns(n_features, n_conditions), hidden, seed, spectral_norm)

    @staticmethod
    def _columns(n_features: int, n_conditions: int) -> int:
        return n_features + n_conditions

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        """The score of each event."""
        return self._score(_beside(values, condition))

    def _score(self, inputs: Tensor) -> Tensor:
        score: Tensor = self.network(inputs.to(torch.float64)).squeeze(1)
        return score


class MinibatchMLP(MLP):
    r"""A perceptron that also sees how widely the batch spreads, so that a collapsed generator is found out at once.

    Beside its own values and condition every event carries the standard deviation of each feature over the whole batch
    (1710.10196 averages them to one number; before it 1606.03498 fed distances between the events of a batch). Weights
    of events count in the standard deviation.

    >>> model = MinibatchMLP.for_events(2, 0, hidden=())
    >>> model.network[0].in_features
    4
    """

    @staticmethod
    def _columns(n_features: int, n_conditions: int) -> int:
        return 2 * n_features + n_conditions

    def forward(self, values: Tensor, condition: Tensor | None) -> Tensor:
        """The score of each event among the others, all of the same weight."""
        weights = values.new_full((len(values),), 1 / len(values))
        return self.scores(WeightedEvents(values, weights, condition, draws=len(values)))

    def scores(self, events: WeightedEvents) -> Tensor:
        """The score of each event among the others."""
        values, weights = events.values, events.weights[:, None]
        centred = values - (weights * values).sum(0)
        variance = (weights * centred.square()).sum(0)
        if events.draws is not None and events.draws > 1:
            variance = variance * events.draws / (events.draws - 1)
        spread = (variance + SMALLEST_VARIANCE).sqrt().expand_as(values)
        return self._score(_beside(torch.cat([values, spread], dim=1), events.condition))


def _linear(n_inputs: int, n_outputs: int, spectral_norm: bool) -> nn.Module:
    layer = nn.Linear(n_inputs, n_outputs, dtype=torch.float64)
    return nn.utils.parametrizations.spectral_norm(layer) if spectral_norm else layer


def _beside(values: Tensor, condition: Tensor | None) -> Tensor:
    return values if condition is None else torch.cat([values, condition.to(values)], dim=1)


@cache
def _declared() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="qgen.discriminators")}


def discriminators() -> list[str]:
    """The kinds of discriminators that exist, sorted.

    >>> "mlp" in discriminators()
    True
    """
    return sorted(_declared())


def discriminator_class(kind: str) -> type[Discriminator]:
    """The class of a kind.

    Raises:
        ValueError: no such kind; the nearest one is suggested.

    >>> discriminator_class("mlp").__name__
    'MLP'
    """
    if kind not in _declared():
        raise ValueError(unknown("discriminator", kind, discriminators()))
    cls: type[Discriminator] = _declared()[kind].load()
    return cls


def make_discriminator(spec: Mapping[str, Any], n_features: int, n_conditions: int, seed: int) -> Discriminator:
    """A fresh discriminator from its kind and options.

    Args:
        spec: ``kind`` and the options of that kind's ``for_events``.
        n_features: columns of an event.
        n_conditions: columns of a condition.
        seed: fixes the initial weights.

    Raises:
        ValueError: an unknown kind or option, or one that cannot take such events.

    >>> make_discriminator({"kind": "mlp", "hidden": [8]}, 2, 0, seed=0).network[0].out_features
    8
    """
    options = dict(spec)
    kind = options.pop("kind", None)
    if not isinstance(kind, str):
        raise ValueError(f"discriminator has kind {kind!r}; it needs one of {', '.join(discriminators())}")
    cls = discriminator_class(kind)
    try:
        return cls.for_events(n_features, n_conditions, seed=seed, **options)
    except TypeError as error:
        raise ValueError(f"discriminator {kind}: {error}") from error
