"""Networks of a wanted size, so that a comparison with a small circuit is a comparison at equal size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

__all__ = ["TOLERANCE", "closest_size", "closest_width", "mlp_size"]

TOLERANCE = 0.1
"""A model asked for ``n_parameters`` has that number of parameters within this relative difference."""

T = TypeVar("T")


def mlp_size(n_inputs: int, hidden: Sequence[int], n_outputs: int) -> int:
    """Weights and biases of a fully connected network.

    >>> mlp_size(3, (8, 8), 2)
    122
    """
    widths = (n_inputs, *hidden, n_outputs)
    return sum((a + 1) * b for a, b in pairwise(widths))


def closest_width(size: Callable[[int], int], target: int, smallest: int = 1) -> int:
    """The width from ``smallest`` up whose ``size``, which grows with the width, is closest to ``target``.

    >>> closest_width(lambda width: width**2, 30)
    5
    """
    low, high = smallest, smallest
    while size(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return min(low, high, key=lambda width: abs(size(width) - target))


def closest_size(candidates: Iterable[tuple[T, int]], target: int, what: str) -> T:
    """The first architecture within 5 % of the target, else the closest one.

    Args:
        candidates: architectures with their numbers of parameters, the preferred ones first.
        target: the wanted number of parameters.
        what: names the model in the error.

    Raises:
        ValueError: none is within 10 %; the closest size is named.

    >>> closest_size([("deep", 500), ("shallow", 205), ("linear", 201)], 200, "model")
    'shallow'
    """
    sizes = []
    for architecture, size in candidates:
        if abs(size - target) <= TOLERANCE / 2 * target:
            return architecture
        sizes.append((architecture, size))
    architecture, size = min(sizes, key=lambda pair: abs(pair[1] - target))
    if abs(size - target) > TOLERANCE * target:
        raise ValueError(
            f"n_parameters is {target}; the closest size of {what} is {size} parameters (a difference of "
            f"{TOLERANCE:.0%} is allowed)"
        )
    return architecture
