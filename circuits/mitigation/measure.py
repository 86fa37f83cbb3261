"""What all mitigation needs of a backend: several circuits measured in one job, and values with their deviations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from circuits.backends.base import Backend, PauliString, frequencies, measurement_groups, parse_observables
from circuits.backends.layers import layers
from circuits.backends.sampled import SamplingBackend, signs
from circuits.circuit import Circuit

__all__ = [
    "Estimate",
    "estimates",
    "expectations",
    "frequencies_over_shots",
    "mean_over_parts",
    "mean_over_shots",
    "place_like",
    "sample_each",
    "stacked",
]


class Estimate(NamedTuple):
    """Values and their standard deviations, of one shape; a deviation is NaN where nothing tells it."""

    value: Tensor
    deviation: Tensor


def place_like(backend: Backend, circuit: Circuit, others: Sequence[Circuit]) -> None:
    """Puts other circuits with the same pairs of wires on the qubits on which a circuit starts.

    Only backends that place circuits have something to do: left alone, a transpiler may choose other qubits, with other
    errors, for a circuit that is twirled or folded.
    """
    for layer in layers(backend):
        if hasattr(layer, "place") and hasattr(layer, "transpiled"):
            layout = layer.transpiled(circuit).layout
            if layout is not None:
                start = layout.initial_index_layout(filter_ancillas=True)
                for other in others:
                    layer.place(other, start)


def sample_each(
    backend: Backend, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
) -> list[Tensor]:
    """Measured bits of several circuits at the same angles, each ``(..., shots, n_wires)``; one job where possible."""
    together = getattr(backend, "sample_circuits", None)
    if together is not None:
        measured: list[Tensor] = together(circuits, angles, shots, generator)
        return measured
    return [backend.sample(circuit, angles, shots, generator) for circuit in circuits]


def mean_over_parts(parts: Tensor, shares: Tensor) -> Estimate:
    """Mean of independent parts and its deviation, from their spread.

    Args:
        parts: ``(n, ...)``.
        shares: ``(n,)``, the parts' weights in the mean; with sum one.

    >>> mean_over_parts(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
    Estimate(value=tensor(0.5000), deviation=tensor(0.5000))
    """
    n = len(parts)
    shares = shares.to(parts).reshape(-1, *[1] * (parts.ndim - 1))
    mean = (shares * parts).sum(0)
    if n == 1:
        return Estimate(mean, torch.full_like(mean, torch.nan))
    return Estimate(mean, ((shares * (parts - mean)).square().sum(0) * (n / (n - 1))).sqrt())


def mean_over_shots(outcomes: Tensor, blocks: int | None = None) -> Estimate:
    """Mean over shots and its deviation.

    Args:
        outcomes: ``(..., shots)``, what each shot says.
        blocks: shots come in so many blocks, equal but for one shot, of which only the means are independent; without,
            all shots are independent.

    >>> mean_over_shots(torch.tensor([1.0, 1.0, -1.0, -1.0])).deviation
    tensor(0.5774)
    >>> mean_over_shots(torch.tensor([1.0, 1.0, -1.0, -1.0]), blocks=2).deviation
    tensor(1.)
    """
    shots = outcomes.shape[-1]
    if blocks is not None:
        parts = outcomes.tensor_split(min(blocks, shots), -1)
        shares = torch.tensor([part.shape[-1] / shots for part in parts], dtype=torch.float64)
        return mean_over_parts(torch.stack([part.mean(-1) for part in parts]), shares)
    mean = outcomes.mean(-1)
    return Estimate(mean, ((outcomes.square().mean(-1) - mean.square()).clamp(min=0) / (shots - 1)).sqrt())


def frequencies_over_shots(bits: Tensor, blocks: int | None = None) -> Estimate:
    """Relative frequencies of the basis states and their deviations; ``blocks`` as in :func:`mean_over_shots`.

    >>> frequencies_over_shots(torch.tensor([[0], [1], [1], [1]], dtype=torch.uint8)).deviation
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    shots = bits.shape[-2]
    if blocks is not None:
        parts = bits.tensor_split(min(blocks, shots), -2)
        shares = torch.tensor([part.shape[-2] / shots for part in parts], dtype=torch.float64)
        return mean_over_parts(torch.stack([frequencies(part) for part in parts]), shares)
    value = frequencies(bits)
    return Estimate(value, (value * (1 - value) / (shots - 1)).sqrt())


def expectations(
    measured: Sequence[tuple[Tensor, Sequence[int]]], strings: Sequence[PauliString], blocks: int | None = None
) -> Estimate:
    """Expectation values and their deviations, each ``(..., n_strings)``, from measured bits.

    Args:
        measured: bits in the basis of some of the strings, ``(..., shots, n_wires)``, and their places in ``strings``.
        strings: the observables.
        blocks: as in :func:`mean_over_shots`.
    """
    columns = {
        place: mean_over_shots(signs(bits, strings[place]), blocks) for bits, places in measured for place in places
    }
    return stacked([columns[place] for place in range(len(strings))], -1)


def stacked(found: Sequence[Estimate], dim: int) -> Estimate:
    """Estimates joined along a new dimension."""
    values, deviations = zip(*found, strict=True)
    return Estimate(torch.stack(values, dim), torch.stack(deviations, dim))


def estimates(
    backend: Backend,
    circuits: Sequence[Circuit],
    angles: Tensor,
    observables: Sequence[str] | None,
    uncertain: bool,
) -> Estimate:
    """Probabilities (without observables) or expectation values of several circuits, ``(n_circuits, ..., n_outputs)``.

    A backend that only measures gets one job. Of a backend that mitigates, probabilities are its quasi-probabilities.

    Args:
        backend: what is asked.
        circuits: on the same wires and angles.
        angles: ``(..., n_angles)`` in radians.
        observables: Pauli strings.
        uncertain: whether deviations are needed; otherwise they are NaN unless they come for free.

    Raises:
        ValueError: deviations are needed and the backend cannot tell them.
    """
    if isinstance(backend, SamplingBackend):
        found = _measured(backend, circuits, angles, observables)
    elif uncertain and hasattr(backend, "expval_with_error"):
        found = [
            Estimate(*backend.probs_with_error(circuit, angles))  # type: ignore[attr-defined]
            if observables is None
            else Estimate(*backend.expval_with_error(circuit, angles, observables))
            for circuit in circuits
        ]
    elif uncertain and not backend.capabilities.exact:
        raise ValueError(f"{backend.name}: the uncertainty of its values is not known")
    else:
        probs = getattr(backend, "quasi_probs", backend.probs)
        values = [
            probs(circuit, angles) if observables is None else backend.expval(circuit, angles, observables)
            for circuit in circuits
        ]
        deviation = 0.0 if backend.capabilities.exact else torch.nan
        found = [Estimate(value, torch.full_like(value, deviation)) for value in values]
    return stacked(found, 0)


def _measured(
    backend: SamplingBackend, circuits: Sequence[Circuit], angles: Tensor, observables: Sequence[str] | None
) -> list[Estimate]:
    if observables is None:
        measured = backend.sample_circuits(circuits, angles, backend.shots, backend.generator)
        return [frequencies_over_shots(bits) for bits in measured]
    strings = parse_observables(observables, circuits[0].n_wires)
    groups = [measurement_groups(circuit, strings) for circuit in circuits]
    flat = [group for of_one in groups for group, _ in of_one]
    later = iter(backend.sample_circuits(flat, angles, backend.shots, backend.generator))
    return [expectations([(next(later), places) for _, places in of_one], strings) for of_one in groups]
