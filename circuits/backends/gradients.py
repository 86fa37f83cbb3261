"""Gradients by the parameter-shift rule, for backends that only give probabilities or samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from circuits.backends.base import (
    Backend,
    Capabilities,
    check_angles,
    frequencies,
    measurement_groups,
    parse_observables,
)
from circuits.backends.layers import row_size, shots_of
from circuits.backends.quasi import nearest_probabilities
from circuits.backends.sampled import SamplingBackend, signs
from circuits.circuit import Angle, Circuit, Gate
from circuits.gate_table import gate_definition

__all__ = ["GradientEstimate", "GradientRule", "ParameterShift", "evaluate_rows", "output_weights"]

_TWO_TERM = ((math.pi / 2, 0.5), (-math.pi / 2, -0.5))
_NEAR, _FAR = (math.sqrt(2) + 1) / (4 * math.sqrt(2)), (math.sqrt(2) - 1) / (4 * math.sqrt(2))
_FOUR_TERM = (
    (math.pi / 2, _NEAR),
    (-math.pi / 2, -_NEAR),
    (3 * math.pi / 2, -_FAR),
    (-3 * math.pi / 2, _FAR),
)

_NUMBERS_AT_ONCE = 2**24
"""Probabilities or measured bits that one call of the inner backend may hold, unless every call is a remote job."""


@dataclass(frozen=True)
class GradientEstimate:
    """A gradient and how well it is known.

    Args:
        value: ``(..., n_angles)``.
        variance: ``(..., n_angles)``, of ``value``; zero where nothing is random.
    """

    value: Tensor
    variance: Tensor

    @property
    def standard_error(self) -> Tensor:
        """Square root of the variance, ``(..., n_angles)``."""
        return self.variance.sqrt()


def evaluate_rows(
    backend: Backend, circuit: Circuit, outputs: Callable[[Tensor], Tensor], angles: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sums of a circuit's outputs over many rows of angles, in one call where memory allows.

    Args:
        backend: what ``outputs`` calls; its capabilities and shots decide how many rows go at once.
        circuit: the circuit.
        outputs: angles ``(rows, n_angles)`` to outputs ``(rows, n_outputs)``.
        angles: ``(..., n_rows, n_angles)``.
        weights: ``(..., n_outputs)``, the weights for all rows of one batch entry.

    Returns:
        ``(..., n_rows)`` on the weights' device.
    """

    def weighted(rows: Tensor, row_weights: Tensor) -> Tensor:
        return (outputs(rows) * row_weights).sum(-1)[None]

    return _over_rows(backend, circuit, weighted, angles, weights)[0]


def _over_rows(
    backend: Backend,
    circuit: Circuit,
    function: Callable[[Tensor, Tensor], Tensor],
    angles: Tensor,
    weights: Tensor,
) -> Tensor:
    """``function`` of rows of angles and of weights, ``(n, rows)``, as ``(n, ..., n_rows)``."""
    n_rows = angles.shape[-2]
    flat = angles.reshape(angles.shape[:-1].numel(), angles.shape[-1])
    table = weights.reshape(-1, weights.shape[-1])
    which = torch.arange(len(flat), device=weights.device) // n_rows
    at_once = len(flat)
    if not backend.capabilities.remote:  # a machine elsewhere gets one job
        bits = (shots_of(backend) or 0) * circuit.n_wires
        at_once = max(1, _NUMBERS_AT_ONCE // max(row_size(backend, circuit), bits))
    parts = [function(rows, table[of]) for rows, of in zip(flat.split(at_once), which.split(at_once), strict=True)]
    result = torch.cat(parts, -1)
    return result.reshape(len(result), *angles.shape[:-1])


def output_weights(
    circuit: Circuit, angles: Tensor, observables: Sequence[str] | None, weights: Tensor | None
) -> Tensor:
    """The weights of the outputs in the number whose gradient is asked for, ``(..., n_outputs)`` float64.

    Raises:
        ValueError: none for probabilities, or weights that do not fit the outputs.
    """
    n_outputs = 2**circuit.n_wires if observables is None else len(parse_observables(observables, circuit.n_wires))
    shape = (*angles.shape[:-1], n_outputs)
    if weights is None:
        if observables is None:
            raise ValueError("weights are missing; the probabilities alone sum to one and have no gradient")
        weights = torch.ones(n_outputs, dtype=torch.float64, device=angles.device)
    try:
        return weights.to(torch.float64).expand(shape)
    except RuntimeError as error:
        raise ValueError(f"weights have shape {tuple(weights.shape)}; {shape} is needed") from error


def _measured_sums(
    backend: SamplingBackend, circuit: Circuit, observables: Sequence[str] | None, angles: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sums of measured outputs, as :func:`evaluate_rows`, with their variances; both ``(..., n_rows)``."""
    shots = backend.shots
    if shots < 2:
        raise ValueError(f"shots is {shots}; a variance needs 2 or more")

    def both(rows: Tensor, row_weights: Tensor) -> Tensor:
        if observables is None:
            counted = frequencies(backend.sample_circuits([circuit], rows, shots, backend.generator)[0]).to(weights)
            mean = (counted * row_weights).sum(-1)
            return torch.stack([mean, ((counted * row_weights.square()).sum(-1) - mean.square()) / (shots - 1)])
        strings = parse_observables(observables, circuit.n_wires)
        groups = measurement_groups(circuit, strings)
        measured = backend.sample_circuits([group for group, _ in groups], rows, shots, backend.generator)
        total = torch.zeros((2, len(rows)), dtype=torch.float64, device=weights.device)
        for (_, places), bits in zip(groups, measured, strict=True):
            each = torch.stack([signs(bits, strings[place]) for place in places], 1).to(weights)
            outcome = (row_weights[:, places, None] * each).sum(1)
            total += torch.stack([outcome.mean(-1), outcome.var(-1) / shots])
        return total

    mean, variance = _over_rows(backend, circuit, both, angles, weights)
    return mean, variance


@dataclass(frozen=True)
class _Unshared:
    """A circuit in which every free angle has its own place, and where it comes from.

    Args:
        circuit: the circuit, with as many angles as free slots.
        index, scale, offset: ``(n_slots,)``; slot angles are ``angles[index] * scale + offset``.
        shifts: ``(n_terms, n_slots)``, each row a shift of one slot.
        weights: ``(n_terms, n_slots)``, the row's weight in the derivative by that slot.
    """

    circuit: Circuit
    index: Tensor
    scale: Tensor
    offset: Tensor
    shifts: Tensor
    weights: Tensor

    def slots(self, angles: Tensor) -> Tensor:
        """The slots' angles, ``(..., n_angles)`` to ``(..., n_slots)``."""
        index, scale, offset = (tensor.to(angles.device) for tensor in (self.index, self.scale, self.offset))
        return angles.index_select(-1, index) * scale + offset


@lru_cache(maxsize=64)
def _unshare(circuit: Circuit) -> _Unshared:
    free: list[Angle] = []
    rules: list[tuple[tuple[float, float], ...]] = []
    gates = []
    for gate in circuit.gates:
        slots = []
        for angle in gate.angles:
            if angle.is_fixed:
                slots.append(angle)
                continue
            slots.append(Angle(len(free)))
            free.append(angle)
            rules.append(_FOUR_TERM if gate_definition(gate.name).shifts == 4 else _TWO_TERM)
        gates.append(Gate(gate.name, gate.wires, slots))
    terms = [(slot, *term) for slot, rule in enumerate(rules) for term in rule]
    shifts = torch.zeros((len(terms), len(free)), dtype=torch.float64)
    weights = torch.zeros_like(shifts)
    for row, (slot, shift, weight) in enumerate(terms):
        shifts[row, slot], weights[row, slot] = shift, weight
    return _Unshared(
        Circuit(circuit.n_wires, gates, len(free)),
        torch.tensor([angle.index for angle in free], dtype=torch.int64),
        torch.tensor([angle.scale for angle in free], dtype=torch.float64),
        torch.tensor([angle.offset for angle in free], dtype=torch.float64),
        shifts,
        weights,
    )


@dataclass(frozen=True)
class _Rule:
    """A circuit's outputs as a function of its slots, and the rule for its derivatives."""

    backend: Backend
    unshared: _Unshared
    outputs: Callable[[Tensor], Tensor]

    def differentiable_outputs(self, slots: Tensor) -> Tensor:
        result: Tensor = _Shift.apply(slots, self)
        return result


class _Shift(torch.autograd.Function):
    """The outputs at the slots, with the parameter-shift rule as derivative."""

    @staticmethod
    def forward(ctx: Any, slots: Tensor, rule: _Rule) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.rule = rule
        return rule.outputs(slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slots,) = ctx.saved_tensors
        rule: _Rule = ctx.rule
        shifts, weights = rule.unshared.shifts.to(slots.device), rule.unshared.weights.to(slots.device)
        if not len(shifts):
            return torch.zeros_like(slots), None
        shifted = slots.unsqueeze(-2) + shifts
        by_term = evaluate_rows(rule.backend, rule.unshared.circuit, rule.differentiable_outputs, shifted, gradients[0])
        return by_term.to(weights) @ weights, None


class GradientRule:
    """What every way to a gradient shares: the values are the inner backend's.

    Args:
        backend: the inner backend.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def name(self) -> str:
        """The inner backend's: how gradients are had does not change the values."""
        return self.backend.name

    @property
    def capabilities(self) -> Capabilities:
        """The inner backend's, but differentiable."""
        return replace(self.backend.capabilities, differentiable=True)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """The inner backend's samples, ``(..., shots, n_wires)`` uint8.

        Raises:
            ValueError: angles of another shape, or fewer than one shot.
        """
        return self.backend.sample(circuit, angles, shots, generator)


class ParameterShift(GradientRule):
    """Any backend as a differentiable torch function, by the parameter-shift rule (1803.00745, 1811.11184).

    Rotations generated by one Pauli string and phase shifts take two shifted circuits, controlled rotations four
    (2104.05695). An angle that occurs in several gates is shifted in each, and scales follow by the chain rule. All
    shifted circuits of a batch are one call of the inner backend, as long as they fit in memory. Higher derivatives
    shift the shifted circuits again.

    Seen through shots, ``ParameterShift(Sampled(backend, shots))``, gradients are unbiased estimates from as many shots
    for each shifted circuit; :meth:`gradient` says how well they are known. The rule holds for outputs that are linear
    in the quantum state. So a mitigating backend that makes probabilities of quasi-probabilities is shifted in these
    (its ``quasi_probs``), and what follows is differentiated by torch; an exponential extrapolation is not linear, and
    its gradient approximate.

    Args:
        backend: the inner backend.

    >>> from circuits.backends import Statevector
    >>> circuit = Circuit(1, [Gate("RY", [0], [0])])
    >>> angles = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    >>> ParameterShift(Statevector()).expval(circuit, angles, ["Z"]).backward()
    >>> bool(torch.isclose(angles.grad, -torch.sin(angles)))
    True
    """

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The inner backend's probabilities, ``(..., 2**n_wires)``.

        Raises:
            ValueError: angles of another shape.
        """
        quasi_probs = getattr(self.backend, "quasi_probs", None)
        if quasi_probs is None:
            return self._differentiable(circuit, angles, self.backend.probs)
        return nearest_probabilities(self._differentiable(circuit, angles, quasi_probs))

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """The inner backend's expectation values of Pauli strings, ``(..., n_observables)``.

        Raises:
            ValueError: angles of another shape, or an impossible observable.
        """
        return self._differentiable(circuit, angles, lambda c, slots: self.backend.expval(c, slots, observables))

    def gradient(
        self,
        circuit: Circuit,
        angles: Tensor,
        observables: Sequence[str] | None = None,
        weights: Tensor | None = None,
        repeats: int = 1,
    ) -> GradientEstimate:
        """Gradient of a weighted sum of outputs by the angles, with its variance.

        Where the inner backend measures (:class:`~circuits.backends.sampled.SamplingBackend`), the variance follows
        in closed form from the same shots: each shifted circuit's weighted outcomes have a sample variance, observables
        that share shots with their covariance, and shifted circuits are independent. An exact backend has none. For
        any other the variance is that of the mean over ``repeats``.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            observables: Pauli strings whose expectation values are the outputs; without any, the probabilities are
                (the quasi-probabilities of a mitigating backend).
            weights: ``(..., n_outputs)``, the outputs' weights, such as the gradient of a loss by the outputs; by
                default all one for observables, needed for probabilities.
            repeats: how often the whole estimate is repeated; the value is the mean.

        Returns:
            The gradient ``(..., n_angles)`` for each row of angles and its variance.

        Raises:
            ValueError: angles, observables or weights that do not fit, a single shot, or one repeat of a backend that
                is neither exact nor seen through shots.

        >>> from circuits.backends import Sampled, Statevector
        >>> circuit = Circuit(1, [Gate("RY", [0], [0])])
        >>> backend = ParameterShift(Sampled(Statevector(), 1000, torch.Generator().manual_seed(0)))
        >>> estimate = backend.gradient(circuit, torch.zeros(1, dtype=torch.float64), ["X"])
        >>> abs(float(estimate.value) - 1) < 1e-12, float(estimate.variance)
        (True, 0.0)
        """
        angles = check_angles(circuit, angles).to(torch.float64)
        weights = output_weights(circuit, angles, observables, weights)
        inner, unshared = self.backend, _unshare(circuit)
        measures = isinstance(inner, SamplingBackend)
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ValueError(f"repeats is {repeats!r}; an integer of at least 1 is needed")
        if repeats == 1 and not measures and not inner.capabilities.exact:
            raise ValueError(f"{inner.name}: one evaluation does not tell the variance; 2 repeats or more are needed")
        if not len(unshared.shifts):
            return GradientEstimate(torch.zeros_like(angles), torch.zeros_like(angles))
        shifted = unshared.slots(angles).unsqueeze(-2) + unshared.shifts.to(angles.device)
        shifted, weights = (tensor.expand(repeats, *tensor.shape) for tensor in (shifted, weights))
        with torch.no_grad():
            if isinstance(inner, SamplingBackend):
                sums, variances = _measured_sums(inner, unshared.circuit, observables, shifted, weights)
            else:
                outputs = self._outputs(unshared.circuit, observables)
                sums = evaluate_rows(inner, unshared.circuit, outputs, shifted, weights)
                variances = torch.zeros_like(sums)
        # each shifted circuit is evaluated by itself: variances add with the squares of the coefficients
        coefficients = (unshared.weights * unshared.scale).to(sums)
        places = torch.nn.functional.one_hot(unshared.index, circuit.n_angles).to(sums)
        values = (sums @ coefficients @ places).to(angles)
        variance = (variances @ coefficients.square() @ places).to(angles).mean(0)
        if repeats > 1 and not measures:
            variance = values.var(0)
        return GradientEstimate(values.mean(0), variance / repeats)

    def _outputs(self, circuit: Circuit, observables: Sequence[str] | None) -> Callable[[Tensor], Tensor]:
        if observables is None:
            probs = getattr(self.backend, "quasi_probs", self.backend.probs)
            return lambda slots: probs(circuit, slots)
        return lambda slots: self.backend.expval(circuit, slots, observables)

    def _differentiable(self, circuit: Circuit, angles: Tensor, outputs: Callable[[Circuit, Tensor], Tensor]) -> Tensor:
        unshared = _unshare(circuit)
        slots = unshared.slots(check_angles(circuit, angles).to(torch.float64))
        rule = _Rule(self.backend, unshared, lambda rows: outputs(unshared.circuit, rows))
        return rule.differentiable_outputs(slots)
