"""``Fock``: batched, differentiable simulation of optical modes in a truncated basis of photon-number states."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from circuits.backends.memory import bytes_allowed, check_memory, free_memory, torch_device
from circuits.cv.basis import BasisKind, FockBasis, basis_size
from circuits.cv.compiled import compiled_amplitudes, padded_rows, rows_at_once
from circuits.cv.cost import cost_of
from circuits.cv.fock_state import FockState
from circuits.cv.matrices import TooFastError
from circuits.cv.mixed_state import MixedFockState
from circuits.cv.passes import density, entries_of, plain_amplitudes
from circuits.cv.program import Program
from circuits.cv.schedule import schedule
from circuits.gates import finite_number, integer

__all__ = ["Fock", "TruncationWarning", "needed_cutoff", "split_parameters"]

_ALWAYS_FREE = 2**24
_MOST_AMPLITUDES = 2**14  # of states that are only run to learn which cutoff would do
_MOST_PHOTONS = 100  # above which no such cutoff is looked for: gate matrices grow as its square or faster
_ROUNDING = 1e-4


class TruncationWarning(UserWarning):
    """A truncated simulation lost more of a state's norm than it was told to accept."""


class Fock:
    r"""Simulation in a truncated basis of photon-number states.

    The matrices of all gates are those of the whole space, cut (:mod:`circuits.cv.matrices`): what a gate drives
    beyond the cutoff is lost, and :attr:`~circuits.cv.fock_state.FockState.norm_lost` says how much. Gates on different
    modes may be applied in another order than the program's.

    Programs with ``Loss`` run as density matrices. On the CPU all passes are compiled and their gradient is one sweep
    back; second derivatives, and other devices, take plain torch operations.

    Args:
        cutoff: the first photon number that is left out.
        basis: ``mode``, the cutoff is that of each mode, or ``total``, of all photons together
            (:class:`~circuits.cv.basis.FockBasis`).
        dtype: ``torch.complex128`` or ``torch.complex64``.
        device: any torch device; results live there.
        hbar: fixes the units of quadratures; 2 as in PennyLane, so that the vacuum's variance is 1.
        warn_above: lost norm above which a run gives a :class:`TruncationWarning` with a cutoff that would do, which
            takes a few more runs of the worst row; None for never, as in a training that looks at ``norm_lost``.
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
        self.warn_above = None if warn_above is None else _share(warn_above, "warn_above")
        self.memory_limit = bytes_allowed(memory_limit)
        self._compiled = self.device.type == "cpu"

    def run(
        self, program: Program, parameters: Tensor, inputs: Tensor | None = None, *, initial: Tensor | None = None
    ) -> FockState | MixedFockState:
        """The states that a program prepares; mixed ones if it has ``Loss``.

        Args:
            program: the program.
            parameters: the program's parameter vector ``(..., n_parameters)``, or its first entries if ``inputs`` are
                given.
            inputs: its last entries, ``(..., n_inputs)``. Gates that only depend on parameters without leading
                dimensions are computed once for the whole batch, which is much faster.
            initial: amplitudes to start from, ``(..., size)`` complex in the order of the basis, for a program that
                starts in the vacuum.

        Raises:
            ValueError: shapes that do not fit, a parameter that is not finite, a transmissivity outside [0, 1],
                photons at the start beyond the cutoff, or more memory than there is.
        """
        given = _shared_and_each(program, parameters, inputs, initial)
        n_shared, rows = len(given.shared), math.prod(given.batch)
        gradient = torch.is_grad_enabled() and any(
            part is not None and part.requires_grad for part in (parameters, inputs, initial)
        )
        self._check_memory(program, rows, gradient, n_shared)
        basis = FockBasis(program.n_modes, self.cutoff, self.basis)
        plan = schedule(program, basis, n_shared)
        if plan.start < 0:
            cutoff = f"cutoff {self.cutoff}" + (" of all together" if self.basis == "total" else "")
            raise ValueError(f"the program starts with photons {program.photons}; {cutoff} is not above them")
        real = self.dtype.to_real()
        start = None if initial is None else self._start(program, basis, initial, given.batch, rows)
        if start is not None and plan.lossy:
            start = density(start)
        shared, each = given.shared.to(self.device), given.each.to(self.device)
        if self._compiled:
            found = compiled_amplitudes(plan, shared, each, self.hbar, real, start)
        else:
            found = plain_amplitudes(plan, entries_of(plan, shared, each, self.hbar), rows, real, start)
        found = found.reshape(*given.batch, *found.shape[1:])
        state = MixedFockState(found, basis, self.hbar) if plan.lossy else FockState(found, basis, self.hbar)
        if self.warn_above is not None and rows:
            self._warn(state, program, parameters, inputs, initial)
        return state

    def memory(self, program: Program, rows: int, gradient: bool = True, *, n_inputs: int = 0) -> int:
        """Bytes that a run takes, about.

        Args:
            program: the program.
            rows: size of the batch.
            gradient: the run is to be differentiated.
            n_inputs: how many of the parameters, the last ones, differ within the batch.

        >>> from circuits.cv import CVNeuralNetworkLayers
        >>> program = CVNeuralNetworkLayers(4, 4).program
        >>> [Fock(cutoff=10, basis=basis).memory(program, rows=32) // 10**6 for basis in ("mode", "total")]
        [512, 37]
        """
        n_shared = program.n_parameters - integer(n_inputs, "n_inputs", 0)
        real = self.dtype.itemsize // 2
        rows = integer(rows, "rows", 0)
        cost = cost_of(program, self.cutoff, self.basis, real, n_shared, gradient, self._compiled)
        size = basis_size(program.n_modes, self.cutoff, self.basis)
        at_once = rows_at_once(size if program.is_unitary else size**2, real)
        rows = padded_rows(rows, real) if self._compiled else rows
        return cost.tables + rows * cost.row + min(rows, at_once) * cost.piece

    def _check_memory(self, program: Program, rows: int, gradient: bool, n_shared: int) -> None:
        needed = self.memory(program, rows, gradient, n_inputs=program.n_parameters - n_shared)
        if needed > _ALWAYS_FREE or self.memory_limit is not None:
            kind = "" if program.is_unitary else ", density matrices"
            what = f"{program.n_modes} modes, cutoff {self.cutoff} ({self.basis} basis{kind}), batch of {rows}"
            check_memory(needed, self.memory_limit, self.device, what)

    def _start(self, program: Program, basis: FockBasis, initial: Tensor, batch: tuple[int, ...], rows: int) -> Tensor:
        """The states to start from as reals, ``(size, 2, rows)``."""
        if any(program.photons):
            raise ValueError(f"initial is given, and the program starts with photons {program.photons}; one is allowed")
        if not initial.is_complex() or initial.shape[-1:] != (basis.size,):
            found = f"{tuple(initial.shape)} {str(initial.dtype).removeprefix('torch.')}"
            raise ValueError(f"initial is {found}; complex of shape (..., {basis.size}) is needed")
        norm = torch.linalg.vector_norm(initial.detach(), dim=-1).square()
        bad = (~((norm > 0) & (norm < 1 + _ROUNDING))).nonzero()
        if len(bad):
            raise ValueError(f"initial at {bad[0].tolist()} has norm {norm[tuple(bad[0])].item():.6g}; 1 is needed")
        states = initial.to(self.device, self.dtype).expand(*batch, basis.size).reshape(rows, basis.size)
        return torch.view_as_real(states).movedim(0, -1)

    def _warn(
        self,
        state: FockState | MixedFockState,
        program: Program,
        parameters: Tensor,
        inputs: Tensor | None,
        initial: Tensor | None,
    ) -> None:
        lost = state.norm_lost.detach()
        worst = float(lost.max())
        if self.warn_above is None or worst <= self.warn_above:
            return
        flat = int(lost.argmax())
        place = [int(index) for index in torch.unravel_index(torch.tensor(flat), lost.shape)] if lost.ndim else []
        text = f"at cutoff {self.cutoff} a state loses {100 * worst:.3g} % of its norm"
        text += f" (row {place[0] if len(place) == 1 else place})" if place else ""
        if initial is None:
            shared, each = (
                part if part is None else part.detach().expand(*lost.shape, part.shape[-1])[tuple(place)]
                for part in (parameters, inputs)
            )
            needed = (
                None
                if shared is None
                else needed_cutoff(
                    program,
                    shared,
                    each,
                    lost=self.warn_above,
                    basis=self.basis,
                    at_least=self.cutoff + 1,
                    hbar=self.hbar,
                )
            )
            allowed = f"{100 * self.warn_above:g} %"
            text += f"; cutoff {needed} keeps it below {allowed}" if needed else f"; no cutoff keeps it below {allowed}"
        warnings.warn(text, TruncationWarning, stacklevel=3)


def needed_cutoff(
    program: Program,
    parameters: Tensor,
    inputs: Tensor | None = None,
    *,
    lost: float = 0.01,
    basis: BasisKind = "mode",
    at_least: int = 2,
    hbar: float = 2.0,
) -> int | None:
    """The lowest cutoff at which no state loses more of its norm than is allowed.

    Args:
        program: the program.
        parameters: as for :meth:`Fock.run`.
        inputs: as for :meth:`Fock.run`.
        lost: the largest norm that may be lost.
        basis: ``mode`` or ``total``.
        at_least: where to begin.
        hbar: of the simulation.

    Returns:
        The cutoff, or None if none is found up to 100 whose states are of moderate size.

    Raises:
        ValueError: as :meth:`Fock.run`.

    >>> from circuits.cv import CVGate, Program
    >>> needed_cutoff(Program(1, [CVGate("Displacement", 0, (0, 0.0))]), torch.tensor([2.0]), lost=1e-6)
    18
    """
    lost = _share(lost, "lost")
    rows = max(1, math.prod(split_parameters(program, parameters, inputs)[2]))

    def enough(cutoff: int) -> bool:
        simulation = Fock(cutoff, basis=basis, hbar=hbar, warn_above=None)
        with torch.no_grad():
            return bool((simulation.run(program, parameters, inputs).norm_lost <= lost).all())

    def fits(cutoff: int) -> bool:
        most = _MOST_AMPLITUDES if program.is_unitary else math.isqrt(16 * _MOST_AMPLITUDES)
        if cutoff > _MOST_PHOTONS or basis_size(program.n_modes, cutoff, basis) > most:
            return False
        return Fock(cutoff, basis=basis).memory(program, rows, gradient=False) < free_memory(torch.device("cpu"))

    least = sum(program.photons) + 1 if basis == "total" else max(program.photons) + 1
    cutoff, failed = max(integer(at_least, "at_least", 1), least), least - 1
    found = enough(cutoff)
    while not found:
        failed, cutoff = cutoff, cutoff + max(1, cutoff // 3)
        while cutoff > failed and not fits(cutoff):
            cutoff -= 1
        if cutoff == failed:
            return None
        try:
            found = enough(cutoff)
        except TooFastError:  # no cutoff from here on can be simulated
            return None
    failed = max(failed, at_least - 1)
    while cutoff - failed > 1:
        middle = (cutoff + failed) // 2
        cutoff, failed = (middle, failed) if enough(middle) else (cutoff, middle)
    return cutoff


def _share(value: object, what: str) -> float:
    number = finite_number(value, what)
    if not 0 <= number < 1:
        raise ValueError(f"{what} is {value!r}; a number from 0 to 1 is needed")
    return number


class _Given(NamedTuple):
    """Parameters of the whole batch ``(n_shared,)``, those of each row ``(rows, n)``, and the shape of the batch."""

    shared: Tensor
    each: Tensor
    batch: tuple[int, ...]


def _shared_and_each(program: Program, parameters: Tensor, inputs: Tensor | None, initial: Tensor | None) -> _Given:
    parameters, inputs, batch = split_parameters(program, parameters, inputs)
    if initial is not None:
        try:
            batch = tuple(torch.broadcast_shapes(batch, initial.shape[:-1]))
        except RuntimeError:
            raise ValueError(f"initial is {tuple(initial.shape)}; the batch is {batch}") from None
    parts = [parameters] if inputs is None else [parameters, inputs]
    n_shared = 0
    for part in parts:
        if part.shape[:-1].numel() != 1:
            break
        n_shared += 1
    shared = [part.reshape(-1) for part in parts[:n_shared]]
    each = [part.expand(*batch, -1).reshape(math.prod(batch), part.shape[-1]) for part in parts[n_shared:]]
    empty = parameters.new_empty(0)
    return _Given(
        torch.cat(shared) if len(shared) > 1 else (shared or [empty])[0],
        torch.cat(each, dim=1) if len(each) > 1 else (each or [empty.expand(math.prod(batch), 0)])[0],
        batch,
    )


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
        finite = torch.isfinite(part)
        if not finite.all():
            place = (~finite).nonzero()[0].tolist()
            raise ValueError(f"{name} at {place}: {part[tuple(place)].item()} is not finite")
    if found != program.n_parameters:
        raise ValueError(f"{found} parameters are given; the program has {program.n_parameters}")
    batch = parameters.shape[:-1] if inputs is None else inputs.shape[:-1]
    try:
        if len(parameters.shape[:-1]):
            batch = torch.broadcast_shapes(parameters.shape[:-1], batch)
    except RuntimeError:
        shapes = " and ".join(str(tuple(part.shape)) for part in (parameters, inputs) if part is not None)
        raise ValueError(f"leading dimensions of parameters and inputs, {shapes}, do not fit") from None
    return parameters.to(torch.float64), None if inputs is None else inputs.to(torch.float64), tuple(batch)
