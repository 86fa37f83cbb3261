"""Optimisers and schedules by their names, for every player of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import nn

__all__ = ["OPTIMISERS", "OptimiserName", "ScheduleName", "make_optimiser", "set_rates"]

OptimiserName = Literal["adam", "adadelta", "rmsprop", "sgd"]
ScheduleName = Literal["constant", "cosine"]

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def make_optimiser(
    name: OptimiserName,
    parameters: Iterable[nn.Parameter],
    rate: float,
    betas: tuple[float, float],
    schedule: ScheduleName | None = None,
) -> torch.optim.Optimizer:
    """An optimiser whose rate :func:`set_rates` moves.

    Args:
        name: which one.
        parameters: what it moves; those that ask for no gradient are left out.
        rate: its learning rate at the start.
        betas: of Adam, ignored by the others.
        schedule: its own; that of the training if not given.
    """
    options = {"betas": tuple(betas)} if name == "adam" else {}
    optimiser = OPTIMISERS[name]([p for p in parameters if p.requires_grad], lr=rate, **options)
    for group in optimiser.param_groups:
        group["initial_lr"] = rate
        group["schedule"] = schedule
    return optimiser


def set_rates(optimisers: Iterable[torch.optim.Optimizer], schedule: str, done: float) -> None:
    """Set the learning rates for a step.

    Args:
        optimisers: from :func:`make_optimiser`.
        schedule: of those that have none of their own; ``cosine`` goes to zero at the end.
        done: share of the training that lies behind.

    >>> weight = nn.Parameter(torch.zeros(1))
    >>> own = make_optimiser("sgd", [weight], 0.1, (0.9, 0.99), "constant")
    >>> shared = make_optimiser("sgd", [weight], 0.1, (0.9, 0.99))
    >>> set_rates([own, shared], "cosine", 0.5)
    >>> own.param_groups[0]["lr"], shared.param_groups[0]["lr"]
    (0.1, 0.05)
    """
    factors = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factors[group["schedule"] or schedule]
