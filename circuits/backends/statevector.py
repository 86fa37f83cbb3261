"""``Statevector``: exact, batched, differentiable simulation in torch."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from circuits.backends.base import (
    Capabilities,
    check_angles,
    check_shots,
    draw_bits,
    fresh_generator,
    parse_observables,
)
from circuits.backends.program import Program, compile_circuit, permute, walsh_transform
from circuits.backends.schedule import schedule
from circuits.circuit import Circuit

__all__ = ["Statevector"]

_MOST_WIRES = 40


class Statevector:
    """Exact simulation of the state vector.

    A circuit is compiled once: neighbouring gates are fused to matrix products on a few wires, diagonal gates to
    phases, permutations to index arrays (see :class:`circuits.backends.program.Program`). Everything is ordinary
    torch, so gradients of any order flow back to the angles.

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
        try:
            self.device = torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device {device!r} is unknown; cpu, cuda or cuda:N is needed") from error
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {str(device)!r}: no CUDA device is available here")
        self.memory_limit = memory_limit

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
        program, flat = self._prepare(circuit, angles)
        state = program.run(flat)
        if program.restore is not None:
            state = permute(state, *program.restore)
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
        program, flat = self._prepare(circuit, angles)
        probabilities = torch.view_as_real(program.run(flat)).square().sum(-1)
        if program.restore is not None:
            probabilities = permute(probabilities, *program.restore)
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
        >>> Statevector().expval(plus, torch.zeros(0), ["X0", "ZI", "IZ"])
        tensor([1.0000, 0.0000, 1.0000], dtype=torch.float64)
        """
        strings = parse_observables(observables, circuit.n_wires)
        state = self.state(circuit, angles)
        state = state.reshape(math.prod(angles.shape[:-1]), state.shape[-1])
        states = torch.arange(state.shape[-1], device=self.device)
        columns: list[Tensor] = [state.new_empty(0)] * len(strings)
        for flip in dict.fromkeys(string.x_mask for string in strings):
            # sum_x conj(psi[x ^ flip]) (-1)^(parity of x & z) psi[x], for all z at once
            flipped = permute(state, states ^ flip, states ^ flip) if flip else state
            overlap = flipped.conj() * state
            spectrum = walsh_transform(
                torch.view_as_real(overlap).movedim(-1, 0).reshape(2 * len(state), state.shape[-1])
            )
            real, imaginary = spectrum.reshape(2, *state.shape)
            for place, string in enumerate(strings):
                if string.x_mask != flip:
                    continue
                turn = sum(letter == "Y" for _, letter in string.factors) % 4
                part = imaginary if turn % 2 else real
                sign = -1.0 if turn in (1, 2) else 1.0  # the real part of i^turn (real + i imaginary)
                columns[place] = sign * part[:, string.z_mask]
        return torch.stack(columns, -1).reshape(*angles.shape[:-1], len(strings))

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
        return draw_bits(self.probs(circuit, angles), shots, fresh_generator(generator))

    def _prepare(self, circuit: Circuit, angles: Tensor) -> tuple[Program, Tensor]:
        check_angles(circuit, angles)
        batch = math.prod(angles.shape[:-1])
        group = 2 if circuit.n_wires < 10 else 4  # on few qubits, building larger matrices costs more than it saves
        self._check_memory(circuit, batch, group, angles.requires_grad and torch.is_grad_enabled())
        program = compile_circuit(circuit, group, self.dtype, self.device)
        return program, angles.to(self.device, self.dtype.to_real()).reshape(batch, circuit.n_angles)

    def _check_memory(self, circuit: Circuit, batch: int, group: int, taped: bool) -> None:
        """Refuse before allocating what does not fit."""
        if circuit.n_wires > _MOST_WIRES:
            raise ValueError(f"{circuit.n_wires} qubits: a state vector has at most {_MOST_WIRES}")
        states = 10 + (_taped_states(circuit, group) if taped else 0)
        needed = (max(batch, 1) * states + 2) * 2**circuit.n_wires * self.dtype.itemsize
        free = self.memory_limit if self.memory_limit is not None else _free_memory(self.device)
        if needed > free:
            what = f"{circuit.n_wires} qubits, batch of {batch}{', with gradients' if taped else ''}"
            raise ValueError(
                f"{what}: needs about {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free on {self.device}"
            )


@lru_cache(maxsize=64)
def _taped_states(circuit: Circuit, group: int) -> int:
    """State vectors that a gradient keeps."""
    kept = {"dense": 1, "diagonal": 5, "permutation": 0}
    return sum(kept[block.kind] for block in schedule(circuit, group))


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
