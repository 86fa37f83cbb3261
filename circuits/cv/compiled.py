"""Compiled passes over photon-number amplitudes as one differentiable torch function, on the CPU.

The gradient is one sweep back through the same passes (:mod:`circuits.cv.kernels`). Second derivatives go through the
plain passes of :mod:`circuits.cv.passes`.
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
from circuits.cv.passes import Entries, plain_amplitudes, rows_first
from circuits.cv.schedule import Group, PhaseGroup, Schedule

__all__ = ["compiled_amplitudes", "rows_at_once"]

_PHASES, _BOTH, _MIX = range(3)  # as in the kernels
_CACHED = 2**18  # bytes of a state that stays in the cache during all passes


class _Tables(NamedTuple):
    """A schedule as the kernels take it, and how the numbers of its entries lie side by side."""

    steps: np.ndarray
    starts: np.ndarray
    source: np.ndarray
    entry: np.ndarray
    numbers: int
    mixings: int


def _starts(groups: Sequence[Group | PhaseGroup], sizes: list[int]) -> list[int]:
    """Where the numbers of each group begin among those of its kind, shared or of each sample."""
    ends, starts = [0, 0], []
    for group, size in zip(groups, sizes, strict=True):
        starts.append(ends[group.per_sample])
        ends[group.per_sample] += size
    return starts


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
            rows.append((_BOTH if lossy else _PHASES, each, place, 0, 0, 1, size, size if lossy else 1))
            continue
        for mixing in (step.mixing, step.mixing.transposed):
            if mixing not in mixings:
                mixings[mixing] = n_starts
                n_starts += mixing.size + 1
        place, each = gates[step.group] + step.number * step.mixing.n_entries, plan.groups[step.group].per_sample
        tables = mixings[step.mixing], mixings[step.mixing.transposed]
        sides = [(1, size**2, 1)] if step.lossy else [(1, size, size), (size, size, 1)] if lossy else [(1, size, 1)]
        rows += [(_MIX, each, place, *tables, *side) for side in sides]
    begins = np.cumsum([0] + [len(mixing.source) for mixing in mixings])
    return _Tables(
        np.array(rows, dtype=np.int64).reshape(-1, 8),
        _concatenated([mixing.rows + begin for mixing, begin in zip(mixings, begins, strict=False)]),
        _concatenated([mixing.source for mixing in mixings]),
        _concatenated([mixing.entry for mixing in mixings]),
        size**2 if lossy else size,
        sum(row[0] == _MIX for row in rows),
    )


def _concatenated(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def rows_at_once(numbers: int, itemsize: int) -> int:
    """Rows of a batch that go through all passes together: at least a few vectors, at most what the cache holds."""
    return max(32, _CACHED // (2 * numbers * itemsize) // 32 * 32)


def _joined(parts: list[Tensor], real: torch.dtype, *rows: int) -> Tensor:
    flat = [part.flatten(0, 1) for part in parts]
    return torch.cat(flat).to(real) if flat else torch.empty(0, *rows, dtype=real)


def _of_kind(plan: Schedule, given: tuple[Tensor, ...], per_sample: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Entries of gates and phases that are shared, or that are not."""
    of = [*(group.per_sample for group in plan.groups), *(group.per_sample for group in plan.phases)]
    some = [part if each is per_sample else None for part, each in zip(given, of, strict=True)]
    gates, phases = some[: len(plan.groups)], some[len(plan.groups) :]
    return [part for part in gates if part is not None], [part for part in phases if part is not None]


def _numbers(plan: Schedule, given: tuple[Tensor, ...], rows: int, real: torch.dtype) -> list[Tensor]:
    """Entries, and cosines and sines of the phases, flat: those of the whole batch, and those of each sample."""
    found = []
    for gates, phases, shape in ((*_of_kind(plan, given, False), ()), (*_of_kind(plan, given, True), (rows,))):
        angles = _joined(phases, real, *shape)
        found.append((_joined(gates, real, *shape), angles.cos(), angles.sin()))
    (shared, *turns), (each, *turns_each) = found
    return [shared, each, *turns, *turns_each]


def _split(plan: Schedule, given: tuple[Tensor, ...], slopes: list[Tensor]) -> list[Tensor]:
    """Derivatives by each of the given tensors from the flat ones."""
    found: dict[int, Tensor] = {}
    for per_sample in (False, True):
        for parts, flat in zip(_of_kind(plan, given, per_sample), slopes[2 * per_sample :], strict=False):
            pieces = flat.split([part.shape[0] * part.shape[1] for part in parts])
            for part, piece in zip(parts, pieces, strict=True):
                found[id(part)] = piece.view(part.shape).to(part.dtype)
    return [found[id(part)] for part in given]


class _Passes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Schedule, rows: int, real: torch.dtype, start: Tensor | None, *given: Tensor) -> Tensor:
        from circuits.cv.kernels import forward

        tables, numbers = _tables(plan), _numbers(plan, given, rows, real)
        keep = any(ctx.needs_input_grad)
        slots = tables.mixings + 1 if keep else min(2, tables.mixings + 1)
        # numpy asks for large pages, without which the first touch of each page takes longer than the passes
        states = torch.from_numpy(np.empty((slots, 2 * tables.numbers * rows), f"f{real.itemsize}"))
        if start is None:
            diagonal = plan.start * (plan.basis.size + 1 if plan.lossy else 1)
            states[0].zero_().view(tables.numbers, 2, rows)[diagonal, 0] = 1
        else:
            states[0].view(start.shape).copy_(start)
        slot = forward(*tables[:4], *(number.numpy() for number in numbers), states.numpy())
        if keep:
            ctx.plan, ctx.states, ctx.numbers, ctx.begins = plan, states, numbers, start is not None
            ctx.save_for_backward(*given, *(() if start is None else (start,)))
        shape = (plan.basis.size,) * (2 if plan.lossy else 1)
        return rows_first(states[slot].view(*shape, 2, rows))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        plan, states, (slope,) = ctx.plan, ctx.states, slopes
        saved: tuple[Tensor, ...] = ctx.saved_tensors
        given, start = (saved[:-1], saved[-1]) if ctx.begins else (saved, None)
        if asks_for_plain(slope):
            return None, None, None, *_again(plan, states.dtype, start, given, slope)
        from circuits.cv.kernels import backward

        parts = torch.view_as_real(slope.resolve_conj()).movedim(0, -1)
        work = torch.empty(2, states.shape[1], dtype=states.dtype)
        work[0].view(parts.shape).copy_(parts)
        shared, each, angles, _, angles_each, _ = ctx.numbers
        results = [torch.zeros_like(part) for part in (shared, angles, each, angles_each)]
        where = backward(
            *_tables(plan)[:4],
            *(number.numpy() for number in ctx.numbers),
            states.numpy(),
            work.numpy(),
            *(result.numpy() for result in results),
        )
        begin = None if start is None else work[where].view(start.shape)
        return None, None, None, begin, *_split(plan, given, results)


def _again(
    plan: Schedule, real: torch.dtype, start: Tensor | None, given: tuple[Tensor, ...], slope: Tensor
) -> list[Tensor | None]:
    """The derivatives by ordinary operations; themselves differentiable if that is asked for."""
    inputs = [start, *given]
    wanted = [part for part in inputs if part is not None and part.requires_grad]
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        entries = Entries(given[: len(plan.groups)], given[len(plan.groups) :])
        value = plain_amplitudes(plan, entries, slope.shape[0], real, start)
        found = iter(torch.autograd.grad(value, wanted, slope, create_graph=further))
    return [next(found) if part is not None and part.requires_grad else None for part in inputs]


def compiled_amplitudes(
    plan: Schedule, entries: Entries, rows: int, real: torch.dtype, start: Tensor | None = None
) -> Tensor:
    """The same as :func:`~circuits.cv.passes.plain_amplitudes`, on the CPU."""
    at_once = rows_at_once(_tables(plan).numbers, real.itemsize)
    found = []
    for first in range(0, max(1, rows), at_once):
        count = min(at_once, rows - first)
        some = entries if count == rows else entries.narrow(plan, first, count)
        begin = start if start is None or count == rows else start.narrow(-1, first, count)
        found.append(_Passes.apply(plan, count, real, begin, *some.gates, *some.phases))
    return found[0] if len(found) == 1 else torch.cat(found)
