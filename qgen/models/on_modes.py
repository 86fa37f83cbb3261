"""What every model that runs programs of optical modes shares: the simulation, its chunks, and what truncation cost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

import circuits.cv as cv
from circuits.cv.basis import BasisKind, basis_size
from circuits.gates import finite_number, integer
from circuits.metering import ran

if TYPE_CHECKING:
    from torch.nn import Module as _Base
else:
    _Base = object

__all__ = ["AMPLITUDES_AT_ONCE", "LOST_ABOVE", "GeneratorOnModes", "OnModes"]

AMPLITUDES_AT_ONCE = 2**20
"""Numbers that hold the states of one chunk: a larger batch is cut."""

LOST_ABOVE = 0.01
"""Share of a state's norm beyond the cutoff that is remarked."""


class OnModes(_Base):
    """A mixin for a module that runs a continuous-variable program; a generator takes :class:`GeneratorOnModes`.

    The module has ``program``, ``cutoff`` and ``basis``. Its simulator may be set at any time and is not saved. By
    default it is exact for a Gaussian program and truncated for any other.
    """

    program: cv.Program
    cutoff: int
    basis: BasisKind
    norm_penalty: float = 0.0
    _simulator: cv.Simulator | None = None
    _lost: float = 0.0
    _worst: tuple[float, Tensor, Tensor | None] | None = None
    _penalty: Tensor | None = None

    @staticmethod
    def _checked_sizes(cutoff: int, basis: BasisKind, norm_penalty: float) -> None:
        """Whether a simulation can be cut off and penalised like this; a ``ValueError`` names what cannot be."""
        integer(cutoff, "cutoff", 2)
        if basis not in get_args(BasisKind):
            raise ValueError(f"basis is {basis!r}; allowed are {', '.join(get_args(BasisKind))}")
        if finite_number(norm_penalty, "norm_penalty") < 0:
            raise ValueError(f"norm_penalty is {norm_penalty!r}; a number of at least 0 is needed")

    @property
    def simulator(self) -> cv.Simulator:
        """What runs the program. The default does not warn of truncation itself: the model does."""
        if self._simulator is not None:
            return self._simulator
        device = next(self.parameters()).device
        return cv.simulator_for(self.program, cutoff=self.cutoff, basis=self.basis, device=device, warn_above=None)

    @simulator.setter
    def simulator(self, simulator: cv.Simulator | None) -> None:
        self._simulator = simulator

    def _states(self, parameters: Tensor, inputs: Tensor | None = None) -> Iterator[cv.State]:
        """The states of a batch, chunk by chunk in the order of its rows.

        Args:
            parameters: ``(n_parameters,)`` for the whole batch, or ``(n, n_parameters)``; its first entries only where
                ``inputs`` are given.
            inputs: the program's last parameters, ``(n, n_inputs)``.
        """
        simulator = self.simulator
        penalties = []
        n = max(1, _rows(parameters, inputs))
        at_once = self._states_at_once()
        for first in range(0, n, at_once):
            some = slice(first, first + at_once)
            shared = parameters if parameters.ndim == 1 else parameters[some]
            each = inputs if inputs is None else inputs[some]
            state = simulator.run(self.program, shared, each)
            ran(max(1, _rows(shared, each)))
            self._note(state.norm_lost.detach(), shared.detach(), each if each is None else each.detach())
            if self.norm_penalty and state.norm_lost.requires_grad:
                penalties.append(state.norm_lost.sum())
            yield state
        if penalties:
            penalty = self.norm_penalty * torch.stack(penalties).sum() / n
            self._penalty = penalty if self._penalty is None else self._penalty + penalty

    def _states_at_once(self) -> int:
        size = basis_size(self.program.n_modes, self.cutoff, self.basis)
        return max(1, AMPLITUDES_AT_ONCE // (size if self.program.is_unitary else size**2))

    def _note(self, lost: Tensor, parameters: Tensor, inputs: Tensor | None) -> None:
        value, row = lost.flatten().max(0)
        self._lost = max(self._lost, value.item())
        if self._worst is None or value.item() > self._worst[0]:
            one = parameters if parameters.ndim == 1 else parameters[row]
            self._worst = (value.item(), one.clone(), None if inputs is None else inputs[row].clone())

    def _lost_since(self) -> float:
        """The largest share of the norm that a state has lost since this was last asked."""
        lost, self._lost = self._lost, 0.0
        return lost

    def _penalty_since(self) -> Tensor | None:
        """``norm_penalty`` times the mean norm that differentiable states have lost since this was last asked."""
        penalty, self._penalty = self._penalty, None
        return penalty

    def truncation_remark(self, lost: float) -> str:
        """A sentence on states that lost this share of their norm, with a cutoff that would do for the worst."""
        sentence = f"truncated: states lost up to {_percent(lost)} of their norm at cutoff {self.cutoff}"
        if self._worst is None:
            return sentence
        _, parameters, inputs = self._worst
        needed = cv.needed_cutoff(
            self.program, parameters, inputs, lost=LOST_ABOVE, basis=self.basis, at_least=self.cutoff
        )
        least = f"{100 * LOST_ABOVE:g} %"
        return f"{sentence}; " + (
            f"cutoff {needed} keeps it below {least}"
            if needed
            else f"no cutoff of moderate size keeps it below {least}"
        )


def _percent(share: float) -> str:
    """Two digits, of a nearly empty state as many as show what is left.

    >>> _percent(0.0123), _percent(0.31), _percent(0.9995)
    ('1.2 %', '31 %', '99.95 %')
    """
    return f"{100 * share:.{2 if share < 0.99 else 4}g} %"


def _rows(parameters: Tensor, inputs: Tensor | None) -> int:
    return len(parameters) if parameters.ndim > 1 else 1 if inputs is None or inputs.ndim == 1 else len(inputs)


class GeneratorOnModes(OnModes):
    """:class:`OnModes` for a generator, named before it: truncation is recorded, remarked and warned of.

    A training's records hold ``norm_lost``, the largest share of its norm that a state lost since the record before.
    :meth:`sample` and :meth:`log_prob` give one :class:`~circuits.cv.TruncationWarning` where it passes 1 %.
    """

    def records(self) -> dict[str, float]:
        """The norm lost since the last record."""
        return {"norm_lost": self._lost_since()}

    def penalty(self) -> Tensor | None:
        """The norm lost in the last step, weighted."""
        return self._penalty_since()

    def remarks(self, history: Sequence[dict[str, float]]) -> tuple[str, ...]:
        """One sentence if truncation mattered."""
        lost = max((record["norm_lost"] for record in history if "norm_lost" in record), default=0.0)
        return (self.truncation_remark(lost),) if lost > LOST_ABOVE else ()

    def sample(self, *args: Any, **options: Any) -> Tensor:
        """Events, see :meth:`qgen.Generator.sample`; one warning where states were truncated."""
        with self._watched():
            found: Tensor = super().sample(*args, **options)  # type: ignore[misc]
        return found

    def log_prob(self, *args: Any, **options: Any) -> Tensor:
        """Log density, see :meth:`qgen.Generator.log_prob`; one warning where states were truncated."""
        with self._watched():
            found: Tensor = super().log_prob(*args, **options)  # type: ignore[misc]
        return found

    @contextmanager
    def _watched(self) -> Iterator[None]:
        lost_before, worst_before = self._lost, self._worst
        self._lost, self._worst = 0.0, None
        try:
            yield
            lost, remark = self._lost, ""
            if lost > LOST_ABOVE:
                remark = f"{type(self).__name__} {self.truncation_remark(lost)}"
        finally:
            self._lost, self._worst = lost_before, worst_before
        if remark:
            warnings.warn(remark, cv.TruncationWarning, stacklevel=4)
