"""``Own``: the loss that a model itself defines."""

from __future__ import annotations

import torch
from torch import Tensor

from qgen.generator import Generator
from qgen.training.objectives import Batch, Objective

__all__ = ["Own"]


class Own(Objective):
    """The loss that a model itself defines: an evidence bound, a regression of velocities, a divergence of two chains.

    For a model with ``has_own_loss`` (a variational autoencoder, flow matching, a Boltzmann machine), whose method
    ``_own_loss`` it minimises.
    """

    def prepare(self, generator: Generator, train: Batch, seed: int) -> None:
        """Refuse a model without a loss of its own."""
        if not generator.has_own_loss:
            raise ValueError(f"{type(generator).__name__} defines no loss of its own; it needs another objective")

    def loss(self, generator: Generator, batch: Batch, rng: torch.Generator) -> Tensor:
        """The model's own loss on a batch."""
        return generator._own_loss(batch.values, batch.condition, rng)
