r"""How much of the state space a circuit reaches, and how much it entangles (1905.10876).

**Expressibility** is the Kullback-Leibler divergence of the distribution of the fidelity
:math:`F = |\langle\psi(\alpha)|\psi(\beta)\rangle|^2` between two states of random angles from that between two
Haar-random states,

.. math:: \mathrm{Expr} = D_{KL}\bigl(P(F) \,\|\, P_{Haar}(F)\bigr),
          \quad P_{Haar}(F) = (N-1)(1-F)^{N-2}, \quad N = 2^n ,

in nats and in bins of equal width: 0 for a circuit whose states are as random as can be, large for one that reaches
little. **Entangling capability** is the mean of the Meyer-Wallach measure
:math:`Q = 2 \bigl(1 - \frac1n \sum_k \mathrm{Tr}\,\rho_k^2\bigr)` over random angles, with :math:`\rho_k` the state of
qubit :math:`k` alone: 0 for product states, 1 where every qubit is maximally entangled with the others.

Angles are uniform over a turn. Both say what a circuit can do, not what it learns: circuits of the smallest
divergence have the smallest gradients (2101.02138).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from circuits.backends import Statevector
from circuits.circuit import Circuit

__all__ = [
    "Expressibility",
    "Measured",
    "entangling_capability",
    "expressibility",
    "fidelity_divergence",
    "haar_bins",
    "meyer_wallach",
]

REPEATS = 200
"""Draws of a histogram from which an uncertainty or a floor is taken."""

_AMPLITUDES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Measured:
    """A number with its statistical uncertainty, one standard deviation."""

    value: float
    uncertainty: float


@dataclass(frozen=True)
class Expressibility(Measured):
    """A divergence, with what Haar-random states themselves score in a histogram of as many pairs.

    Args:
        floor: mean divergence of as many fidelities between Haar-random states; the value of a perfect circuit.
    """

    floor: float


def expressibility(
    circuit: Circuit,
    n_pairs: int = 2000,
    bins: int = 75,
    *,
    generator: torch.Generator,
    backend: Statevector | None = None,
) -> Expressibility:
    """Divergence of a circuit's fidelities from those of Haar-random states, in nats.

    In bins of equal width the fidelities of many qubits fall into the first one, whatever the circuit: from about 10
    qubits on take more bins, or compare with the floor.

    Args:
        circuit: the circuit; all of its angles are drawn, inputs too.
        n_pairs: pairs of states.
        bins: of the fidelity, between 0 and 1; 75 in 1905.10876.
        generator: source of randomness.
        backend: where the states are computed; a :class:`~circuits.backends.Statevector` on the CPU by default.

    Raises:
        ValueError: fewer than 2 pairs or bins.

    >>> from circuits import ansatz
    >>> circuits = [ansatz.hardware_efficient(4, layers) for layers in (1, 3)]
    >>> [round(expressibility(c, generator=torch.Generator().manual_seed(0)).value, 2) for c in circuits]
    [0.32, 0.01]
    """
    if n_pairs < 2:
        raise ValueError(f"n_pairs is {n_pairs}; at least 2 are needed")
    states = _random_states(circuit, 2 * n_pairs, generator, backend)
    fidelities = torch.cat([(a.conj() * b).sum(1).abs().square() for a, b in (pair.chunk(2) for pair in states)])
    return fidelity_divergence(fidelities, 2**circuit.n_wires, bins, generator=generator)


def entangling_capability(
    circuit: Circuit, n_states: int = 1000, *, generator: torch.Generator, backend: Statevector | None = None
) -> Measured:
    """Mean Meyer-Wallach measure of the states of random angles.

    Args:
        circuit: the circuit, on at least 2 wires; all of its angles are drawn, inputs too.
        n_states: how many.
        generator: source of randomness.
        backend: where the states are computed; a :class:`~circuits.backends.Statevector` on the CPU by default.

    Raises:
        ValueError: one wire, or fewer than 2 states.

    >>> from circuits import Gate
    >>> bell = Circuit(2, [Gate("H", [0]), Gate("CNOT", [0, 1])])
    >>> round(entangling_capability(bell, generator=torch.Generator()).value, 12)
    1.0
    """
    if n_states < 2:
        raise ValueError(f"n_states is {n_states}; at least 2 are needed")
    measure = torch.cat([meyer_wallach(some) for some in _random_states(circuit, n_states, generator, backend)])
    return Measured(measure.mean().item(), measure.std().item() / math.sqrt(len(measure)))


def meyer_wallach(states: Tensor) -> Tensor:
    """The measure ``Q`` of pure states, ``(..., 2**n)`` complex to ``(...)`` real.

    Raises:
        ValueError: the last dimension is no ``2**n`` with ``n`` at least 2.
    """
    n_wires = states.shape[-1].bit_length() - 1
    if n_wires < 2 or states.shape[-1] != 2**n_wires:
        raise ValueError(f"states have {states.shape[-1]} amplitudes; 2**n for at least 2 wires are needed")
    flat = states.reshape(-1, 2**n_wires)
    purity = torch.zeros(len(flat), dtype=flat.real.dtype, device=flat.device)
    for wire in range(n_wires):
        up, down = flat.reshape(len(flat), 2**wire, 2, -1).unbind(2)
        weights = (up.abs().square().sum((1, 2)), down.abs().square().sum((1, 2)))
        overlap = (up.conj() * down).sum((1, 2)).abs().square()
        purity += weights[0].square() + weights[1].square() + 2 * overlap
    return (2 * (1 - purity / n_wires)).reshape(states.shape[:-1])


def haar_bins(n_states: int, bins: int) -> np.ndarray:
    """Logarithm of the probability of each of ``bins`` equal bins of the fidelity of Haar-random states.

    Args:
        n_states: dimension of the state space, at least 2.
        bins: at least 2.

    >>> np.exp(haar_bins(4, 2)).round(3).tolist()
    [0.875, 0.125]
    """
    above = (n_states - 1) * np.log1p(-np.arange(bins) / bins)  # logarithm of the probability beyond each lower edge
    with np.errstate(divide="ignore"):
        return above + np.log1p(-np.exp(np.diff(above, append=-np.inf)))


def fidelity_divergence(
    fidelities: Tensor, n_states: int, bins: int = 75, *, generator: torch.Generator
) -> Expressibility:
    """Divergence of a histogram of fidelities from that of Haar-random states, in nats.

    The uncertainty is that of histograms drawn again from this one.

    Args:
        fidelities: ``(n_pairs,)`` between 0 and 1.
        n_states: dimension of the state space, at least 2.
        bins: of equal width between 0 and 1.
        generator: source of the randomness of uncertainty and floor.

    Raises:
        ValueError: fewer than 2 bins.
    """
    if bins < 2:
        raise ValueError(f"bins is {bins}; at least 2 are needed")
    haar = haar_bins(n_states, bins)
    place = (fidelities * bins).long().clamp(0, bins - 1).cpu()
    counts = np.bincount(place.numpy(), minlength=bins)
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
    again = [_divergence(draw, haar) for draw in rng.multinomial(len(place), counts / len(place), REPEATS)]
    chance = np.exp(haar)
    perfect = [_divergence(draw, haar) for draw in rng.multinomial(len(place), chance / chance.sum(), REPEATS)]
    return Expressibility(_divergence(counts, haar), float(np.std(again, ddof=1)), float(np.mean(perfect)))


def _divergence(counts: np.ndarray, log_expected: np.ndarray) -> float:
    found = counts > 0
    share = counts[found] / counts.sum()
    return float((share * (np.log(share) - log_expected[found])).sum())


@torch.no_grad()
def _random_states(circuit: Circuit, n: int, generator: torch.Generator, backend: Statevector | None) -> list[Tensor]:
    """States ``(even number, 2**n_wires)`` of random angles, together ``n`` of them, a chunk after the other."""
    backend = backend if backend is not None else Statevector()
    turns = torch.rand((n, circuit.n_angles), generator=generator, dtype=torch.float64, device=generator.device)
    at_once = max(2, _AMPLITUDES_AT_ONCE // 2**circuit.n_wires // 2 * 2)
    return [backend.state(circuit, angles) for angles in (2 * math.pi * turns).split(at_once)]
