"""States of optical modes that several tests measure."""

from __future__ import annotations

import torch

from circuits.cv import CVGate, Fock, FockState, Program
from circuits.cv.basis import BasisKind, FockBasis
from circuits.cv.mixed_state import MixedFockState

NOTHING = torch.zeros(0, dtype=torch.float64)


def random_state(basis: FockBasis, batch: tuple[int, ...] = (), seed: int = 0, norm: float = 0.9) -> FockState:
    rng = torch.Generator().manual_seed(seed)
    amplitudes = torch.randn(*batch, basis.size, dtype=torch.complex128, generator=rng)
    return FockState(amplitudes * norm**0.5 / amplitudes.norm(dim=-1, keepdim=True), basis)


def random_mixture(basis: FockBasis, seed: int = 0, norm: float = 0.8) -> MixedFockState:
    parts = random_state(basis, (3,), seed).amplitudes
    matrix = torch.einsum("k,ki,kj->ij", torch.tensor([0.5, 0.3, 0.2]).to(parts), parts, parts.conj())
    return MixedFockState(matrix * norm / matrix.trace(), basis)


def projector(state: FockState) -> MixedFockState:
    matrix = state.amplitudes[..., :, None] * state.amplitudes[..., None, :].conj()
    return MixedFockState(matrix, state.basis, state.hbar)


def prepare(n_modes: int, *gates: CVGate, cutoff: int = 30, basis: BasisKind = "mode", hbar: float = 2.0) -> FockState:
    return Fock(cutoff, basis=basis, hbar=hbar).run(Program(n_modes, gates), NOTHING)
