"""Matrix entries and phases of all gates of a program, and the passes over the amplitudes in plain torch.

The plain passes run on any device and are differentiable to all orders. Amplitudes are reals of shape
``(size, ..., 2, rows)``, real before imaginary parts: the gates' matrices are real and act on both alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from circuits.cv import matrices
from circuits.cv.basis import FockBasis, Mixing
from circuits.cv.schedule import PhaseGroup, Schedule, Terms

__all__ = ["Entries", "check_transmissivity", "density", "entries_of", "plain_amplitudes"]


class Entries(NamedTuple):
    """Numbers that the passes need, float64.

    Args:
        gates: for each group of gates ``(gates, n_entries)``, or ``(gates, n_entries, rows)`` if they differ within
            the batch.
        phases: for each phase group ``(passes, size)`` or ``(passes, size, rows)``, radians.
    """

    gates: tuple[Tensor, ...]
    phases: tuple[Tensor, ...]

    @property
    def device(self) -> torch.device:
        """Where they are."""
        found = (*self.gates, *self.phases)
        return found[0].device if found else torch.device("cpu")


def entries_of(plan: Schedule, shared: Tensor, each: Tensor, hbar: float) -> Entries:
    """Matrix entries and phases of every group.

    Args:
        plan: the program.
        shared: parameters of the whole batch, ``(n_shared,)`` float64.
        each: those of each sample, ``(rows, n)``.
        hbar: of the simulation.

    Raises:
        ValueError: a transmissivity outside [0, 1].
    """
    vectors = shared, each
    if each.shape[1] and len(shared):
        vectors = shared, torch.cat([shared.expand(len(each), -1), each], dim=1)
    gates, phases = [], []
    for group in plan.groups:
        values = _values(group.terms, vectors[group.per_sample])
        if group.name == "Loss":
            check_transmissivity(values)
        made = _matrices(group.name, values, plan.basis, hbar)
        gates.append(made.movedim(0, -1) if group.per_sample else made)
    for phase_group in plan.phases:
        made = _angles(phase_group, _values(phase_group.terms, vectors[phase_group.per_sample]))
        phases.append(made.movedim(0, -1) if phase_group.per_sample else made)
    return Entries(tuple(gates), tuple(phases))


@lru_cache(maxsize=256)
def _on_device(terms: Terms, device: torch.device) -> tuple[Tensor, ...]:
    arrays = terms.index, terms.scale, terms.offset, terms.bent
    return tuple(torch.from_numpy(array).to(device) for array in arrays)


@lru_cache(maxsize=64)
def _phases_on_device(group: PhaseGroup, device: torch.device) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array).to(device) for array in (group.place, group.functions))


@lru_cache(maxsize=256)
def _mixing_on_device(mixing: Mixing, device: torch.device) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array).to(device) for array in mixing.padded)


def _values(terms: Terms, vector: Tensor) -> Tensor:
    """Values of the terms, ``(terms,)`` or ``(rows, terms)``."""
    index, scale, offset, bent = _on_device(terms, vector.device)
    if vector.shape[-1] == 0:
        values = offset
    elif terms.is_plain:
        values = vector.index_select(-1, index)
    else:
        values = torch.addcmul(offset, vector.index_select(-1, index), scale)
    if len(bent):
        values = values.index_copy(-1, bent, 0.5 * torch.atan(0.5 * values[..., bent]))
    return values


def check_transmissivity(values: Tensor) -> None:
    """Raise a ValueError for a transmissivity outside [0, 1]."""
    bad = ((values < 0) | (values > 1)).nonzero()
    if len(bad):
        raise ValueError(f"transmissivity of Loss is {values[tuple(bad[0])].item()}; a number from 0 to 1 is needed")


def _matrices(name: str, values: Tensor, basis: FockBasis, hbar: float) -> Tensor:
    cutoff = basis.cutoff
    if name == "Displacement":
        return matrices.displacement(values, cutoff)
    if name == "Squeezing":
        return matrices.squeezing(values, cutoff)
    if name == "QuadraticPhase":
        return matrices.squeezing(torch.asinh(0.5 * values), cutoff)
    if name == "CubicPhase":
        return matrices.cubic_phase(values * (hbar**0.5 / 3), cutoff)
    if name == "Beamsplitter":
        return matrices.beamsplitter(values, cutoff, basis.kind)
    if name == "TwoModeSqueezing":
        return matrices.two_mode_squeezing(values, cutoff)
    return matrices.loss(values, cutoff)


def _angles(group: PhaseGroup, values: Tensor) -> Tensor:
    place, functions = _phases_on_device(group, values.device)
    coefficients = values.new_zeros(*values.shape[:-1], group.n_passes * len(functions))
    coefficients = coefficients.index_add(-1, place, values)
    return coefficients.unflatten(-1, (group.n_passes, -1)) @ functions


def plain_amplitudes(
    plan: Schedule, entries: Entries, rows: int, real: torch.dtype, start: Tensor | None = None
) -> Tensor:
    """Amplitudes at the end, ``(rows, size)`` complex, or density matrices ``(rows, size, size)`` if there is loss.

    Args:
        plan: the program.
        entries: from :func:`entries_of`.
        rows: size of the batch.
        real: float32 or float64.
        start: what to start from, ``(size, 2, rows)`` or ``(size, size, 2, rows)``; by default the photon numbers in
            which the program starts.
    """
    size, lossy = plan.basis.size, plan.lossy
    if start is None:
        state = torch.zeros(*(size,) * (2 if lossy else 1), 2, rows, dtype=real, device=entries.device)
        state[(plan.start,) * (state.ndim - 2)][0] = 1
    else:
        state = start
    for step in plan.steps:
        found = (entries.phases if step.mixing is None else entries.gates)[step.group][step.number].to(real)
        found = found if found.ndim == 2 else found[:, None]
        if step.mixing is None:
            state = _turn(state, found)
            state = _turn(state.transpose(0, 1), -found).transpose(0, 1) if lossy else state
        elif step.lossy:
            state = _mix(state.flatten(0, 1), found, step.mixing).unflatten(0, (size, size))
        else:
            state = _mix(state, found, step.mixing)
            state = _mix(state.transpose(0, 1), found, step.mixing).transpose(0, 1) if lossy else state
    parts = state.movedim(-1, 0)
    return torch.complex(parts[..., 0], parts[..., 1])


def density(state: Tensor) -> Tensor:
    """``|state><state|``, ``(size, size, 2, rows)``."""
    real, imaginary = state[:, None].unbind(-2)
    bra, bra_imaginary = state[None].unbind(-2)
    return torch.stack(
        [real * bra + imaginary * bra_imaginary, imaginary * bra - real * bra_imaginary],
        dim=-2,
    )


def _spread(found: Tensor, like: Tensor) -> Tensor:
    """``(n, rows)`` as ``(n, 1, ..., rows)``, of as many dimensions as the other."""
    return found.view(len(found), *[1] * (like.ndim - 2), found.shape[-1])


def _turn(state: Tensor, angle: Tensor) -> Tensor:
    real, imaginary = state.unbind(-2)
    angle = _spread(angle, real)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine * real - sine * imaginary, sine * real + cosine * imaginary], dim=-2)


def _mix(state: Tensor, found: Tensor, mixing: Mixing) -> Tensor:
    source, entry = _mixing_on_device(mixing, state.device)
    padded = torch.cat([found, found.new_zeros(1, found.shape[1])])
    out = torch.zeros_like(state)
    for k in range(source.shape[1]):
        out = out + _spread(padded[entry[:, k]], state) * state[source[:, k]]
    return out
