"""A weighted sum of objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qgen.generator import Generator
from qgen.training.objectives import Batch, EventObjective, Objective, descend, generated

__all__ = ["Mixture"]


class Mixture(Objective):
    """A weighted sum of objectives; those that look at events share the same ones in every step.

    At most one of them may learn something itself (an adversarial one). A record holds the value of each part under its
    name, before its weight.

    Args:
        parts: for each its ``kind`` with its options and a ``weight`` (1 if not given); or pairs of an objective and
            its weight.

    Raises:
        ValueError: no part, an unknown kind, a weight that is not positive and finite, or two adversarial parts.

    >>> mixture = Mixture([{"kind": "mmd"}, {"kind": "correlation", "weight": 0.1}])
    >>> [(type(part).__name__, weight) for part, weight in zip(mixture.parts, mixture.weights)]
    [('MMD', 1.0), ('Correlation', 0.1)]
    """

    def __init__(self, parts: Sequence[Mapping[str, Any] | tuple[Objective, float]]) -> None:
        super().__init__()
        pairs = [_built(place, part) for place, part in enumerate(parts)]
        if not pairs:
            raise ValueError("parts are empty; a mixture needs at least one")
        self.parts = nn.ModuleList(part for part, _ in pairs)
        self.weights = tuple(weight for _, weight in pairs)
        kinds = [type(part).__name__.lower() for part in self._parts]
        if kinds.count("adversarial") > 1:
            raise ValueError("parts hold two adversarial objectives; at most one is allowed")
        self.names = tuple(
            kind if kinds.count(kind) == 1 else f"{kind}_{kinds[: place + 1].count(kind)}"
            for place, kind in enumerate(kinds)
        )

    @property
    def _parts(self) -> list[Objective]:
        return [part for part in self.parts if isinstance(part, Objective)]

    def settings(self) -> dict[str, Any]:
        """Those of every part, with its weight."""
        parts = [{**part.settings(), "weight": w} for part, w in zip(self._parts, self.weights, strict=True)]
        return {"kind": type(self).__name__, "parts": parts}

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Prepare every part."""
        for part in self._parts:
            part.prepare(generator, train, seed)

    def terms(self, generator: Generator, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """The loss of each part, before its weight."""
        sharing = [isinstance(part, EventObjective) and part.needs_events(generator) for part in self._parts]
        events = generated(generator, batch, rng) if any(sharing) else None
        return {
            name: part.on_events(events, batch)
            if events is not None and shares and isinstance(part, EventObjective)
            else part.loss(generator, batch, rng)
            for name, part, shares in zip(self.names, self._parts, sharing, strict=True)
        }

    def _sum(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([weight * term for weight, term in zip(self.weights, terms.values(), strict=True)]).sum()

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The weighted sum."""
        return self._sum(self.terms(generator, batch, rng))

    def validation_loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The weighted sum of what each part compares states by."""
        return self._sum(
            {
                name: part.validation_loss(generator, batch, rng)
                for name, part in zip(self.names, self._parts, strict=True)
            }
        )

    def play(
        self, generator: Generator, batch: Batch, optimisers: dict[str, torch.optim.Optimizer], rng: torch.Generator
    ) -> dict[str, float]:
        """What the parts themselves learn."""
        numbers: dict[str, float] = {}
        for part in self._parts:
            numbers |= part.play(generator, batch, optimisers, rng)
        return numbers

    def step(
        self,
        generator: Generator,
        batch: Batch,
        optimisers: dict[str, torch.optim.Optimizer],
        rng: torch.Generator,
        clip: float | None,
    ) -> dict[str, float]:
        """One step down the weighted sum, with the value of each part to record."""
        numbers = self.play(generator, batch, optimisers, rng)
        terms = self.terms(generator, batch, rng)
        loss = self._sum(terms)
        descend(optimisers["generator"], loss, clip)
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}, **numbers}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Those of the parts."""
        found: dict[str, torch.optim.Optimizer] = {}
        for part in self._parts:
            found |= part.optimisers()
        return found

    def remarks(self, history: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(remark for part in self._parts for remark in part.remarks(history))


def _built(place: int, part: Mapping[str, Any] | tuple[Objective, float]) -> tuple[Objective, float]:
    from qgen.training import OBJECTIVES  # which lists this class too

    if isinstance(part, Mapping):
        options = dict(part)
        kind, weight = options.pop("kind", None), options.pop("weight", 1.0)
        if kind not in OBJECTIVES:
            raise ValueError(f"parts.{place}.kind is {kind!r}; allowed are {', '.join(OBJECTIVES)}")
        objective = OBJECTIVES[kind](**options)
    else:
        objective, weight = part
    if isinstance(objective, Mixture):
        raise ValueError(f"parts.{place} is a mixture itself; write its parts here")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f"parts.{place}.weight is {weight!r}; it must be positive and finite")
    return objective, float(weight)
