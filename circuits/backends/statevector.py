"""``Statevector``: exact, batched, differentiable simulation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.backends.adjoint import grouped_probs, grouped_state
from circuits.backends.base import (
    Capabilities,
    check_angles,
    check_shots,
    draw_bits,
    fresh_generator,
    parse_observables,
)
from circuits.backends.memory import bytes_allowed, check_memory, torch_device
from circuits.backends.plain import plain_expval, plain_probs, plain_state, state_expval
from circuits.backends.sweep import is_swept
from circuits.backends.swept import swept_expval, swept_probs, swept_state
from circuits.circuit import Circuit
from circuits.metering import ran

__all__ = ["Statevector"]

_MOST_WIRES = 40
_MOST_SWEPT = 20
"""Qubits beyond which grouped matrix products, on all threads, take over."""

_PER_ROW = {"swept": (2, 4), "grouped": (4, 8), "plain": (10, 40)}
_SHARED = {"swept": (2, 6), "grouped": (4, 6), "plain": (2, 2)}
"""State vectors that a path keeps at once for each set of angles and for all, without and with gradients."""

_ALWAYS_FREE = 2**24  # bytes; asking the system takes longer than a small circuit


class Statevector:
    """Exact simulation of the state vector.

    A circuit is compiled once. On the CPU, states of up to 20 qubits go through compiled kernels on one thread
    (:mod:`circuits.backends.kernels`); larger ones and other devices through matrix products on a few wires at a time,
    phases and permutations, on all of torch's threads (:mod:`circuits.backends.adjoint`). Gradients are one backward
    sweep with the memory of a few states; higher derivatives are ordinary autograd.

    Args:
        dtype: ``torch.complex128`` or ``torch.complex64``; probabilities have the same precision.
        device: any torch device; results live there.
        memory_limit: bytes that a call may take; by default what is free on the device.

    Raises:
        ValueError: another dtype, or a device that is not here.

    >>> from circuits import Gate
    >>> bell = Circuit(2, [Gate("RY", [0], [0]), Gate("CNOT", [0, 1])])
    >>> Statevector().probs(bell, torch.tensor([torch.pi / 2], dtype=torch.float64))
    tensor([0.5000, 0.0000, 0.0000, 0.5000], dtype=torch.float64)
    """

    name = "statevector"
    capabilities = Capabilities(differentiable=True, exact=True, noisy=False, batched=True)

    def __init__(
        self,
        dtype: torch.dtype = torch.complex128,
        device: torch.device | str = "cpu",
        memory_limit: int | None = None,
    ) -> None:
        if dtype not in (torch.complex64, torch.complex128):
            raise ValueError(f"dtype is {dtype}; torch.complex64 or torch.complex128 is needed")
        self.dtype = dtype
        self.device = torch_device(device)
        self.memory_limit = bytes_allowed(memory_limit)

    def __repr__(self) -> str:
        return f"Statevector(dtype={self.dtype}, device={str(self.device)!r})"

    def state(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Amplitudes of the final state.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.

        Returns:
            ``(..., 2**n_wires)`` complex; wire 0 is the most significant bit.

        Raises:
            ValueError: angles of another shape, or more memory needed than there is.
        """
        path = self._path(circuit, angles)
        if path == "swept":
            return swept_state(circuit, angles, self.dtype)
        if path == "plain":
            return plain_state(circuit, angles, self.dtype, self.device)
        state = grouped_state(circuit, self._rows(angles), self.dtype, self.device)
        return state.reshape(*angles.shape[:-1], 2**circuit.n_wires)

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities of the basis states.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.

        Returns:
            ``(..., 2**n_wires)`` real; wire 0 is the most significant bit.

        Raises:
            ValueError: angles of another shape, or more memory needed than there is.
        """
        path = self._path(circuit, angles)
        if path == "swept":
            return swept_probs(circuit, angles, self.dtype)
        if path == "plain":
            return plain_probs(circuit, angles, self.dtype, self.device)
        probabilities = grouped_probs(circuit, self._rows(angles), self.dtype, self.device)
        return probabilities.reshape(*angles.shape[:-1], 2**circuit.n_wires)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            observables: Pauli strings, dense (``"ZIX"``, wire 0 leftmost) or sparse (``"Z0 X2"``).

        Returns:
            ``(..., n_observables)`` real.

        Raises:
            ValueError: angles of another shape, an impossible observable, or more memory needed than there is.

        >>> from circuits import Gate
        >>> plus = Circuit(2, [Gate("H", [0])])
        >>> Statevector().expval(plus, torch.zeros(0), ["X0", "IZ"])
        tensor([1., 1.], dtype=torch.float64)
        """
        strings = parse_observables(observables, circuit.n_wires)
        path = self._path(circuit, angles)
        if path == "swept":
            return swept_expval(circuit, angles, self.dtype, strings)
        if path == "plain":
            return plain_expval(circuit, angles, strings, self.dtype, self.device)
        values = state_expval(grouped_state(circuit, self._rows(angles), self.dtype, self.device), strings)
        return values.reshape(*angles.shape[:-1], len(strings))

    @torch.no_grad()
    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            shots: how many per set of angles.
            generator: source of randomness; without one, a new one seeded by the operating system.

        Returns:
            ``(..., shots, n_wires)`` uint8; wire 0 first.

        Raises:
            ValueError: angles of another shape or not finite, fewer than one shot, or more memory needed than there is.
        """
        check_shots(shots)
        probabilities = self.probs(circuit, angles)
        ran(0, shots * angles.shape[:-1].numel())
        return draw_bits(probabilities, shots, fresh_generator(generator))

    def _path(self, circuit: Circuit, angles: Tensor) -> str:
        """How to compute, which is counted; refuses what does not fit the memory."""
        check_angles(circuit, angles)
        n_wires = circuit.n_wires
        if n_wires > _MOST_WIRES:
            raise ValueError(f"{n_wires} qubits: a state vector has at most {_MOST_WIRES}")
        if torch._C._are_functorch_transforms_active():
            path = "plain"
        elif n_wires <= _MOST_SWEPT and self.device.type == angles.device.type == "cpu" and is_swept(circuit):
            path = "swept"
        else:
            path = "grouped"
        batch = angles.shape[:-1].numel()
        taped = angles.requires_grad and torch.is_grad_enabled()
        states = max(batch, 1) * _PER_ROW[path][taped] + _SHARED[path][taped]
        needed = states * self.dtype.itemsize << n_wires
        if needed > _ALWAYS_FREE or self.memory_limit is not None:
            what = f"{n_wires} qubits, batch of {batch}{', with gradients' if taped else ''}"
            check_memory(needed, self.memory_limit, self.device, what)
        ran(batch)
        return path

    def _rows(self, angles: Tensor) -> Tensor:
        """The angles as ``(batch, n_angles)``, on the device."""
        return angles.reshape(angles.shape[:-1].numel(), angles.shape[-1]).to(self.device)
