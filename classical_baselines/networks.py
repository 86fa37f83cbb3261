"""Fully connected networks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

__all__ = ["perceptron"]


def perceptron(n_inputs: int, hidden: Sequence[int], n_outputs: int) -> nn.Sequential:
    """Linear layers in float64 with LeakyReLU(0.2) between them, initialised from torch's global generator.

    >>> sum(p.numel() for p in perceptron(3, (8, 8), 2).parameters())
    122
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((n_inputs, *hidden, n_outputs)):
        layers += [nn.Linear(n_in, n_out, dtype=torch.float64), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])
