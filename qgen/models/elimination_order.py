"""Orders in which the vertices of a graph are taken out, such that few are half done at any time.

A vertex is in the *front* from the time a neighbour is taken out until it is itself. The size of the largest front,
with the vertex whose turn it is, is the width of an order; the least width is the graph's path width plus one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

__all__ = ["elimination_order"]

WIDEST_TREE = 64
"""Vertices of a tree decomposition's bag beyond which it is not followed."""


def elimination_order(neighbours: Sequence[Sequence[int]]) -> tuple[list[int], int, float]:
    """An order of the vertices of a graph with small fronts, its width, and the numbers of all fronts together.

    The best of: the given order; several in which the next vertex is one that adds least to the front; and one from the
    leaves to the root of a tree decomposition, in which graphs of small tree width have small fronts.

    Args:
        neighbours: of each vertex, without itself.

    >>> elimination_order([[1], [0, 2], [1, 3], [2]])
    ([0, 1, 2, 3], 2, 14.0)
    """
    n = len(neighbours)
    rows = [np.array(row, dtype=np.int64) for row in neighbours]
    rng = np.random.default_rng(0)
    orders = [list(range(n)), *([by_tree] if (by_tree := _from_leaves(neighbours)) else [])]
    orders += [_greedy(rows, int(rng.integers(n)), _TIES[k % 3], rng) for k in range(max(6, min(24, 24_000 // n)))]
    widths = [_widths(neighbours, order) for order in orders]
    updates = [sum(2.0**width for width in of_order) for of_order in widths]
    best = min(range(len(orders)), key=updates.__getitem__)
    return orders[best], max(widths[best]), updates[best]


_TIES = ("oldest", "newest", "any")


def _greedy(neighbours: Sequence[np.ndarray], start: int, tie: str, rng: np.random.Generator) -> list[int]:
    """An order in which the next vertex adds least to the front; of several the oldest in it, the newest, or any."""
    n = len(neighbours)
    adds = np.array([len(row) for row in neighbours])  # to the front, were the vertex next
    never = n if tie == "oldest" else -1
    joined = np.full(n, never)  # when the vertex came to the front
    chance = rng.random(n)
    left = np.ones(n, bool)
    order: list[int] = []
    vertex = start
    while True:
        for one in (vertex, *neighbours[vertex]):
            if left[one] and joined[one] == never:
                joined[one] = len(order)
                adds[neighbours[one]] -= 1
                adds[one] -= 1  # it leaves the front when it is done
        order.append(vertex)
        left[vertex] = False
        if len(order) == n:
            return order
        last = chance if tie == "any" else (joined if tie == "oldest" else -joined) / (n + 2)
        vertex = int(np.where(left, adds + last, np.inf).argmin())


def _from_leaves(neighbours: Sequence[Sequence[int]]) -> list[int] | None:
    """An order from the leaves of a tree decomposition to its root; None where the tree is too wide to matter.

    Vertices of least degree are taken out first, their neighbours joined. The branches at a vertex come one after the
    other, the one that takes most beyond what it leaves first, as registers are allotted to the parts of a formula.
    """
    links = [set(row) for row in neighbours]
    queue = [(len(row), vertex) for vertex, row in enumerate(links)]
    heapq.heapify(queue)
    place: dict[int, int] = {}
    above: dict[int, set[int]] = {}
    while queue:
        degree, vertex = heapq.heappop(queue)
        if vertex in place or degree != len(links[vertex]):
            continue
        if degree > WIDEST_TREE:
            return None
        place[vertex] = len(place)
        above[vertex] = links[vertex]
        for one in above[vertex]:
            links[one] |= above[vertex]
            links[one] -= {one, vertex}
            heapq.heappush(queue, (len(links[one]), one))
    branches: dict[int, list[int]] = {vertex: [] for vertex in place}
    most: dict[int, int] = {}
    for vertex in place:
        branches[vertex].sort(key=lambda one: len(above[one]) - most[one])
        kept, most[vertex] = 0, len(above[vertex]) + 1
        for one in branches[vertex]:
            most[vertex] = max(most[vertex], kept + most[one])
            kept += len(above[one])
        if above[vertex]:
            branches[min(above[vertex], key=place.__getitem__)].append(vertex)
    backwards: list[int] = []
    stack = [vertex for vertex in place if not above[vertex]]
    while stack:
        vertex = stack.pop()
        backwards.append(vertex)
        stack += branches[vertex]
    return backwards[::-1]


def _widths(neighbours: Sequence[Sequence[int]], order: Sequence[int]) -> list[int]:
    """Qubits of the front at every step, the one whose turn it is among them."""
    front: set[int] = set()
    done: set[int] = set()
    widths = []
    for vertex in order:
        front.add(vertex)
        front.update(one for one in neighbours[vertex] if one not in done)
        widths.append(len(front))
        front.discard(vertex)
        done.add(vertex)
    return widths
