"""A program over photon-number amplitudes as one differentiable torch function, on the CPU.

From parameters to amplitudes no torch operation is on the way: matrix entries come from numpy with their derivatives
(:mod:`circuits.cv.slopes`), and the gradient is one sweep back through the same passes (:mod:`circuits.cv.kernels`).
Second derivatives go through the plain passes of :mod:`circuits.cv.passes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from circuits.backends.plain import asks_for_plain
from circuits.cv.basis import Mixing
from circuits.cv.passes import entries_of, plain_amplitudes
from circuits.cv.schedule import Group, PhaseGroup, Schedule
from circuits.cv.slopes import cosine_and_sine, gates_and_phases, parameter_slopes

__all__ = ["compiled_amplitudes", "padded_rows", "rows_at_once"]

_PHASES, _BOTH, _MIX = range(3)  # as in the kernels
_CACHED = 2**18  # bytes of a state that stays in the cache during all passes
_VECTOR = 64  # bytes


class _Tables(NamedTuple):
    """A schedule as the kernels take it, and how the numbers of its entries lie side by side."""

    steps: np.ndarray
    starts: np.ndarray
    target: np.ndarray
    source: np.ndarray
    entry: np.ndarray
    numbers: int
    mixings: int
    most_entries: int


def _starts(groups: Sequence[Group | PhaseGroup], sizes: list[int]) -> list[int]:
    """Where the numbers of each group begin among those of its kind, shared or of each sample."""
    ends, starts = [0, 0], []
    for group, size in zip(groups, sizes, strict=True):
        starts.append(ends[group.per_sample])
        ends[group.per_sample] += size
    return starts


def _near(mixing: Mixing) -> tuple[np.ndarray, ...]:
    """Starts, targets, sources and entries, in an order that processors like.

    Targets of as many sources are neighbours, which makes the lengths of loops predictable, and among them those of the
    same sources, which stay in the cache.
    """
    counts = np.diff(mixing.rows)
    order = np.lexsort((mixing.source[mixing.rows[:-1]], counts))
    counts = counts[order]
    starts = np.concatenate([[0], counts.cumsum()])
    triples = np.repeat(mixing.rows[:-1][order] - starts[:-1], counts) + np.arange(starts[-1])
    return starts, np.append(order, 0), mixing.source[triples], mixing.entry[triples]


@lru_cache(maxsize=64)
def _tables(plan: Schedule) -> _Tables:
    size, lossy = plan.basis.size, plan.lossy
    n_entries = {step.group: step.mixing.n_entries for step in plan.steps if step.mixing is not None}
    gates = _starts(plan.groups, [len(group.terms.index) * n_entries[i] for i, group in enumerate(plan.groups)])
    phases = _starts(plan.phases, [group.n_passes * size for group in plan.phases])
    mixings: dict[Mixing, int] = {}
    n_starts, rows = 0, []
    for step in plan.steps:
        if step.mixing is None:
            place, each = phases[step.group] + step.number * size, plan.phases[step.group].per_sample
            rows.append((_BOTH if lossy else _PHASES, each, place, 0, 0, 0, 1, size, size if lossy else 1))
            continue
        for mixing in (step.mixing, step.mixing.transposed):
            if mixing not in mixings:
                mixings[mixing] = n_starts
                n_starts += mixing.size + 1
        count, each = step.mixing.n_entries, plan.groups[step.group].per_sample
        place = gates[step.group] + step.number * count
        tables = mixings[step.mixing], mixings[step.mixing.transposed]
        sides = [(1, size**2, 1)] if step.lossy else [(1, size, size), (size, size, 1)] if lossy else [(1, size, 1)]
        rows += [(_MIX, each, place, count, *tables, *side) for side in sides]
    begins = np.cumsum([0] + [len(mixing.source) for mixing in mixings])
    parts = [_near(mixing) for mixing in mixings]
    return _Tables(
        np.array(rows, dtype=np.int64).reshape(-1, 9),
        _concatenated([part[0] + begin for part, begin in zip(parts, begins, strict=False)]),
        _concatenated([part[1] for part in parts]),
        _concatenated([part[2] for part in parts]),
        _concatenated([part[3] for part in parts]),
        size**2 if lossy else size,
        sum(row[0] == _MIX for row in rows),
        max(n_entries.values(), default=0),
    )


def _concatenated(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays]).astype(np.uint32)


def padded_rows(rows: int, itemsize: int) -> int:
    """Rows of which real parts fill half vectors."""
    half = _VECTOR // (2 * itemsize)
    return -(-rows // half) * half


def rows_at_once(numbers: int, itemsize: int) -> int:
    """Rows of a batch that go through all passes together: at least a few vectors, at most what the cache holds."""
    return max(32, _CACHED // (2 * numbers * itemsize) // 32 * 32)


def _aligned(count: int, numbers: int, real: np.dtype) -> np.ndarray:
    """An array ``(count, numbers)`` that starts where a vector may; not filled."""
    # numpy asks for large pages, without which the first touch of each page takes longer than the passes
    bytes_ = np.empty(count * numbers * real.itemsize + _VECTOR, np.uint8)
    skip = -bytes_.ctypes.data % _VECTOR
    return bytes_[skip : skip + count * numbers * real.itemsize].view(real).reshape(count, numbers)


def _joined(groups: Sequence[Group | PhaseGroup], parts: list[np.ndarray], rows: int) -> list[np.ndarray]:
    """The numbers of groups, those of the whole batch ``(n,)`` and those of each sample ``(n, rows)``."""
    pairs = list(zip(groups, parts, strict=True))
    shared = [part.reshape(-1) for group, part in pairs if not group.per_sample]
    each = [part.reshape(part.shape[0] * part.shape[1], rows) for group, part in pairs if group.per_sample]
    return [np.concatenate([np.zeros(0), *shared]), np.concatenate([np.zeros((0, rows)), *each])]


def _split(
    groups: Sequence[Group | PhaseGroup], shapes: list[tuple[int, ...]], flat: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Back from joined ones to each group's, float64."""
    ends, found = [0, 0], []
    for group, shape in zip(groups, shapes, strict=True):
        begin, each = ends[group.per_sample], group.per_sample
        ends[each] = begin + shape[0] * shape[1]
        found.append(flat[each][begin : ends[each]].reshape(shape).astype(np.float64))
    return found


def _padded(array: np.ndarray, first: int, count: int, padded: int) -> np.ndarray:
    """Some rows of ``(n, rows)``, and zeros, flat."""
    out = np.zeros((len(array), padded), array.dtype)
    out[:, :count] = array[:, first : first + count]
    return out.reshape(-1)


class _Piece(NamedTuple):
    """Rows that go through all passes together, and what the kernels take for them."""

    first: int
    size: int
    padded: int
    numbers: tuple[np.ndarray, ...]
    states: np.ndarray


class _Amplitudes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Schedule, hbar: float, real: torch.dtype, shared: Tensor, each: Tensor, start: Tensor | None
    ) -> Tensor:
        from circuits.cv.kernels import forward

        rows, kind, tables = len(each), np.dtype(f"f{real.itemsize}"), _tables(plan)
        keep = any(ctx.needs_input_grad)
        made = gates_and_phases(plan, shared.detach().numpy(), each.detach().numpy(), hbar)
        gates, gates_each = (part.astype(kind) for part in _joined(plan.groups, made.gates, rows))
        angles, angles_each = _joined(plan.phases, made.phases, rows)
        cosines, sines = (part.astype(kind) for part in cosine_and_sine(angles))
        cosines_each, sines_each = (part.astype(kind) for part in cosine_and_sine(angles_each))
        slots = tables.mixings + 1 if keep else min(2, tables.mixings + 1)
        out = torch.empty(rows, *(plan.basis.size,) * (1 + plan.lossy), 2, dtype=real)
        by_row, pieces = out.numpy().reshape(rows, tables.numbers, 2), []
        at_once = rows_at_once(tables.numbers, real.itemsize)
        for first in range(0, rows, at_once):
            count = min(at_once, rows - first)
            padded = padded_rows(count, real.itemsize)
            some, cosine, sine = (
                _padded(part, first, count, padded) for part in (gates_each, cosines_each, sines_each)
            )
            numbers = gates, some, cosines, sines, cosine, sine
            states = _aligned(slots, 2 * tables.numbers * padded, kind)
            states[0] = 0
            begin = states[0].reshape(tables.numbers, 2, padded)
            if start is None:
                begin[plan.start * (plan.basis.size + 1 if plan.lossy else 1), 0] = 1
            else:
                begin[..., :count] = start.detach().flatten(0, -3).numpy()[..., first : first + count]
            slot = forward(*tables[:5], *numbers, states, padded)
            final = states[slot].reshape(tables.numbers, 2, padded)
            by_row[first : first + count] = final[..., :count].transpose(2, 0, 1)
            if keep:
                pieces.append(_Piece(first, count, padded, numbers, states))
        if keep:
            shapes = [part.shape for part in made.gates], [part.shape for part in made.phases]
            ctx.plan, ctx.hbar, ctx.real, ctx.pieces, ctx.shapes = plan, hbar, real, pieces, shapes
            ctx.made = made._replace(gates=[], phases=[])
            ctx.counts = (len(gates), len(gates_each)), (len(angles), len(angles_each))
            ctx.save_for_backward(shared, each, *(() if start is None else (start,)))
        return torch.view_as_complex(out)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        plan, (slope,), (shared, each, *begins) = ctx.plan, slopes, ctx.saved_tensors
        start = begins[0] if begins else None
        if asks_for_plain(slope):
            return None, None, None, *_again(plan, ctx.hbar, ctx.real, shared, each, start, slope)
        from circuits.cv.kernels import backward

        tables, rows = _tables(plan), len(each)
        parts = torch.view_as_real(slope.resolve_conj()).flatten(1, -2).numpy()
        begin = None if start is None else torch.empty_like(start, memory_format=torch.contiguous_format)
        counts = ctx.counts
        gates, angles = (np.zeros(count[0], parts.dtype) for count in counts)
        gates_each, angles_each = (np.empty((count[1], rows), parts.dtype) for count in counts)
        vectors = _aligned(1, tables.most_entries * _VECTOR // parts.itemsize, parts.dtype)[0]
        for piece in ctx.pieces:
            some = slice(piece.first, piece.first + piece.size)
            given = _aligned(2, piece.states.shape[1], parts.dtype)
            seen = given.reshape(2, tables.numbers, 2, piece.padded)
            seen[0, ..., piece.size :] = 0
            seen[0, ..., : piece.size] = parts[some].transpose(1, 2, 0)
            each_, turned_each = (np.zeros(count[1] * piece.padded, parts.dtype) for count in counts)
            results = gates, each_, angles, turned_each
            where = backward(*tables[:5], *piece.numbers, piece.states, piece.padded, given, vectors, *results)
            gates_each[:, some] = each_.reshape(-1, piece.padded)[:, : piece.size]
            angles_each[:, some] = turned_each.reshape(-1, piece.padded)[:, : piece.size]
            if begin is not None:
                begin.flatten(0, -3).numpy()[..., some] = seen[where, ..., : piece.size]
        found = parameter_slopes(
            plan,
            ctx.made,
            _split(plan.groups, ctx.shapes[0], (gates, gates_each)),
            _split(plan.phases, ctx.shapes[1], (angles, angles_each)),
            len(shared),
            each.shape,
        )
        return None, None, None, *(torch.from_numpy(part) for part in found), begin


def _again(
    plan: Schedule,
    hbar: float,
    real: torch.dtype,
    shared: Tensor,
    each: Tensor,
    start: Tensor | None,
    slope: Tensor,
) -> list[Tensor | None]:
    """The derivatives by ordinary operations; themselves differentiable if that is asked for."""
    inputs = [shared, each, start]
    wanted = [part for part in inputs if part is not None and part.requires_grad]
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        value = plain_amplitudes(plan, entries_of(plan, shared, each, hbar), len(each), real, start)
        slopes = torch.autograd.grad(value, wanted, slope, create_graph=further, allow_unused=True)
    found = iter(slopes)
    return [next(found) if part is not None and part.requires_grad else None for part in inputs]


def compiled_amplitudes(
    plan: Schedule, shared: Tensor, each: Tensor, hbar: float, real: torch.dtype, start: Tensor | None = None
) -> Tensor:
    """Amplitudes at the end, ``(rows, size)`` complex, or density matrices ``(rows, size, size)``, on the CPU.

    Args:
        plan: the program.
        shared: parameters of the whole batch, ``(n_shared,)`` float64.
        each: those of each sample, ``(rows, n)``.
        hbar: of the simulation.
        real: float32 or float64.
        start: as for :func:`~circuits.cv.passes.plain_amplitudes`.
    """
    found: Tensor = _Amplitudes.apply(plan, hbar, real, shared, each, start)
    return found
