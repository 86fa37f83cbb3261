"""Matrix entries and phases of all gates of a program with their derivatives, for the compiled passes.

The same numbers as :func:`~circuits.cv.passes.entries_of`, from the same tables. Every entry depends on one parameter:
its derivative is made along with it, and the derivative of a loss is one sum over the entries.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from circuits.cv import matrices
from circuits.cv.passes import check_transmissivity
from circuits.cv.schedule import Schedule, Terms

__all__ = ["Gates", "cosine_and_sine", "gates_and_phases", "parameter_slopes"]

_Pair = tuple[np.ndarray, np.ndarray]


class Gates(NamedTuple):
    """Numbers that the passes need, float64.

    Args:
        gates: for each group of gates ``(gates, n_entries)``, or ``(gates, n_entries, rows)`` if they differ within
            the batch.
        phases: for each phase group ``(passes, size)`` or ``(passes, size, rows)``, radians.
        gate_slopes: derivatives of the first by the parameters, of the same shapes.
        term_slopes: derivatives of the values that go into the phases by the parameters, ``(terms,)`` or
            ``(rows, terms)``.
    """

    gates: list[np.ndarray]
    phases: list[np.ndarray]
    gate_slopes: list[np.ndarray]
    term_slopes: list[np.ndarray]


def gates_and_phases(plan: Schedule, shared: np.ndarray, each: np.ndarray, hbar: float) -> Gates:
    """Matrix entries and phases of every group, and their derivatives.

    Args:
        plan: the program.
        shared: parameters of the whole batch, ``(n_shared,)`` float64.
        each: those of each sample, ``(rows, n)``.
        hbar: of the simulation.

    Raises:
        ValueError: a transmissivity outside [0, 1], or a cubic phase beyond all grids.
    """
    vectors = shared, np.concatenate([np.broadcast_to(shared, (len(each), len(shared))), each], axis=1)
    made = Gates([], [], [], [])
    for group in plan.groups:
        values, by_parameter = _values(group.terms, vectors[group.per_sample])
        entries, slopes = _entries(group.name, values, plan, hbar)
        slopes *= by_parameter[..., None]
        made.gates.append(_rows_last(entries) if group.per_sample else entries)
        made.gate_slopes.append(_rows_last(slopes) if group.per_sample else slopes)
    for phases in plan.phases:
        values, by_parameter = _values(phases.terms, vectors[phases.per_sample])
        coefficients = _summed(values, phases.place, phases.n_passes * len(phases.functions))
        angles = coefficients.reshape(*values.shape[:-1], phases.n_passes, len(phases.functions)) @ phases.functions
        made.phases.append(_rows_last(angles) if phases.per_sample else angles)
        made.term_slopes.append(by_parameter)
    return made


def parameter_slopes(
    plan: Schedule,
    made: Gates,
    gates: list[np.ndarray],
    phases: list[np.ndarray],
    n_shared: int,
    shape: tuple[int, ...],
) -> _Pair:
    """Derivatives of a loss by the parameters from those by what was made of them.

    Args:
        plan: the program.
        made: from :func:`gates_and_phases`.
        gates: derivatives by the entries of each group, in their shapes.
        phases: derivatives by the phases of each phase group, in their shapes.
        n_shared: how many parameters are the same in the whole batch.
        shape: of the parameters of each sample, ``(rows, n)``.

    Returns:
        ``(n_shared,)`` and ``(rows, n)``.
    """
    found = np.zeros(n_shared), np.zeros((shape[0], n_shared + shape[1]))

    def add(terms: Terms, per_sample: bool, slopes: np.ndarray) -> None:
        if found[per_sample].shape[-1]:
            found[per_sample][...] += _summed(slopes, terms.index, found[per_sample].shape[-1])

    for group, slope, by_parameter in zip(plan.groups, gates, made.gate_slopes, strict=True):
        if group.per_sample:
            add(group.terms, True, np.einsum("ger,ger->rg", slope, by_parameter))
        else:
            add(group.terms, False, np.einsum("ge,ge->g", slope, by_parameter))
    for some, slope, by_parameter in zip(plan.phases, phases, made.term_slopes, strict=True):
        functions = (np.moveaxis(slope, -1, 0) if some.per_sample else slope) @ some.functions.T
        flat = functions.reshape(*by_parameter.shape[:-1], some.n_passes * len(some.functions))
        add(some.terms, some.per_sample, flat[..., some.place] * by_parameter)
    shared, both = found
    return shared + both[:, :n_shared].sum(0), both[:, n_shared:]


def cosine_and_sine(angles: np.ndarray) -> _Pair:
    """Of each angle; by torch, as numpy takes one at a time."""
    tensor = torch.from_numpy(angles)
    return tensor.cos().numpy(), tensor.sin().numpy()


def _rows_last(made: np.ndarray) -> np.ndarray:
    return np.moveaxis(made, 0, -1)


def _summed(values: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """``out[..., place] += values`` from zero, ``(..., n) -> (..., count)``."""
    if values.ndim == 1:
        return np.bincount(place, values, count)
    out = np.zeros((count, len(values)))
    np.add.at(out, place, values.T)
    return out.T


def _values(terms: Terms, vector: np.ndarray) -> _Pair:
    """Values of the terms and their derivatives by the parameters, ``(terms,)`` or ``(rows, terms)``."""
    if vector.shape[-1] == 0:
        values = terms.offset.copy()
    elif terms.is_plain:
        values = vector[..., terms.index]
    else:
        values = vector[..., terms.index] * terms.scale + terms.offset
    slopes = np.broadcast_to(terms.scale, values.shape)
    if len(terms.bent):
        slopes, straight = slopes.copy(), values[..., terms.bent]
        values[..., terms.bent] = 0.5 * np.arctan(0.5 * straight)
        slopes[..., terms.bent] /= 4 + straight**2
    return values, slopes


def _entries(name: str, values: np.ndarray, plan: Schedule, hbar: float) -> _Pair:
    """Entries and their derivatives by the values, ``(..., n_entries)``."""
    cutoff = plan.basis.cutoff
    if name == "Loss":
        check_transmissivity(torch.from_numpy(values))
        return _loss(values, cutoff)
    factor: float | np.ndarray = 1.0
    if name == "QuadraticPhase":
        name, values, factor = "Squeezing", np.arcsinh(0.5 * values), 1 / np.sqrt(4 + values**2)
    elif name == "Displacement":
        furthest = matrices.furthest(cutoff)
        values, factor = values.clip(-furthest, furthest), 1.0 * (np.abs(values) <= furthest)
    elif name == "CubicPhase":
        factor = hbar**0.5 / 3
        values = values * factor
    if name in ("Squeezing", "TwoModeSqueezing"):
        tables = [table.numpy() for table in matrices.normal_order_tables(name, cutoff, "cpu")]
        entries, slopes = _normal_ordered(values, *tables)
    else:
        largest = float(np.abs(values).max()) if values.size else 0.0
        waves = matrices.wave_tables(name, largest, cutoff, plan.basis.kind, "cpu")
        entries, slopes = _waves(values, [(rates.numpy(), table.numpy()) for rates, table in waves])
    if name != "Beamsplitter":
        slopes *= np.asarray(factor)[..., None]
    return entries, slopes


def _waves(values: np.ndarray, tables: list[_Pair]) -> _Pair:
    found: list[_Pair] = []
    for rates, table in tables:
        cosine, sine = cosine_and_sine(values[..., None] * rates - 0.25 * math.pi)
        found.append((cosine @ table, (sine * -rates) @ table))
    if len(found) == 1:
        return found[0]
    entries, slopes = zip(*found, strict=True)
    return np.concatenate(entries, axis=-1), np.concatenate(slopes, axis=-1)


def _normal_ordered(r: np.ndarray, first: np.ndarray, last: np.ndarray, middle: np.ndarray) -> _Pair:
    shape, inside = first.shape[1:], (..., *[None] * (first.ndim - 1))
    t, p = np.tanh(r)[..., None], np.arange(len(first))
    powers = t**p
    both = np.stack([powers, p * t ** np.maximum(p - 1, 0) * (1 - t**2)])
    raised, raised_slope = (both @ first.reshape(len(p), -1)).reshape(2, *r.shape, *shape)
    lowered, lowered_slope = (both @ last.reshape(len(p), -1)).reshape(2, *r.shape, *shape).swapaxes(-1, -2)
    with np.errstate(over="ignore"):  # beyond what a float holds the factor is 0, as it should
        factor = np.cosh(r)[inside] ** -middle
    raised_slope = (raised_slope - raised * (middle * np.tanh(r)[inside])) * factor
    raised = raised * factor
    flat = (*r.shape, math.prod(shape))
    return (raised @ lowered).reshape(flat), (raised_slope @ lowered + raised @ lowered_slope).reshape(flat)


def _loss(transmissivity: np.ndarray, cutoff: int) -> _Pair:
    left, factors = (table.numpy() for table in matrices.losing_tables(cutoff, "cpu"))
    whole, lost = transmissivity[..., None], (1 - transmissivity)[..., None]
    root, odd = np.sqrt(whole), left % 2 == 1
    half = np.divide(0.5, root, out=np.zeros_like(root), where=root > 0)
    p, k = left // 2, np.arange(cutoff)
    power, power_slope = whole**p, p * whole ** np.maximum(p - 1, 0)
    kept = np.where(odd, power * root, power)
    kept_slope = np.where(odd, power_slope * root + power * half, power_slope)
    gone, gone_slope = lost**k, -k * lost ** np.maximum(k - 1, 0)
    outer, flat = (..., slice(None), None), (*transmissivity.shape, cutoff**3)
    entries = factors * kept[outer] * gone[..., None, :]
    slopes = factors * (kept_slope[outer] * gone[..., None, :] + kept[outer] * gone_slope[..., None, :])
    return entries.reshape(flat), slopes.reshape(flat)
