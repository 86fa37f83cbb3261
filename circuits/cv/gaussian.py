r"""``Gaussian``: exact simulation of programs whose states stay Gaussian, by means and covariances.

A Gaussian gate maps quadratures :math:`r = (x_0, \dots, x_{M-1}, p_0, \dots, p_{M-1})` to :math:`S r + d`, hence means
:math:`\mu \to S \mu + d` and covariances :math:`V \to S V S^T`. A loss of transmissivity :math:`T` maps those of its
mode to :math:`\sqrt T r`, and adds :math:`(1 - T) \hbar / 2` to their variances. (Weedbrook et al., arXiv:1110.3234.)

Gates on different modes are put side by side into one matrix, and matrices that all samples share are multiplied
before they meet a sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits.backends.memory import bytes_allowed, check_memory, torch_device
from circuits.cv.arguments import positive
from circuits.cv.fock import split_parameters
from circuits.cv.gaussian_plan import GaussianPlan, gaussian_plan
from circuits.cv.gaussian_state import GaussianState
from circuits.cv.program import Program

__all__ = ["Gaussian"]

_ALWAYS_FREE = 2**24


class Gaussian:
    r"""Exact simulation of Gaussian programs: nothing is truncated, and cost grows with the modes as a polynomial.

    Args:
        hbar: fixes the units of quadratures; 2 as in PennyLane, so that the vacuum's variance is 1.
        dtype: ``torch.float64`` or ``torch.float32``.
        device: any torch device; results live there.
        memory_limit: bytes that a call may take; by default what is free on the device.

    Raises:
        ValueError: an argument that is not allowed; the line names it.

    >>> from circuits.cv import CVGate, Program
    >>> program = Program(1, [CVGate("Squeezing", 0, (0, 0.0)), CVGate("Loss", 0, (0.5,))])
    >>> state = Gaussian().run(program, torch.tensor([1.0], dtype=torch.float64))
    >>> state.covariance
    tensor([[0.5677, 0.0000],
            [0.0000, 4.1945]], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        hbar: float = 2.0,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        memory_limit: int | None = None,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; float32 or float64 is needed")
        self.hbar = positive(hbar, "hbar")
        self.dtype = dtype
        self.device = torch_device(device)
        self.memory_limit = bytes_allowed(memory_limit)

    def run(self, program: Program, parameters: Tensor, inputs: Tensor | None = None) -> GaussianState:
        """The state that a program prepares.

        Args:
            program: without Kerr, cross-Kerr and cubic phase gates and without photons at its start.
            parameters: the program's parameter vector ``(..., n_parameters)``, or its first entries if ``inputs`` are
                given.
            inputs: its last entries, ``(..., n_inputs)``. What only depends on parameters without leading dimensions
                is computed once for the whole batch.

        Raises:
            ValueError: a program that is not Gaussian, shapes that do not fit, a parameter that is not finite, a
                transmissivity outside [0, 1], squeezing or displacements beyond the range of the dtype, or more memory
                than there is.
        """
        _check_gaussian(program)
        parameters, inputs, batch = split_parameters(program, parameters, inputs)
        parts = [part for part in (parameters, inputs) if part is not None]
        n_shared = program.n_parameters if not batch else parameters.shape[-1] if parameters.ndim == 1 else 0
        rows = math.prod(batch)
        self._check_memory(program, rows, (rows + 1) * (2 * program.n_modes + 1) ** 2)  # before a layer is made
        plan = gaussian_plan(program, n_shared, self.dtype, str(self.device))
        self._check_memory(program, rows, plan.numbers(rows))
        each = torch.cat([part.expand(*batch, -1) for part in parts], -1).reshape(rows, program.n_parameters)
        shared = torch.cat(parts) if not batch else parameters if parameters.ndim == 1 else parameters.new_empty(0)
        means, covariance = self._evolve(plan, shared.to(self.device, self.dtype), each.to(self.device, self.dtype))
        size = 2 * program.n_modes
        means = means.reshape(*batch, size) if means.ndim == 2 else means.expand(*batch, size)
        square = (*batch, size, size)
        covariance = covariance.reshape(square) if covariance.ndim == 3 else covariance.expand(square)
        if not torch.isfinite(covariance).all():
            raise ValueError(f"covariances are not finite in {self.dtype}: squeezing is too strong")
        if not torch.isfinite(means).all():
            raise ValueError(f"means are not finite in {self.dtype}: displacements are too large")
        return GaussianState(means, covariance, self.hbar)

    def _check_memory(self, program: Program, rows: int, numbers: int) -> None:
        needed = 4 * self.dtype.itemsize * numbers
        if needed > _ALWAYS_FREE or self.memory_limit is not None:
            what = f"{program.n_modes} modes, {len(program)} gates, batch of {rows}"
            check_memory(needed, self.memory_limit, self.device, what)

    def _evolve(self, plan: GaussianPlan, shared: Tensor, each: Tensor) -> tuple[Tensor, Tensor]:
        """Means ``(rows, 2M)`` and covariances ``(rows, 2M, 2M)``, without ``rows`` where all samples share them."""
        size = 2 * plan.n_modes
        means = torch.zeros(size, dtype=self.dtype, device=self.device)
        covariance = 0.5 * self.hbar * torch.eye(size, dtype=self.dtype, device=self.device)
        runs = []
        for number, stack in enumerate(plan.stacks):
            lengths = [length for which, length in plan.runs if which == number]
            layers = stack.fill(each if stack.per_sample else shared, self.hbar)
            runs.append(iter(layers.split(lengths, dim=-1 - stack.base.ndim)))
        for number, _ in plan.runs:
            found, kind = next(runs[number]), plan.stacks[number].kind
            if kind == "shift":
                means = means + found.sum(-2)
            elif kind == "loss":
                for kept in found.unbind(-2):
                    root, pairs = _roots(kept, plan.n_modes)
                    means = root * means
                    covariance = pairs * covariance + torch.diag_embed(0.5 * self.hbar * (1 - kept))
            else:
                affine = _product(found)
                matrix = affine[..., :-1, :-1]
                means = (means[..., None, :] @ matrix.mT)[..., 0, :] + affine[..., :-1, -1]
                covariance = matrix @ covariance @ matrix.mT
        return means, 0.5 * (covariance + covariance.mT)


def _check_gaussian(program: Program) -> None:
    if not isinstance(program, Program):
        raise ValueError(f"program is a {type(program).__name__}; a Program is needed")
    if any(program.photons):
        raise ValueError(f"the program starts with photons {program.photons}: not a Gaussian state; Fock simulates it")
    for number, gate in enumerate(program.gates):
        if not gate.definition.gaussian:
            raise ValueError(f"gate {number}, {gate}, is not Gaussian; Fock simulates it")


def _roots(kept: Tensor, n_modes: int) -> tuple[Tensor, Tensor]:
    """Square roots of transmissivities ``(..., 2M)`` and their products ``(..., 2M, 2M)``.

    The derivative of a root at 0 is taken as 0; that of a root's square is 1.
    """
    some = kept > 0
    root = torch.where(some, torch.where(some, kept, 1.0).sqrt(), 0.0)
    mode = torch.arange(2 * n_modes, device=kept.device) % n_modes
    same = mode[:, None] == mode
    return root, torch.where(same, kept[..., None], root[..., :, None] * root[..., None, :])


def _product(matrices: Tensor) -> Tensor:
    """Product of ``(..., n, D, D)`` with the last matrix on the left, ``(..., D, D)``; halved again and again."""
    while (n := matrices.shape[-3]) > 1:
        even, odd = matrices.split([n - n % 2, n % 2], dim=-3)
        first, second = even.unflatten(-3, (-1, 2)).unbind(-3)
        matrices = torch.cat([second @ first, odd], -3) if n % 2 else second @ first
    return matrices[..., 0, :, :]
