"""States, probabilities and expectation values as ordinary torch operations, differentiable any number of times.

Every operation is on autograd's tape, so a gradient takes memory for each of them; the faster paths come here for
second derivatives and for the transforms of ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuits.backends.base import PauliString
from circuits.backends.program import Program, compile_circuit, permute, walsh_transform
from circuits.circuit import Circuit

__all__ = ["asks_for_plain", "plain_expval", "plain_probs", "plain_state", "state_expval"]


def asks_for_plain(gradient: Tensor) -> bool:
    """Whether a backward pass needs ordinary operations: it is differentiated again, or stands for many at once."""
    functorch = torch._C._functorch
    return (
        torch.is_grad_enabled() or functorch.is_batchedtensor(gradient) or functorch.is_legacy_batchedtensor(gradient)
    )


def _run(circuit: Circuit, angles: Tensor, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Program]:
    group = 2 if circuit.n_wires < 10 else 4  # on few qubits, building larger matrices costs more than it saves
    program = compile_circuit(circuit, group, dtype, device)
    rows = angles.reshape(angles.shape[:-1].numel(), circuit.n_angles)
    return program.run(rows.to(device, dtype.to_real())), program


def plain_state(circuit: Circuit, angles: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Amplitudes, ``(..., n_angles)`` to ``(..., 2**n_wires)`` complex."""
    state, program = _run(circuit, angles, dtype, device)
    state = state if program.restore is None else permute(state, *program.restore)
    return state.reshape(*angles.shape[:-1], state.shape[-1])


def plain_probs(circuit: Circuit, angles: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Probabilities, ``(..., n_angles)`` to ``(..., 2**n_wires)`` real."""
    state, program = _run(circuit, angles, dtype, device)
    values = torch.view_as_real(state).square().sum(-1)
    values = values if program.restore is None else permute(values, *program.restore)
    return values.reshape(*angles.shape[:-1], values.shape[-1])


def plain_expval(
    circuit: Circuit, angles: Tensor, strings: Sequence[PauliString], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Expectation values, ``(..., n_angles)`` to ``(..., n_strings)`` real."""
    return state_expval(plain_state(circuit, angles, dtype, device), strings)


def state_expval(state: Tensor, strings: Sequence[PauliString]) -> Tensor:
    """Expectation values of Pauli strings in states ``(..., 2**n_wires)``, as ``(..., n_strings)`` real."""
    lead, state = state.shape[:-1], state.reshape(state.shape[:-1].numel(), state.shape[-1])
    states = torch.arange(state.shape[-1], device=state.device)
    columns: list[Tensor] = [state.new_empty(0)] * len(strings)
    for flip in dict.fromkeys(string.x_mask for string in strings):
        # sum_x conj(psi[x ^ flip]) (-1)^(parity of x & z) psi[x], for all z at once
        flipped = permute(state, states ^ flip, states ^ flip) if flip else state
        overlap = flipped.conj() * state
        spectrum = walsh_transform(torch.view_as_real(overlap).movedim(-1, 0).reshape(2 * len(state), state.shape[-1]))
        real, imaginary = spectrum.reshape(2, *state.shape)
        for place, string in enumerate(strings):
            if string.x_mask != flip:
                continue
            turn = sum(letter == "Y" for _, letter in string.factors) % 4
            part = imaginary if turn % 2 else real
            sign = -1.0 if turn in (1, 2) else 1.0  # the real part of i^turn (real + i imaginary)
            columns[place] = sign * part[:, string.z_mask]
    return torch.stack(columns, -1).reshape(*lead, len(strings))
