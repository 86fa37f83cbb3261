"""Squared distances between the events of two samples, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["parts_of_squared_distances", "squared_distances"]

CHUNK = 4_000_000
"""Distances that are computed at a time."""
EQUAL = 1e-13
"""Of the sum of both events' squares: a squared distance up to that is rounding (up to 1e-14 with 15,625 columns)."""


def parts_of_squared_distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of events ``(n, d)`` from events ``(m, d)``, some rows of the ``(n, m)`` at a time.

    Events that are equal up to rounding have distance 0.
    """
    squares = (b * b).sum(1)
    step = max(1, CHUNK // max(1, len(b)))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        both = (a[rows] * a[rows]).sum(1)[:, None] + squares
        squared = torch.addmm(both, a[rows], b.T, alpha=-2)
        yield rows, squared.masked_fill_(squared <= both.mul_(EQUAL), 0)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """All of them at once, ``(n, m)``; beyond that no more memory than for a part.

    >>> squared_distances(torch.tensor([[0.0], [0.1]]), torch.tensor([[3.0], [0.1]]))
    tensor([[9.0000, 0.0100],
            [8.4100, 0.0000]])
    """
    if 0 < len(a) * len(b) <= CHUNK:
        return next(part for _, part in parts_of_squared_distances(a, b))
    found = a.new_empty(len(a), len(b))
    for rows, part in parts_of_squared_distances(a, b):
        found[rows] = part
    return found
