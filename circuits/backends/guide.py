"""Numbers drawn from many probabilities by a guide table: a bucketed inverse of the cumulative distribution.

The compiled half of :mod:`circuits.backends.draws`, imported only when there is much to draw.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from circuits.backends.compiled import compiled

__all__ = ["invert"]

_NARROW = 8


@compiled
def invert(cumulative: Any, uniform: Any, states: Any, table: Any) -> None:
    """For each uniform number the first state whose cumulative probability is above it.

    Args:
        cumulative: ``(rows, size)`` float64, not decreasing; the last column is the total.
        uniform: ``(rows, shots)`` float64 in ``[0, 1)``, a fraction of the total.
        states: ``(rows, shots)`` int32, written.
        table: ``(buckets + 1,)`` int32 scratch, a power of two of buckets.
    """
    rows, size = cumulative.shape
    buckets = len(table) - 1
    for row in range(rows):
        edges = cumulative[row]
        total = edges[size - 1]
        limit = np.nextafter(total, 0.0)
        state = 0
        for bucket in range(buckets):
            edge = (bucket / buckets) * total
            while state < size - 1 and edges[state] <= edge:
                state += 1
            table[bucket] = state
        table[buckets] = size - 1
        for shot in range(uniform.shape[1]):
            fraction = uniform[row, shot]
            value = min(fraction * total, limit)
            bucket = int(fraction * buckets)
            state = table[bucket]
            state += edges[state] <= value  # nearly always enough, and no branch to guess
            state += edges[state] <= value
            if edges[state] <= value:
                last = table[bucket + 1]
                while last - state > _NARROW:
                    middle = (state + last) >> 1
                    if edges[middle] <= value:
                        state = middle + 1
                    else:
                        last = middle
                while edges[state] <= value:
                    state += 1
            states[row, shot] = state
