"""What stands around what: an engine and the wrappers around it, seen as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from circuits.backends.base import Backend
from circuits.backends.sampled import SamplingBackend
from circuits.circuit import Circuit

__all__ = ["layers", "reseed", "row_size", "shots_of"]


def layers(backend: Backend) -> Iterator[Backend]:
    """The backend and, from the outside in, each one that it wraps (its attribute ``backend``); the engine is last.

    >>> from circuits.backends import ParameterShift, Sampled, Statevector
    >>> [type(layer).__name__ for layer in layers(ParameterShift(Sampled(Statevector(), 10)))]
    ['ParameterShift', 'Sampled', 'Statevector']
    """
    layer: Backend | None = backend
    while layer is not None:
        yield layer
        layer = getattr(layer, "backend", None)


def shots_of(backend: Backend) -> int | None:
    """How many measurements of a circuit stand behind each probability, None where it is computed.

    What a mitigation spends on its calibration does not count.

    >>> from circuits.backends import ParameterShift, Sampled, Statevector
    >>> shots_of(ParameterShift(Sampled(Statevector(), 10))), shots_of(Statevector())
    (10, None)
    """
    *around, engine = layers(backend)
    for layer in (*(layer for layer in around if isinstance(layer, SamplingBackend)), engine):
        shots = getattr(layer, "shots", None)
        if isinstance(shots, int):
            return shots
    return None


def row_size(backend: Backend, circuit: Circuit, observables: Sequence[str] | None = None) -> int:
    """About how many numbers a backend holds for one row of angles: how large a batch should be follows from it.

    The outermost layer with a method ``row_size`` of its own is asked; an engine without one is taken to hold a state
    vector, or if it is exact with noise a density matrix.

    Args:
        backend: the engine, or wrappers around one.
        circuit: what runs.
        observables: whose expectation values are asked for; None for probabilities or samples.

    >>> from circuits import ansatz
    >>> from circuits.backends import DensityMatrix, Sampled, Statevector
    >>> circuit, noisy = ansatz.mera_up(10), DensityMatrix({"gates": {"CNOT": {"depolarizing": 0.01}}})
    >>> [row_size(backend, circuit) // 1000 for backend in (Statevector(), noisy, Sampled(noisy, 100))]
    [1, 1052, 1052]
    >>> row_size(noisy, circuit, ["Z0", "Z9"]) // 1000
    4
    """
    for depth, layer in enumerate(layers(backend)):
        own = getattr(layer, "row_size", None)
        if own is not None:
            return int(own(circuit, observables if depth == 0 else None))
    able = layer.capabilities
    return 4**circuit.n_wires if able.exact and able.noisy else 2**circuit.n_wires


def reseed(backend: Backend, generator: torch.Generator) -> None:
    """Let every later random draw of a backend and of what it wraps follow from a generator.

    A layer that draws has an attribute ``generator``; it is replaced by a new one, so that a generator which others
    hold as well goes on undisturbed. Of an exact backend nothing is drawn. A calibration of the readout keeps the seed
    that it was made with: it is the same whenever it is asked for.

    Args:
        backend: is changed in place.
        generator: gives one seed to each layer that draws.

    >>> from circuits import Circuit, Gate
    >>> from circuits.backends import Sampled, Statevector
    >>> coin, measured = Circuit(1, [Gate("H", [0])]), Sampled(Statevector(), 100)
    >>> reseed(measured, torch.Generator().manual_seed(3))
    >>> once = measured.probs(coin, torch.zeros(0))
    >>> reseed(measured, torch.Generator().manual_seed(3))
    >>> torch.equal(measured.probs(coin, torch.zeros(0)), once)
    True
    """
    for layer in layers(backend):
        if isinstance(getattr(layer, "generator", None), torch.Generator):
            seed = torch.randint(2**63 - 1, (), generator=generator, device=generator.device)
            layer.generator = torch.Generator().manual_seed(int(seed))  # type: ignore[attr-defined]
