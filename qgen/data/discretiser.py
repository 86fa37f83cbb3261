"""``Discretiser``: continuous features to the cells and bits of a discrete model, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from qgen.random import uniform

__all__ = ["Discretiser"]

_MAX_BITS = 62

Code = Literal["binary", "gray"]
Order = Literal["by-feature", "interleaved", "snake"]


class Discretiser(nn.Module):
    """Cuts each feature into ``2**bits`` cells; an event is one cell in the grid of all features.

    The flat number of a cell counts through the grid, the last feature fastest. Its bits are those of a circuit's
    wires, wire 0 first: which bit of which feature a wire holds is the ``order``, and how a feature's cells are
    written in bits the ``code``. With neither changed the bits of a cell are its flat number in binary; for the others
    :meth:`by_cell` and :meth:`by_state` bring a circuit's probabilities to the order of cells and back.

    A cell holds its lower edge, the last one also its upper edge. Values beyond the outer edges go to the outermost
    cells; :meth:`outside` tells which ones do.

    Args:
        edges: for each feature its ``2**bits + 1`` strictly increasing edges; two of a feature that has no bits.
        code: ``binary``, or ``gray`` where neighbouring cells differ in one bit.
        order: ``by-feature`` (all bits of feature 0, most significant first, then those of feature 1 ...),
            ``interleaved`` (the most significant bit of every feature, then the second ...) or ``snake``
            (interleaved, the features backwards at every second significance).

    With more than 62 bits in all, cells have no flat numbers: :meth:`indices`, :meth:`encode` and the decoding of bits
    are what is left.

    Raises:
        ValueError: edges that do not increase, a number of cells that is no power of 2, or another code or order.

    >>> event, edges = torch.tensor([[2.5, 15.0]]), [[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 10.0, 20.0]]
    >>> cells = Discretiser(edges)
    >>> cells.encode(event).tolist(), cells.cell_index(event).tolist()
    ([[1, 0, 1]], [5])
    >>> Discretiser(edges, code="gray", order="interleaved").encode(event).tolist()
    [[1, 1, 1]]
    """

    def __init__(self, edges: Sequence[Sequence[float]], code: Code = "binary", order: Order = "by-feature") -> None:
        super().__init__()
        for name, value, allowed in (("code", code, get_args(Code)), ("order", order, get_args(Order))):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
        if not edges:
            raise ValueError("edges are empty; at least one feature is needed")
        bits = []
        for i, feature in enumerate(edges):
            cells = len(feature) - 1
            if cells < 1 or cells & (cells - 1):
                raise ValueError(f"feature {i} has {cells} cells; a power of 2 is needed")
            values = torch.tensor(list(feature), dtype=torch.float64)
            if not torch.isfinite(values).all() or any(a >= b for a, b in pairwise(feature)):
                raise ValueError(f"edges of feature {i} must be finite and strictly increasing")
            bits.append(cells.bit_length() - 1)
            self.register_buffer(f"edges_{i}", values)
        self.bits = tuple(bits)
        self.code = code
        self.order = order

    @classmethod
    def fit(
        cls,
        values: Tensor,
        bits: int | Sequence[int] = 2,
        edges: Literal["linear", "quantile"] = "quantile",
        tails: float = 0.0,
        code: Code = "binary",
        order: Order = "by-feature",
        numbered: bool = True,
    ) -> Self:
        """Edges from the smallest to the largest value of each feature, or closer in.

        Args:
            values: ``(N, n_features)``.
            bits: of every feature, or of each.
            edges: ``linear`` for cells of equal width; ``quantile`` for cells with equally many *distinct* values, so
                that a value that occurs very often (an empty pixel) does not take several cells.
            tails: share of the distinct values that lie beyond the outer edges on either side. They go to the
                outermost cells, which are then not stretched to the most extreme event: cells are uniform inside, so
                a few per mille here often lose much less than they cut off.
            code: as in the class.
            order: as in the class.
            numbered: whether cells must have flat numbers, which at most 62 bits allow.

        Raises:
            ValueError: a value that is not finite (row and feature named), a constant feature, or one with too few
                distinct values for its bits, or too many bits.
        """
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(
                f"values have shape {tuple(values.shape)}; expected (N, n_features) and at least one event"
            )
        if edges not in ("linear", "quantile"):
            raise ValueError(f"edges is {edges!r}; allowed are 'linear' and 'quantile'")
        if not 0.0 <= tails < 0.5:
            raise ValueError(f"tails is {tails}; it is a share, at least 0 and below 0.5")
        n_features = values.shape[1]
        each = [bits] * n_features if isinstance(bits, int) else list(bits)
        if len(each) != n_features:
            raise ValueError(f"bits has {len(each)} entries for {n_features} features; one each, or one for all")
        for i, b in enumerate(each):
            if not 1 <= b <= 20:
                raise ValueError(f"bits of feature {i} is {b}; allowed are 1 to 20")
        if numbered and sum(each) > _MAX_BITS:
            raise ValueError(f"{sum(each)} bits in all; at most {_MAX_BITS} can be numbered")
        values = _finite(values)
        return cls([_fitted_edges(values[:, i], i, b, edges, tails) for i, b in enumerate(each)], code, order)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.bits)

    @property
    def n_bits(self) -> int:
        """Number of bits of an event, all features together."""
        return sum(self.bits)

    @property
    def n_cells(self) -> int:
        """Number of cells of the grid, ``2**n_bits``."""
        self._check_numbered()
        return 1 << self.n_bits

    @property
    def edges(self) -> list[Tensor]:
        """The edges of each feature, ``2**bits + 1`` increasing numbers."""
        return [self.get_buffer(f"edges_{i}") for i in range(self.n_features)]

    def indices(self, values: Tensor) -> Tensor:
        """The cell of each feature, counted from 0: ``(N, n_features)`` to int64 of the same shape.

        Raises:
            ValueError: another number of features, or a value that is not finite (row and feature named).
        """
        values = _finite(self._check(values))
        columns = [
            torch.bucketize(values[:, i].contiguous(), edges[1:-1], right=True) for i, edges in enumerate(self.edges)
        ]
        return torch.stack(columns, dim=1)

    def outside(self, values: Tensor) -> Tensor:
        """Which values lie beyond the outer edges and so are assigned to the outermost cells, ``(N, n_features)`` bool.

        >>> Discretiser([[0.0, 1.0, 2.0]]).outside(torch.tensor([[-0.1], [2.0], [2.1]])).sum(0).tolist()
        [2]
        """
        values = self._check(values)
        low = torch.stack([edges[0] for edges in self.edges])
        high = torch.stack([edges[-1] for edges in self.edges])
        return (values < low) | (values > high)

    def cell_index(self, values: Tensor) -> Tensor:
        """The flat number of each event's cell, int64, shape ``(N,)``; arguments and errors as :meth:`indices`."""
        return self.flatten(self.indices(values))

    def encode(self, values: Tensor) -> Tensor:
        """The bits of each event's cell, uint8, shape ``(N, n_bits)``, wire 0 first; errors as :meth:`indices`."""
        return self.indices_to_bits(self.indices(values))

    def flatten(self, indices: Tensor) -> Tensor:
        """Cells of each feature ``(N, n_features)`` to flat numbers ``(N,)``."""
        self._check_numbered()
        flat = torch.zeros_like(indices[:, 0])
        for i, b in enumerate(self.bits):
            flat = (flat << b) | indices[:, i]
        return flat

    def unflatten(self, cells: Tensor) -> Tensor:
        """Flat numbers ``(N,)`` to cells of each feature ``(N, n_features)``."""
        columns = []
        shift = self.n_bits
        for b in self.bits:
            shift -= b
            columns.append((cells >> shift) & ((1 << b) - 1))
        return torch.stack(columns, dim=1)

    @property
    def wires(self) -> list[tuple[int, int]]:
        """For each bit of an event, wire 0 first: its feature, and its significance in it from 0, the highest.

        >>> Discretiser([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 10.0, 20.0]], order="interleaved").wires
        [(0, 0), (1, 0), (0, 1)]
        """
        wires = [(feature, place) for feature, b in enumerate(self.bits) for place in range(b)]
        if self.order == "by-feature":
            return wires
        back = self.order == "snake"
        return sorted(wires, key=lambda wire: (wire[1], -wire[0] if back and wire[1] % 2 else wire[0]))

    def to_bits(self, cells: Tensor) -> Tensor:
        """Flat numbers ``(N,)`` to the bits of the wires ``(N, n_bits)``, uint8."""
        return self.indices_to_bits(self.unflatten(cells))

    def indices_to_bits(self, indices: Tensor) -> Tensor:
        """Cells of each feature ``(N, n_features)`` to the bits of the wires ``(N, n_bits)``, uint8."""
        codes = indices
        if self.code == "gray":
            codes = codes ^ (codes >> 1)
        columns = [(codes[:, feature] >> (self.bits[feature] - 1 - place)) & 1 for feature, place in self.wires]
        return torch.stack(columns, dim=1).to(torch.uint8)

    def from_bits(self, bits: Tensor) -> Tensor:
        """Bits of the wires ``(N, n_bits)`` to flat numbers ``(N,)``."""
        return self.flatten(self.bits_to_indices(bits))

    def bits_to_indices(self, bits: Tensor) -> Tensor:
        """Bits of the wires ``(N, n_bits)`` to cells of each feature ``(N, n_features)``.

        >>> cells = Discretiser([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 10.0, 20.0]], code="gray")
        >>> cells.bits_to_indices(torch.tensor([[1, 0, 1]])).tolist()
        [[3, 1]]
        """
        position = {wire: i for i, wire in enumerate(self.wires)}
        columns = []
        for feature, b in enumerate(self.bits):
            cells = bit = torch.zeros(len(bits), dtype=torch.int64, device=bits.device)
            for place in range(b):
                column = bits[:, position[feature, place]].to(torch.int64)
                # a bit of a Gray code says whether the cell's binary digit differs from the one before
                bit = bit ^ column if self.code == "gray" else column
                cells = (cells << 1) | bit
            columns.append(cells)
        return torch.stack(columns, dim=1)

    def by_cell(self, probabilities: Tensor) -> Tensor:
        """Probabilities ``(..., n_cells)`` of a circuit's basis states, wire 0 most significant, in order of cells."""
        states = self._states
        return probabilities if states is None else probabilities[..., states.to(probabilities.device)]

    def by_state(self, probabilities: Tensor) -> Tensor:
        """The inverse of :meth:`by_cell`."""
        states = self._states
        return probabilities if states is None else probabilities[..., states.argsort().to(probabilities.device)]

    def from_states(self, states: Tensor) -> Tensor:
        """Numbers of basis states, wire 0 most significant, to flat numbers of cells, both ``(N,)``.

        >>> Discretiser([[0.0, 1.0, 2.0, 3.0, 4.0]], code="gray").from_states(torch.arange(4)).tolist()
        [0, 1, 3, 2]
        """
        of_cell = self._states
        return states if of_cell is None else of_cell.argsort().to(states.device)[states]

    @cached_property
    def _states(self) -> Tensor | None:
        """The basis state of each cell; None where they are numbered alike."""
        if self.code == "binary" and self.order == "by-feature":
            return None
        bits = self.to_bits(torch.arange(self.n_cells)).to(torch.int64)
        return bits @ (1 << torch.arange(self.n_bits - 1, -1, -1))

    def decode(self, cells: Tensor, generator: torch.Generator) -> Tensor:
        """A value drawn uniformly within each cell.

        Args:
            cells: flat cell numbers ``(N,)``, or bits ``(N, n_bits)``.
            generator: source of randomness.

        Returns:
            ``(N, n_features)`` float64.

        Raises:
            ValueError: another shape, cell numbers out of range, or bits other than 0 and 1.
        """
        if cells.ndim == 2 and cells.shape[1] == self.n_bits:
            if len(cells) and not ((cells == 0) | (cells == 1)).all():
                raise ValueError("bits must be 0 or 1")
            return self._within(self.bits_to_indices(cells), generator)
        if cells.ndim != 1 or cells.is_floating_point():
            raise ValueError(
                f"cells have shape {tuple(cells.shape)} and type {cells.dtype}; expected (N,) integers or "
                f"(N, {self.n_bits}) bits"
            )
        cells = cells.to(torch.int64)
        if len(cells) and not 0 <= int(cells.min()) <= int(cells.max()) < self.n_cells:
            raise ValueError(f"cell numbers are {int(cells.min())} to {int(cells.max())}; {self.n_cells} cells exist")
        return self._within(self.unflatten(cells), generator)

    def _within(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self._bounds(indices)
        fraction = uniform(tuple(low.shape), generator, dtype=torch.float64, device=low.device)
        # rounding must not carry a value into the next cell
        return torch.minimum(low + fraction * (high - low), torch.nextafter(high, low))

    def roundtrip(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Values through their cells and back: the best that any model on these cells can do, ``(N, n_features)``."""
        return self._within(self.indices(values), generator)

    def log_volume(self, cells: Tensor) -> Tensor:
        """Logarithm of the product of the widths of each cell, flat numbers ``(N,)`` or indices to ``(N,)``."""
        low, high = self._bounds(cells if cells.ndim == 2 else self.unflatten(cells))
        return (high - low).log().sum(1)

    def representatives(self) -> list[Tensor]:
        """For each feature the middle of each of its cells, ``2**bits`` numbers."""
        return [0.5 * (edges[:-1] + edges[1:]) for edges in self.edges]

    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        return {"edges": [edges.tolist() for edges in self.edges], "code": self.code, "order": self.order}

    def spec(self) -> dict[str, Any]:
        """``{"kind": "Discretiser", "arguments": {...}}``, JSON values only."""
        return {"kind": type(self).__name__, "arguments": self.arguments()}

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """The discretiser that :meth:`spec` describes.

        Raises:
            ValueError: the description is of something else.
        """
        if spec.get("kind") != cls.__name__:
            raise ValueError(f"kind is {spec.get('kind')!r}; expected {cls.__name__!r}")
        return cls(**spec["arguments"])

    def _bounds(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.stack([edges[:-1][indices[:, i]] for i, edges in enumerate(self.edges)], dim=1)
        high = torch.stack([edges[1:][indices[:, i]] for i, edges in enumerate(self.edges)], dim=1)
        return low, high

    def _check_numbered(self) -> None:
        if self.n_bits > _MAX_BITS:
            raise ValueError(f"{self.n_bits} bits in all; at most {_MAX_BITS} can be numbered")

    def _check(self, values: Tensor) -> Tensor:
        if values.ndim != 2 or values.shape[1] != self.n_features:
            raise ValueError(f"values have shape {tuple(values.shape)}; expected (N, {self.n_features})")
        return values.to(torch.float64)


def _finite(values: Tensor) -> Tensor:
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        row, feature = bad[0].tolist()
        raise ValueError(f"values row {row}, feature {feature}: {values[row, feature]} is not finite")
    return values.to(torch.float64)


def _fitted_edges(values: Tensor, feature: int, bits: int, kind: str, tails: float) -> list[float]:
    distinct = torch.unique(values)
    if len(distinct) < 2:
        raise ValueError(f"feature {feature} is constant ({distinct[0]:g}); it cannot be cut into cells")
    beyond = min(int(tails * len(distinct)), (len(distinct) - 2) // 2)
    distinct = distinct[beyond : len(distinct) - beyond]
    if kind == "linear":
        edges = torch.linspace(0.0, 1.0, 2**bits + 1, dtype=torch.float64)
        edges = distinct[0] * (1 - edges) + distinct[-1] * edges
    else:
        at = torch.linspace(0.0, len(distinct) - 1.0, 2**bits + 1, dtype=torch.float64)
        below = at.floor().long().clamp_max(len(distinct) - 2)
        edges = torch.lerp(distinct[below], distinct[below + 1], at - below)
    edges[0], edges[-1] = distinct[0], distinct[-1]
    if not (edges.diff() > 0).all():
        raise ValueError(f"feature {feature} has too few distinct values ({len(distinct)}) for {bits} bits")
    return [float(edge) for edge in edges]
