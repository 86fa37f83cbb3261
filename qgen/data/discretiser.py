"""``Discretiser``: continuous features to the cells and bits of a discrete model, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from qgen.random import uniform

__all__ = ["Code", "Discretiser", "Order"]

_MAX_BITS = 62

Code = Literal["binary", "gray", "unary"]
Order = Literal["by-feature", "interleaved", "snake"]


class Discretiser(nn.Module):
    """Cuts each feature into cells; an event is one cell in the grid of all features.

    The flat number of a cell counts through the grid, the last feature fastest. Its bits are those of a circuit's
    wires, wire 0 first: which bit of which feature a wire holds is the ``order``, and how a feature's cells are
    written in bits the ``code``. With neither changed the bits of a cell are its flat number in binary; for the others
    :meth:`by_cell` and :meth:`by_state` bring a circuit's probabilities to the order of cells and back.

    In the codes ``binary`` and ``gray`` every bit string is a cell: ``2**bits`` cells. In ``unary``, a thermometer,
    ``bits + 1`` cells have a bit for each of the edges between them, which is 1 where the value has reached the edge:
    the ones come first. A string in which they do not is no code of a cell; it is read as the cell of that many ones.

    A cell holds its lower edge, the last one also its upper edge. Values beyond the outer edges go to the outermost
    cells; :meth:`outside` tells which ones do.

    Args:
        edges: for each feature its strictly increasing edges, one more than cells; two of a feature that has no bits.
        code: ``binary``, ``gray`` where neighbouring cells differ in one bit, or ``unary``.
        order: ``by-feature`` (all bits of feature 0, most significant first, then those of feature 1 ...),
            ``interleaved`` (the most significant bit of every feature, then the second ...) or ``snake``
            (interleaved, the features backwards at every second significance). The bit of the lowest edge counts as
            the most significant one of a unary code.

    With more than 2^62 cells in all, cells have no flat numbers: :meth:`indices`, :meth:`encode` and the decoding of
    bits are what is left.

    Raises:
        ValueError: edges that do not increase, a number of cells that is no power of 2 where the code is not unary, or
            another code or order.

    >>> event, edges = torch.tensor([[2.5, 15.0]]), [[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 10.0, 20.0]]
    >>> cells = Discretiser(edges)
    >>> cells.encode(event).tolist(), cells.cell_index(event).tolist()
    ([[1, 0, 1]], [5])
    >>> Discretiser(edges, code="gray", order="interleaved").encode(event).tolist()
    [[1, 1, 1]]
    >>> Discretiser(edges, code="unary").encode(event).tolist()
    [[1, 1, 0, 1]]
    """

    _inner: Tensor

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
            if cells < 1 or (code != "unary" and cells & (cells - 1)):
                needed = "at least 1" if code == "unary" else "a power of 2"
                raise ValueError(f"feature {i} has {cells} cells; {needed} is needed")
            values = torch.tensor(list(feature), dtype=torch.float64)
            numbers = values.tolist()
            if not all(map(math.isfinite, numbers)) or any(a >= b for a, b in pairwise(numbers)):
                raise ValueError(f"edges of feature {i} must be finite and strictly increasing")
            bits.append(cells - 1 if code == "unary" else cells.bit_length() - 1)
            self.register_buffer(f"edges_{i}", values)
        self.bits = tuple(bits)
        self.cells = tuple(len(feature) - 1 for feature in edges)
        self.code = code
        self.order = order
        self.register_buffer("_inner", self._padded_inner(), persistent=False)

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
            bits: of every feature, or of each; ``bits + 1`` cells in a unary code, else ``2**bits``.
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
        if numbered:
            _check_numbered(sum(each), math.prod(_n_cells(b, code) for b in each))
        columns = _finite(values).T.contiguous()
        return cls([_fitted_edges(columns[i], i, b, code, edges, tails) for i, b in enumerate(each)], code, order)

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
        """Number of cells of the grid, ``2**n_bits`` where every bit string is a cell."""
        cells = math.prod(self.cells)
        _check_numbered(self.n_bits, cells)
        return cells

    @property
    def one_to_one(self) -> bool:
        """Whether every bit string is the code of a cell: not with a unary code of more than one bit for a feature."""
        return self.code != "unary" or max(self.bits) <= 1

    @property
    def edges(self) -> list[Tensor]:
        """The edges of each feature, increasing numbers, one more than cells."""
        return [self.get_buffer(f"edges_{i}") for i in range(self.n_features)]

    def indices(self, values: Tensor) -> Tensor:
        """The cell of each feature, counted from 0: ``(N, n_features)`` to int64 of the same shape.

        Raises:
            ValueError: another number of features, or a value that is not finite (row and feature named).
        """
        values = _finite(self._check(values))
        return torch.searchsorted(self._inner, values.T.contiguous(), right=True).T.contiguous()

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
        _check_numbered(self.n_bits, math.prod(self.cells))
        flat = torch.zeros_like(indices[:, 0])
        for i, cells in enumerate(self.cells):
            flat = flat * cells + indices[:, i]
        return flat

    def unflatten(self, cells: Tensor) -> Tensor:
        """Flat numbers ``(N,)`` to cells of each feature ``(N, n_features)``."""
        columns = []
        for n in reversed(self.cells):
            columns.append(cells % n)
            cells = cells // n
        return torch.stack(columns[::-1], dim=1)

    @property
    def wires(self) -> list[tuple[int, int]]:
        """For each bit of an event, wire 0 first: its feature, and its significance in it from 0, the highest.

        Significance ``i`` of a unary code is the bit of the feature's inner edge ``i``, the lowest first.

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
        feature, place = self._places(indices.device)
        # the narrowest numbers that hold them: images have many bits
        codes = indices[:, feature].to(torch.uint8 if max(self.cells) <= 2**8 else torch.int32)
        if self.code == "unary":
            return (codes > place).to(torch.uint8)
        if self.code == "gray":
            codes = codes ^ (codes >> 1)
        shift = (self._of_bits(indices.device)[feature] - 1 - place).to(codes)
        return ((codes >> shift) & 1).to(torch.uint8)

    def from_bits(self, bits: Tensor) -> Tensor:
        """Bits of the wires ``(N, n_bits)`` to flat numbers ``(N,)``."""
        return self.flatten(self.bits_to_indices(bits))

    def bits_to_indices(self, bits: Tensor) -> Tensor:
        """Bits of the wires ``(N, n_bits)`` to cells of each feature ``(N, n_features)``.

        The cell of a unary code is the number of its ones, wherever they stand.

        >>> cells = Discretiser([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 10.0, 20.0]], code="gray")
        >>> cells.bits_to_indices(torch.tensor([[1, 0, 1]])).tolist()
        [[3, 1]]
        """
        feature, place = self._places(bits.device)
        indices = torch.zeros(len(bits), self.n_features, dtype=torch.int64, device=bits.device)
        if self.code == "unary":
            return indices.index_add_(1, feature, bits.to(torch.int64))
        shift = self._of_bits(bits.device)[feature] - 1 - place
        indices.index_add_(1, feature, bits.to(torch.int64) << shift)
        if self.code == "gray":  # a digit is the parity of the bits from the highest down to its own
            step = 1
            while step < max(self.bits):
                indices ^= indices >> step
                step *= 2
        return indices

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Feature and significance of each bit, both ``(n_bits,)``."""
        feature, place = torch.tensor(self.wires, dtype=torch.int64, device=device).reshape(-1, 2).unbind(1)
        return feature, place

    def _of_bits(self, device: torch.device) -> Tensor:
        return torch.tensor(self.bits, dtype=torch.int64, device=device)

    def by_cell(self, probabilities: Tensor) -> Tensor:
        """Probabilities ``(..., n_cells)`` of a circuit's basis states, wire 0 most significant, in order of cells.

        Raises:
            ValueError: the code is unary, so that there are more states than cells.
        """
        states = self._states
        return probabilities if states is None else probabilities[..., states.to(probabilities.device)]

    def by_state(self, probabilities: Tensor) -> Tensor:
        """The inverse of :meth:`by_cell`, with the same error."""
        states = self._states
        return probabilities if states is None else probabilities[..., states.argsort().to(probabilities.device)]

    def from_states(self, states: Tensor) -> Tensor:
        """Numbers of basis states, wire 0 most significant, to flat numbers of cells, both ``(N,)``; error as there.

        >>> Discretiser([[0.0, 1.0, 2.0, 3.0, 4.0]], code="gray").from_states(torch.arange(4)).tolist()
        [0, 1, 3, 2]
        """
        of_cell = self._states
        return states if of_cell is None else of_cell.argsort().to(states.device)[states]

    @cached_property
    def _states(self) -> Tensor | None:
        """The basis state of each cell; None where they are numbered alike."""
        self.check_one_to_one()
        if self.code == "binary" and self.order == "by-feature":
            return None
        bits = self.to_bits(torch.arange(self.n_cells)).to(torch.int64)
        return bits @ (1 << torch.arange(self.n_bits - 1, -1, -1))

    def check_one_to_one(self) -> None:
        """Refuse a code in which not every bit string is a cell.

        Raises:
            ValueError: the code is unary, with more than one bit for a feature.
        """
        if not self.one_to_one:
            raise ValueError("code is 'unary', whose bit strings are not all cells; allowed here are binary, gray")

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
        """For each feature the middle of each of its cells."""
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
        edges = pad_sequence(self.edges)
        return edges.gather(0, indices), edges.gather(0, indices + 1)

    def _padded_inner(self) -> Tensor:
        """The edges between cells, a row for each feature, filled up with infinity."""
        return pad_sequence([edges[1:-1] for edges in self.edges], batch_first=True, padding_value=math.inf)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._inner = self._padded_inner()

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


def _n_cells(bits: int, code: Code) -> int:
    return bits + 1 if code == "unary" else 1 << bits


def _check_numbered(bits: int, cells: int) -> None:
    if cells > 1 << _MAX_BITS:
        raise ValueError(f"{bits} bits in all; at most {_MAX_BITS} can be numbered")


def _fitted_edges(values: Tensor, feature: int, bits: int, code: Code, kind: str, tails: float) -> list[float]:
    n = _n_cells(bits, code)
    distinct = torch.unique(values)
    if len(distinct) < 2:
        raise ValueError(f"feature {feature} is constant ({distinct[0]:g}); it cannot be cut into cells")
    beyond = min(int(tails * len(distinct)), (len(distinct) - 2) // 2)
    distinct = distinct[beyond : len(distinct) - beyond]
    if kind == "linear":
        edges = torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64)
        edges = distinct[0] * (1 - edges) + distinct[-1] * edges
    else:
        at = torch.linspace(0.0, len(distinct) - 1.0, n + 1, dtype=torch.float64)
        below = at.floor().long().clamp_max(len(distinct) - 2)
        edges = torch.lerp(distinct[below], distinct[below + 1], at - below)
    edges[0], edges[-1] = distinct[0], distinct[-1]
    if not (edges.diff() > 0).all():
        raise ValueError(f"feature {feature} has too few distinct values ({len(distinct)}) for {bits} bits")
    return [float(edge) for edge in edges]
