"""Gradients by simultaneous perturbation: two circuits, however many angles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuits.backends.base import Backend, check_angles, fresh_generator
from circuits.backends.gradients import GradientEstimate, GradientRule, evaluate_rows, output_weights
from circuits.circuit import Circuit

__all__ = ["SPSA"]


@dataclass(frozen=True)
class _Perturbation:
    """A circuit's outputs as a function of its angles, and what estimates their derivative."""

    backend: Backend
    circuit: Circuit
    outputs: Callable[[Tensor], Tensor]
    step: float
    repeats: int
    generator: torch.Generator

    def estimates(self, angles: Tensor, weights: Tensor) -> Tensor:
        """Estimates of the gradient of the weighted outputs, ``(..., repeats, n_angles)``."""
        shape = (*angles.shape[:-1], self.repeats, angles.shape[-1])
        coins = torch.randint(2, shape, generator=self.generator, device=self.generator.device)
        signs = (2 * coins - 1).to(angles)
        centre = angles.unsqueeze(-2)
        rows = torch.cat([centre + self.step * signs, centre - self.step * signs], -2)
        above, below = evaluate_rows(self.backend, self.circuit, self.outputs, rows, weights).to(angles).chunk(2, -1)
        return ((above - below) / (2 * self.step)).unsqueeze(-1) * signs


class _Perturbed(torch.autograd.Function):
    """The outputs at the angles, with simultaneous perturbation as derivative."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, perturbation: _Perturbation) -> Tensor:
        ctx.save_for_backward(angles)
        ctx.perturbation = perturbation
        return perturbation.outputs(angles)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():
            raise ValueError("SPSA estimates first derivatives only; ParameterShift gives higher ones")
        (angles,) = ctx.saved_tensors
        return ctx.perturbation.estimates(angles, gradients[0]).mean(-2), None


class SPSA(GradientRule):
    r"""Any backend as a differentiable torch function, by simultaneous perturbation of all angles.

    All angles :math:`\theta` move at once by a random sign each, :math:`\Delta_i = \pm 1`, and

    .. math:: g_i = \frac{f(\theta + c \Delta) - f(\theta - c \Delta)}{2 c} \Delta_i

    estimates the gradient with a bias of order :math:`c^2` (Spall, IEEE Trans. Autom. Control 37, 332 (1992);
    variational circuits: 1704.05018). A gradient costs ``2 * repeats`` circuits for each row of angles, which are one
    call of the inner backend as long as they fit in memory. Rows of a batch have perturbations of their own, and every
    backward pass draws new ones. First derivatives only.

    Args:
        backend: the inner backend.
        step: the perturbation ``c`` in radians. Small steps have little bias, but shot noise grows as its inverse.
        repeats: independent perturbations over which a gradient is averaged.
        generator: source of the perturbations; without one, a new one seeded by the operating system.

    Raises:
        ValueError: a step that is not positive, or fewer than one repeat.

    >>> from circuits import Gate
    >>> from circuits.backends import Statevector
    >>> circuit = Circuit(1, [Gate("RY", [0], [0])])
    >>> angles = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    >>> SPSA(Statevector(), step=0.01).expval(circuit, angles, ["Z"]).backward()
    >>> bool(torch.isclose(angles.grad, -torch.sin(angles), rtol=1e-4))
    True
    """

    def __init__(
        self, backend: Backend, step: float = 0.1, repeats: int = 1, generator: torch.Generator | None = None
    ) -> None:
        if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
            raise ValueError(f"step is {step!r}; a positive number of radians is needed")
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ValueError(f"repeats is {repeats!r}; an integer of at least 1 is needed")
        super().__init__(backend)
        self.step = float(step)
        self.repeats = repeats
        self.generator = fresh_generator(generator)

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The inner backend's probabilities, ``(..., 2**n_wires)``.

        Raises:
            ValueError: angles of another shape.
        """
        return self._differentiable(circuit, angles, None)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """The inner backend's expectation values of Pauli strings, ``(..., n_observables)``.

        Raises:
            ValueError: angles of another shape, or an impossible observable.
        """
        return self._differentiable(circuit, angles, observables)

    def gradient(
        self,
        circuit: Circuit,
        angles: Tensor,
        observables: Sequence[str] | None = None,
        weights: Tensor | None = None,
    ) -> GradientEstimate:
        """Gradient of a weighted sum of outputs by the angles, with its variance.

        The variance is that of the mean over the repeats: perturbations and shot noise together, without the bias.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            observables: Pauli strings whose expectation values are the outputs; without any, the probabilities are.
            weights: ``(..., n_outputs)``, the outputs' weights, such as the gradient of a loss by the outputs; by
                default all one for observables, needed for probabilities.

        Returns:
            The gradient ``(..., n_angles)`` for each row of angles and its variance.

        Raises:
            ValueError: angles, observables or weights that do not fit, or a single repeat.
        """
        if self.repeats < 2:
            raise ValueError("one perturbation does not tell the variance; 2 repeats or more are needed")
        angles = check_angles(circuit, angles).to(torch.float64)
        weights = output_weights(circuit, angles, observables, weights)
        with torch.no_grad():
            estimates = self._perturbation(circuit, observables).estimates(angles, weights)
        return GradientEstimate(estimates.mean(-2), estimates.var(-2) / self.repeats)

    def _perturbation(self, circuit: Circuit, observables: Sequence[str] | None) -> _Perturbation:
        def outputs(angles: Tensor) -> Tensor:
            if observables is None:
                return self.backend.probs(circuit, angles)
            return self.backend.expval(circuit, angles, observables)

        return _Perturbation(self.backend, circuit, outputs, self.step, self.repeats, self.generator)

    def _differentiable(self, circuit: Circuit, angles: Tensor, observables: Sequence[str] | None) -> Tensor:
        angles = check_angles(circuit, angles).to(torch.float64)
        result: Tensor = _Perturbed.apply(angles, self._perturbation(circuit, observables))
        return result
