"""Small generators of known distribution, for tests of what is built on generators."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from qgen import DiscreteGenerator, Generator
from qgen.data import Dataset, Discretiser, Feature
from qgen.data.transforms import Transform
from qgen.random import new_generator, normal


class Affine(Generator):
    """Independent normals whose mean is linear in the condition."""

    has_log_prob = True

    def __init__(
        self,
        n_features: int,
        n_conditions: int = 0,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(n_features, n_conditions, transform, condition_transform)
        self.mean = nn.Parameter(torch.zeros(n_features, dtype=torch.float64))
        self.slope = nn.Parameter(torch.zeros(n_conditions, n_features, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(n_features, dtype=torch.float64))

    @classmethod
    def for_dataset(cls, dataset: Dataset, *, seed: int = 0) -> Self:
        return cls(dataset.n_features, dataset.n_conditions, dataset.transform, dataset.condition_transform)

    def arguments(self) -> dict[str, Any]:
        return {"n_features": self.n_features, "n_conditions": self.n_conditions}

    def _centre(self, condition: Tensor | None) -> Tensor:
        return self.mean if condition is None else self.mean + condition @ self.slope

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        noise = normal((n, self.n_features), generator, dtype=torch.float64)
        return self._centre(condition) + self.log_scale.exp() * noise

    def _log_prob(self, values: Tensor, condition: Tensor | None) -> Tensor:
        return torch.distributions.Normal(self._centre(condition), self.log_scale.exp()).log_prob(values).sum(1)


class Table(DiscreteGenerator):
    """A softmax over all cells, one row of logits for each of a few conditions (numbered from 0)."""

    def __init__(
        self,
        discretiser: Discretiser,
        n_rows: int = 0,
        shots: int | None = None,
        transform: Transform | None = None,
        condition_transform: Transform | None = None,
    ) -> None:
        super().__init__(discretiser, min(n_rows, 1), transform, condition_transform)
        self._shots = shots
        self.logits = nn.Parameter(torch.zeros(max(n_rows, 1), 2**discretiser.n_bits, dtype=torch.float64))

    @property
    def shots(self) -> int | None:
        return self._shots

    def probabilities(self, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        rows = self.logits if condition is None else self.logits[condition[:, 0].round().long()]
        exact = rows.softmax(1)
        if self.shots is None:
            return exact
        drawn = torch.multinomial(exact.detach(), self.shots, replacement=True, generator=generator)
        counts = torch.zeros_like(exact).scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        return exact + (counts / self.shots - exact).detach()

    def _sample_cells(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        exact = self.probabilities(condition, generator).expand(n, -1)
        return torch.multinomial(exact, 1, generator=generator).flatten()


def linear_events(n: int = 400, seed: int = 0) -> Dataset:
    """Two independent normals, the mean of the first linear in the condition."""
    rng = new_generator(seed)
    noise = normal((n, 2), rng, dtype=torch.float64)
    condition = normal((n, 1), rng, dtype=torch.float64)
    samples = torch.stack([3 + 2 * noise[:, 0] + condition[:, 0], 0.5 * noise[:, 1]], dim=1)
    return Dataset(samples, (Feature("a", "GeV"), Feature("b")), condition, (Feature("c", "GeV"),))
