"""``Fock``: batched, differentiable simulation of optical modes in a truncated basis of photon-number states."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits.backends.memory import bytes_allowed, check_memory, torch_device
from circuits.cv.basis import BasisKind, FockBasis, basis_size
from circuits.cv.fock_state import FockState
from circuits.cv.passes import entries_of, run_passes
from circuits.cv.program import Program
from circuits.cv.schedule import schedule
from circuits.gates import finite_number, integer

__all__ = ["Fock", "TruncationWarning", "split_parameters"]

_ALWAYS_FREE = 2**24


class TruncationWarning(UserWarning):
    """A truncated simulation lost more of a state's norm than it was told to accept."""


class Fock:
    r"""Simulation in a truncated basis of photon-number states.

    The matrices of all gates are those of the whole space, cut (:mod:`circuits.cv.matrices`): what a gate drives
    beyond the cutoff is lost, and :attr:`~circuits.cv.fock_state.FockState.norm_lost` says how much.

    Args:
        cutoff: the first photon number that is left out.
        basis: ``mode``, the cutoff is that of each mode, or ``total``, of all photons together
            (:class:`~circuits.cv.basis.FockBasis`).
        dtype: ``torch.complex128`` or ``torch.complex64``.
        device: any torch device; results live there.
        hbar: fixes the units of quadratures; 2 as in PennyLane, so that the vacuum's variance is 1.
        warn_above: lost norm above which a run gives a :class:`TruncationWarning`; None for never.
        memory_limit: bytes that a call may take; by default what is free on the device.

    Raises:
        ValueError: an argument that is not allowed; the line names it.

    >>> from circuits.cv import CVGate, Program
    >>> program = Program(1, [CVGate("Displacement", 0, (0, 0.0))])
    >>> state = Fock(cutoff=12).run(program, torch.tensor([0.5], dtype=torch.float64))
    >>> state.quadratures()[0]
    tensor([1.0000], dtype=torch.float64)
    """

    def __init__(
        self,
        cutoff: int,
        *,
        basis: BasisKind = "mode",
        dtype: torch.dtype = torch.complex128,
        device: torch.device | str = "cpu",
        hbar: float = 2.0,
        warn_above: float | None = 0.01,
        memory_limit: int | None = None,
    ) -> None:
        if dtype not in (torch.complex64, torch.complex128):
            raise ValueError(f"dtype is {dtype}; complex64 or complex128 is needed")
        self.cutoff = integer(cutoff, "cutoff", 1)
        self.basis: BasisKind = FockBasis(1, 1, basis).kind
        self.dtype = dtype
        self.device = torch_device(device)
        self.hbar = finite_number(hbar, "hbar")
        if self.hbar <= 0:
            raise ValueError(f"hbar is {hbar}; a positive number is needed")
        self.warn_above = None if warn_above is None else finite_number(warn_above, "warn_above")
        self.memory_limit = bytes_allowed(memory_limit)

    def run(self, program: Program, parameters: Tensor, inputs: Tensor | None = None) -> FockState:
        """The state that a program prepares.

        Args:
            program: without loss.
            parameters: the program's parameter vector ``(..., n_parameters)``, or its first entries if ``inputs`` are
                given.
            inputs: its last entries, ``(..., n_inputs)``. Gates that only depend on parameters without leading
                dimensions are computed once for the whole batch, which is much faster.

        Raises:
            ValueError: shapes that do not fit, a parameter that is not finite, or more memory than there is.
        """
        parameters, inputs, batch = split_parameters(program, parameters, inputs)
        n_shared = parameters.shape[-1] if parameters.ndim == 1 else 0
        basis = FockBasis(program.n_modes, self.cutoff, self.basis)
        rows = max(1, math.prod(batch))
        needed = basis_size(program.n_modes, self.cutoff, self.basis) * rows * self.dtype.itemsize * 4
        if needed > _ALWAYS_FREE:
            what = f"{program.n_modes} modes, cutoff {self.cutoff}, batch of {rows}"
            check_memory(needed, self.memory_limit, self.device, what)
        plan = schedule(program, basis, n_shared)
        shared = parameters if parameters.ndim == 1 else parameters.new_empty(0)
        each = torch.cat(
            [part.expand(*batch, -1) for part in (parameters, inputs) if part is not None and part.ndim > 1]
            or [parameters.new_empty(0)],
            dim=-1,
        ).reshape(-1 if batch else 1, program.n_parameters - n_shared)
        entries = entries_of(plan, shared.to(self.device), each.to(self.device), self.hbar, self.dtype)
        amplitudes = run_passes(plan, entries, rows)  # (size, rows)
        return FockState(amplitudes.T.reshape(*batch, -1), basis, self.hbar)


def split_parameters(
    program: Program, parameters: Tensor, inputs: Tensor | None
) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """Both parts of a parameter vector as float64, and the shape of the batch.

    Raises:
        ValueError: shapes that do not fit the program, or a number that is not finite.
    """
    found = 0
    for name, part in (("parameters", parameters), ("inputs", inputs)):
        if part is None and name == "inputs":
            continue
        if not isinstance(part, Tensor) or part.is_complex() or part.ndim == 0:
            what = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise ValueError(f"{name} are {what}; a real tensor of shape (..., n) is needed")
        found += part.shape[-1]
        bad = (~torch.isfinite(part)).nonzero()
        if len(bad):
            place = bad[0].tolist()
            raise ValueError(f"{name} at {place}: {part[tuple(place)].item()} is not finite")
    if found != program.n_parameters:
        raise ValueError(f"{found} parameters are given; the program has {program.n_parameters}")
    try:
        batch = torch.broadcast_shapes(parameters.shape[:-1], () if inputs is None else inputs.shape[:-1])
    except RuntimeError:
        shapes = " and ".join(str(tuple(part.shape)) for part in (parameters, inputs) if part is not None)
        raise ValueError(f"leading dimensions of parameters and inputs, {shapes}, do not fit") from None
    return parameters.to(torch.float64), None if inputs is None else inputs.to(torch.float64), tuple(batch)
