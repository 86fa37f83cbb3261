"""``DensityMatrix``: exact, differentiable simulation with noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from circuits.backends.base import (
    Capabilities,
    PauliString,
    check_angles,
    check_shots,
    draw_bits,
    fresh_generator,
    parse_observables,
)
from circuits.backends.cones import Cones, compile_cones
from circuits.backends.memory import bytes_allowed, check_memory, torch_device
from circuits.backends.transfer import TransferProgram, compile_transfer
from circuits.channels import ReadoutError
from circuits.circuit import Circuit
from circuits.metering import ran
from circuits.noise import NoiseModel, PreparedCircuit

__all__ = ["DensityMatrix", "measured_probabilities"]

_MOST_WIRES = 16


class DensityMatrix:
    """Exact simulation of the density matrix, with noise.

    The state is the real vector of its ``4**n`` Pauli coefficients; each gate with its noise is a real matrix, and
    neighbouring ones are multiplied together first (see :mod:`circuits.backends.transfer`). Everything is ordinary
    torch, so gradients of any order flow back to the angles, through the noise. Expectation values of a few wires are
    computed from their light cones where that is less work (see :mod:`circuits.backends.cones`).

    Probabilities and expectation values are those that measured bits would estimate: readout errors count in both. The
    change of basis that a measurement of X or Y needs is taken as free of other noise. Without noise the results are
    those of :class:`~circuits.backends.statevector.Statevector`.

    Args:
        noise: the noise, or what :meth:`circuits.noise.NoiseModel.from_config` reads; None for none.
        dtype: ``torch.float64`` or ``torch.float32``, of state and results.
        device: any torch device; results live there.
        memory_limit: bytes that a call may take; by default what is free on the device.

    Raises:
        ValueError: another dtype, a device that is not here, or an impossible noise model.

    >>> from circuits import Gate
    >>> bell = Circuit(2, [Gate("H", [0]), Gate("CNOT", [0, 1])])
    >>> noisy = DensityMatrix({"gates": {"CNOT": {"depolarizing": 0.2}}})
    >>> noisy.probs(bell, torch.zeros(0))
    tensor([0.4500, 0.0500, 0.0500, 0.4500], dtype=torch.float64)
    >>> noisy.expval(bell, torch.zeros(0), ["XX", "ZI"])
    tensor([0.8000, 0.0000], dtype=torch.float64)
    """

    name = "density_matrix"

    def __init__(
        self,
        noise: NoiseModel | Mapping[str, Any] | str | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        memory_limit: int | None = None,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; torch.float32 or torch.float64 is needed")
        self.dtype = dtype
        self.noise = NoiseModel.from_config(noise)
        self.device = torch_device(device)
        self.memory_limit = bytes_allowed(memory_limit)

    @property
    def capabilities(self) -> Capabilities:
        """Exact and differentiable; noisy with a noise model."""
        return Capabilities(differentiable=True, exact=True, noisy=self.noise != NoiseModel(), batched=True)

    def __repr__(self) -> str:
        return f"DensityMatrix(dtype={self.dtype}, device={str(self.device)!r})"

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities of the bits read, with readout errors.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.

        Returns:
            ``(..., 2**n_wires)`` real; wire 0 is the most significant bit.

        Raises:
            ValueError: angles of another shape, a circuit that the noise model's device cannot host, or more memory
                needed than there is.
        """
        prepared, program, state = self._run(circuit, angles)
        index = _z_strings(program.order, prepared.measured, self.device)
        readout = prepared.noise.readout_of(prepared.measured)
        values = _from_signs(state.index_select(1, index), readout)
        values = values + (values.clamp(min=0) - values).detach()  # rounding must not make them negative
        return values.reshape(*angles.shape[:-1], 2**circuit.n_wires)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings, as measured: with readout errors.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            observables: Pauli strings, dense (``"ZIX"``, wire 0 leftmost) or sparse (``"Z0 X2"``).

        Returns:
            ``(..., n_observables)`` real.

        Raises:
            ValueError: angles of another shape, an impossible observable, a circuit that the noise model's device
                cannot host, or more memory needed than there is.
        """
        check_angles(circuit, angles)
        strings = parse_observables(observables, circuit.n_wires)
        prepared = self.noise.prepare(circuit)
        measured = prepared.measured
        cones = self._cones(prepared, strings)
        orders: Sequence[Sequence[int]]
        if cones.pay:
            flat, taped = self._flat(circuit, angles)
            check_memory(
                max(len(flat), 1) * cones.numbers(taped) * self.dtype.itemsize,
                self.memory_limit,
                self.device,
                f"density matrices of light cones, batch of {len(flat)}{', with gradients' if taped else ''}",
            )
            orders, states = cones.supports, cones.run(flat)
        else:
            _, program, state = self._run(circuit, angles)
            orders, states = [program.order] * len(strings), [state] * len(strings)
        readout = prepared.noise.readout_of(measured)
        columns = []
        for string, order, state in zip(strings, orders, states, strict=True):
            index, weight = _as_read(string, order, measured, readout)
            columns.append(state.index_select(1, index.to(self.device)) @ weight.to(self.device, self.dtype))
        return torch.stack(columns, -1).reshape(*angles.shape[:-1], len(strings))

    @torch.no_grad()
    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, with readout errors.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            shots: how many per set of angles.
            generator: source of randomness; without one, a new one seeded by the operating system.

        Returns:
            ``(..., shots, n_wires)`` uint8; wire 0 first.

        Raises:
            ValueError: as of :meth:`probs`, fewer than one shot, or angles that are not finite.
        """
        check_shots(shots)
        probabilities = self.probs(circuit, angles)
        ran(0, shots * angles.shape[:-1].numel())
        return draw_bits(probabilities, shots, fresh_generator(generator))

    def row_size(self, circuit: Circuit, observables: Sequence[str] | None = None) -> int:
        """About how many numbers are held for one row of angles; see :func:`circuits.backends.layers.row_size`."""
        prepared = self.noise.prepare(circuit)
        if observables is not None:
            cones = self._cones(prepared, parse_observables(observables, circuit.n_wires))
            if cones.pay:
                return cones.numbers(taped=False)
        return compile_transfer(circuit, self.noise, self.dtype, self.device)[1].row_size

    def _cones(self, prepared: PreparedCircuit, strings: Sequence[PauliString]) -> Cones:
        supports = tuple(tuple(prepared.measured[wire] for wire, _ in string.factors) for string in strings)
        return compile_cones(prepared, supports, self.dtype, self.device)

    def coefficients(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The state before it is read: ``tr(P rho)`` for all Pauli strings on the wires that are run.

        Returns:
            ``(..., 4**n)``, letters in the order I, X, Y, Z, first wire most significant. A transpiled circuit may run
            on more wires than it was written on; see :meth:`circuits.noise.NoiseModel.prepare`.

        Raises:
            ValueError: as of :meth:`probs`.
        """
        _, program, state = self._run(circuit, angles)
        back = [1 + program.order.index(wire) for wire in range(program.n_wires)]
        ordered = state.reshape(-1, *[4] * program.n_wires).permute(0, *back)
        return ordered.reshape(*angles.shape[:-1], 4**program.n_wires)

    def _run(self, circuit: Circuit, angles: Tensor) -> tuple[PreparedCircuit, TransferProgram, Tensor]:
        check_angles(circuit, angles)
        batch = math.prod(angles.shape[:-1])
        self._check_wires(self.noise.prepare(circuit).circuit.n_wires)
        prepared, program = compile_transfer(circuit, self.noise, self.dtype, self.device)
        flat, taped = self._flat(circuit, angles)
        states = 4 + (program.n_products + program.n_moves if taped else 0)
        check_memory(
            max(batch, 1) * states * 4**program.n_wires * self.dtype.itemsize,
            self.memory_limit,
            self.device,
            f"density matrix of {program.n_wires} qubits, batch of {batch}{', with gradients' if taped else ''}",
        )
        return prepared, program, program.run(flat)

    def _flat(self, circuit: Circuit, angles: Tensor) -> tuple[Tensor, bool]:
        """The angles as ``(batch, n_angles)``, which are counted, and whether gradients will be asked for."""
        flat = angles.to(self.device, self.dtype).reshape(math.prod(angles.shape[:-1]), circuit.n_angles)
        ran(len(flat))
        return flat, angles.requires_grad and torch.is_grad_enabled()

    def _check_wires(self, n_wires: int) -> None:
        if n_wires > _MOST_WIRES:
            raise ValueError(
                f"{n_wires} qubits: a density matrix has at most {_MOST_WIRES}; Trajectories has no such limit"
            )
        check_memory(
            4 * 4**n_wires * self.dtype.itemsize, self.memory_limit, self.device, f"density matrix of {n_wires} qubits"
        )


@lru_cache(maxsize=64)
def _z_strings(order: tuple[int, ...], measured: tuple[int, ...], device: torch.device) -> Tensor:
    """Where the strings of I and Z on the measured wires are, ``(2**len(measured),)``."""
    index = torch.zeros(1, dtype=torch.int64)
    for wire in measured:
        stride = 4 ** (len(order) - 1 - order.index(wire))
        index = (index[:, None] + torch.tensor([0, 3 * stride])).flatten()
    return index.to(device)


def measured_probabilities(probs: Tensor, readout: Sequence[ReadoutError]) -> Tensor:
    """Probabilities of the bits read from those of the true bits, ``(batch, 2**n)``."""
    return _by_wire(probs, [torch.tensor(error.confusion, dtype=torch.float64) for error in readout])


def _from_signs(values: Tensor, readout: Sequence[ReadoutError]) -> Tensor:
    """Probabilities of the bits read from the expectation values of the strings of I and Z, ``(batch, 2**n)``."""
    half = torch.tensor([[0.5, 0.5], [0.5, -0.5]], dtype=torch.float64)
    return _by_wire(values, [torch.tensor(error.confusion, dtype=torch.float64) @ half for error in readout])


def _by_wire(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """A 2 x 2 matrix on each wire of ``(batch, 2**n)``."""
    batch, size = values.shape
    for first in range(0, len(matrices), 4):
        joined = torch.ones((1, 1), dtype=torch.float64)
        for matrix in matrices[first : first + 4]:
            joined = torch.kron(joined, matrix)
        split = values.reshape(batch, len(joined), size // len(joined))
        values = split.transpose(1, 2) @ joined.to(values.device, values.dtype).T
    return values.reshape(batch, size)


def _as_read(
    string: PauliString, order: Sequence[int], measured: Sequence[int], readout: Sequence[ReadoutError]
) -> tuple[Tensor, Tensor]:
    """The coefficients that make up a measured Pauli string: where they are, and their weights."""
    index, weight = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    for wire, letter in string.factors:
        error = readout[wire]
        stride = 4 ** (len(order) - 1 - order.index(measured[wire])) * "IXYZ".index(letter)
        keep = 1 - error.p01 - error.p10
        if error.p10 == error.p01:
            index, weight = index + stride, weight * keep
            continue
        index = (index[:, None] + torch.tensor([0, stride])).flatten()
        weight = (weight[:, None] * torch.tensor([error.p10 - error.p01, keep], dtype=torch.float64)).flatten()
    return index, weight
