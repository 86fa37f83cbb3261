"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["beside", "perceptron"]


def leaky() -> nn.Module:
    """LeakyReLU(0.2), usual in adversarial games (1511.06434)."""
    return nn.LeakyReLU(0.2)


def perceptron(
    n_inputs: int, hidden: Sequence[int], n_outputs: int, activation: Callable[[], nn.Module] = leaky
) -> nn.Sequential:
    """Linear layers in float64 with activations between them, initialised from torch's global generator.

    >>> sum(p.numel() for p in perceptron(3, (8, 8), 2).parameters())
    122
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((n_inputs, *hidden, n_outputs)):
        layers += [nn.Linear(n_in, n_out, dtype=torch.float64), activation()]
    return nn.Sequential(*layers[:-1])


def beside(values: Tensor, condition: Tensor | None) -> Tensor:
    """Values ``(n, k)`` with their conditions beside them, in the values' precision."""
    return values if condition is None else torch.cat([values, condition.to(values)], dim=1)
