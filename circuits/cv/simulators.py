"""``Simulator``: what both simulations of a program are, and which one a program is given to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from circuits.cv.basis import BasisKind
from circuits.cv.fock import Fock
from circuits.cv.gaussian import Gaussian
from circuits.cv.program import Program
from circuits.cv.state import State

__all__ = ["Simulator", "simulator_for"]


@runtime_checkable
class Simulator(Protocol):
    """Prepares the states of a program, :class:`~circuits.cv.gaussian.Gaussian` or :class:`~circuits.cv.fock.Fock`."""

    @property
    def hbar(self) -> float:
        """What fixes the units of quadratures."""

    def run(self, program: Program, parameters: Tensor, inputs: Tensor | None = None) -> State:
        """The states for parameters ``(..., n)`` and, if they are given apart, ``inputs`` that follow them."""


def simulator_for(
    program: Program,
    *,
    cutoff: int,
    basis: BasisKind = "total",
    dtype: torch.dtype = torch.complex128,
    device: torch.device | str = "cpu",
    hbar: float = 2.0,
    warn_above: float | None = 0.01,
    memory_limit: int | None = None,
) -> Gaussian | Fock:
    """The simulator that suits a program.

    It is ``Gaussian``, which is exact and takes hardly any memory, where the program starts in the vacuum and has no
    Kerr, cross-Kerr or cubic phase gate; otherwise it is ``Fock``.

    Args:
        program: the program.
        cutoff: the first photon number that ``Fock`` leaves out; has no meaning for a Gaussian program.
        basis: of ``Fock``, ``total`` or ``mode``.
        dtype: ``torch.complex128`` or ``torch.complex64``; ``Gaussian`` takes the real numbers of that size.
        device: any torch device.
        hbar: fixes the units of quadratures.
        warn_above: lost norm above which ``Fock`` warns; None for never.
        memory_limit: bytes that a call may take.

    Raises:
        ValueError: an argument that is not allowed; the line names it.

    >>> from circuits.cv import CVGate
    >>> squeezed, kerr = CVGate("Squeezing", 0, (0, 0.0)), CVGate("Kerr", 0, (1,))
    >>> [type(simulator_for(Program(1, gates), cutoff=8)).__name__ for gates in ([squeezed], [squeezed, kerr])]
    ['Gaussian', 'Fock']
    """
    fock = Fock(
        cutoff, basis=basis, dtype=dtype, device=device, hbar=hbar, warn_above=warn_above, memory_limit=memory_limit
    )
    if not program.is_gaussian:
        return fock
    return Gaussian(hbar=hbar, dtype=dtype.to_real(), device=device, memory_limit=memory_limit)
