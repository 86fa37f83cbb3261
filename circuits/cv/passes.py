"""Matrix entries of all gates of a program, and the passes over the amplitudes, in torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from circuits.cv import matrices
from circuits.cv.basis import FockBasis, Mixing
from circuits.cv.schedule import Group, Schedule

__all__ = ["entries_of", "run_passes"]


def entries_of(plan: Schedule, shared: Tensor, each: Tensor, hbar: float, dtype: torch.dtype) -> list[Tensor]:
    """Matrix entries or phases of every group.

    Args:
        plan: the program.
        shared: parameters of the whole batch, ``(n_shared,)`` float64.
        each: those of each sample, ``(rows, n)``.
        hbar: of the simulation.
        dtype: of the amplitudes.

    Returns:
        For a group ``(gates, n_entries)``, or ``(gates, n_entries, rows)`` if they differ within the batch; for a phase
        group ``(passes, size)`` or ``(passes, size, rows)``. Complex.
    """
    found = []
    for group in plan.groups:
        values = _values(group, shared, each)
        made = _matrices(group.name, values.unbind(-1), plan.basis, hbar).flatten(values.ndim - 1)
        found.append(_rows_last(made, group.per_sample).to(dtype))
    for phases in plan.phases:
        values = _values(phases.terms, shared, each)[..., 0]
        coefficients = values.new_zeros(*values.shape[:-1], phases.n_passes * len(phases.functions))
        coefficients = coefficients.index_add(-1, _tensor(phases.place, values.device), values)
        coefficients = coefficients.unflatten(-1, (phases.n_passes, -1))
        angle = coefficients @ _tensor(phases.functions, values.device)
        made = torch.complex(angle.cos(), angle.sin())
        found.append(_rows_last(made, phases.per_sample).to(dtype))
    return found


def _rows_last(made: Tensor, per_sample: bool) -> Tensor:
    return made.movedim(0, -1) if per_sample else made


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)


def _values(group: Group, shared: Tensor, each: Tensor) -> Tensor:
    """Values of the gates' parameters, ``(gates, n)`` or ``(rows, gates, n)``."""
    vector = torch.cat([shared.expand(len(each), -1), each], dim=1) if group.per_sample else shared
    if vector.shape[-1] == 0:
        return _tensor(group.offset, vector.device)
    scale, offset = _tensor(group.scale, vector.device), _tensor(group.offset, vector.device)
    return vector[..., _tensor(group.index, vector.device)] * scale + offset


def _matrices(name: str, values: tuple[Tensor, ...], basis: FockBasis, hbar: float) -> Tensor:
    cutoff, first = basis.cutoff, values[0]
    if name == "Displacement":
        return matrices.displacement(first, values[1], cutoff)
    if name == "Squeezing":
        return matrices.squeezing(first, values[1], cutoff)
    if name == "QuadraticPhase":
        return matrices.position_phase(first / 2, 2, cutoff)
    if name == "CubicPhase":
        return matrices.position_phase(first * (hbar**0.5 / 3), 3, cutoff)
    if name == "Beamsplitter":
        return matrices.beamsplitter(first, values[1], cutoff, basis.kind)
    return matrices.two_mode_squeezing(first, values[1], cutoff)


def run_passes(plan: Schedule, entries: list[Tensor], rows: int) -> Tensor:
    """Amplitudes at the end, ``(size, rows)``, from the state in which the program starts."""
    device = entries[0].device if entries else torch.device("cpu")
    dtype = entries[0].dtype if entries else torch.complex128
    state = torch.zeros(plan.basis.size, rows, dtype=dtype, device=device)
    state[plan.start] = 1
    for step in plan.steps:
        found = entries[step.group][step.number]
        if found.ndim == 1:
            found = found[:, None]
        state = found * state if step.mixing is None else _mix(state, found, step.mixing)
    return state


def _mix(state: Tensor, found: Tensor, mixing: Mixing) -> Tensor:
    padded = torch.cat([found, found.new_zeros(1, found.shape[1])])
    source, entry = _indices(mixing, state.device)
    return (padded[entry] * state[source]).sum(1)


def _indices(mixing: Mixing, device: torch.device) -> tuple[Tensor, Tensor]:
    return _tensor(mixing.source, device), _tensor(mixing.entry, device)
