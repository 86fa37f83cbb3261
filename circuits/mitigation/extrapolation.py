"""Zero-noise extrapolation: run with more noise, extrapolate to none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from circuits.backends.base import (
    Backend,
    Capabilities,
    check_angles,
    check_shots,
    draw_bits,
    fresh_generator,
    measurement_groups,
    parse_observables,
)
from circuits.backends.quasi import nearest_probabilities
from circuits.circuit import Circuit
from circuits.gates import as_iterable
from circuits.mitigation.fits import exponential_at_zero, polynomial_at_zero
from circuits.mitigation.folding import fold
from circuits.mitigation.measure import Estimate, estimates, place_like

__all__ = ["ZeroNoiseExtrapolation"]

_fold = lru_cache(maxsize=256)(fold)


class ZeroNoiseExtrapolation:
    """A backend extrapolated to zero noise from circuits whose gates are folded (1611.09301, 1612.02058, 2005.10921).

    Every circuit runs at several noise scales: folded circuits do the same with so many times the gates. A fit of each
    probability or expectation value over the scales, by least squares with equal weights, is read at zero. Scales that
    a circuit's number of gates does not allow are rounded, and the fit uses those that were reached.

    A linear or polynomial fit is linear in the values: unbiased where noise acts like its polynomial, and gradients
    pass through it. An exponential knows where noise leads, ``2**-n_wires`` for probabilities and 0 for Pauli strings;
    all probabilities of a circuit share one rate, and values at zero noise stay possible. Its precise definition is
    that of :func:`circuits.mitigation.fits.exponential_at_zero`.

    The inner backend has to run the folded gates, on the same qubits. The package's own backends do: circuits reach
    Qiskit's transpiler with barriers between a gate and its inverse, and are placed where the one without folds starts.

    Args:
        backend: the inner backend.
        scales: noise scales, each at least 1.
        fit: ``"linear"``, ``"polynomial"`` or ``"exponential"``.
        degree: of the polynomial.
        folding: ``"global"`` folds the circuit, ``"gates"`` each gate; see :func:`circuits.mitigation.fold`.

    Raises:
        ValueError: an unknown fit or folding, a scale below 1, or too few scales for the fit.

    >>> from circuits import Gate
    >>> from circuits.backends import Statevector
    >>> bell = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
    >>> ZeroNoiseExtrapolation(Statevector()).probs(bell, torch.zeros(0)).round(decimals=12) + 0.0
    tensor([0.5000, 0.0000, 0.0000, 0.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        backend: Backend,
        scales: Sequence[float] = (1.0, 3.0, 5.0),
        fit: Literal["linear", "polynomial", "exponential"] = "linear",
        degree: int = 2,
        folding: Literal["global", "gates"] = "global",
    ) -> None:
        if fit not in ("linear", "polynomial", "exponential"):
            raise ValueError(f"fit is {fit!r}; 'linear', 'polynomial' or 'exponential' is needed")
        if folding not in ("global", "gates"):
            raise ValueError(f"folding is {folding!r}; 'global' or 'gates' is needed")
        if isinstance(degree, bool) or not isinstance(degree, int) or degree < 1:
            raise ValueError(f"degree is {degree!r}; an integer of at least 1 is needed")
        scales = tuple(as_iterable(scales, "scales"))
        if any(isinstance(s, bool) or not isinstance(s, int | float) or not 1 <= s < math.inf for s in scales):
            raise ValueError(f"scales are {list(scales)}; numbers of at least 1 are needed")
        self.backend = backend
        self.scales = tuple(sorted(float(scale) for scale in scales))
        self.fit = fit
        self.degree = degree if fit == "polynomial" else 1
        self.folding = folding
        self._check_number(self.scales, "scales are")
        self._placed: set[Circuit] = set()

    @property
    def name(self) -> str:
        """The inner backend's name, marked."""
        return f"{self.backend.name}, zero-noise extrapolated"

    @property
    def capabilities(self) -> Capabilities:
        """The inner backend's, less noise but not none; an exponential fit is not differentiable."""
        inner = self.backend.capabilities
        return replace(inner, differentiable=inner.differentiable and self.fit != "exponential")

    def reached_scales(self, circuit: Circuit) -> tuple[float, ...]:
        """The noise scales at which a circuit runs: the number of gates of each folded circuit over its own.

        Raises:
            ValueError: the circuit has too few gates for scales that differ.
        """
        return tuple(scale for scale, _ in self._folds(circuit))

    def quasi_probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Extrapolated probabilities, each by itself, ``(..., 2**n_wires)``; they may be negative.

        Raises:
            ValueError: angles of another shape, or a circuit with too few gates.
        """
        return self._extrapolated(circuit, angles, None, uncertain=False).value

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The probabilities nearest to the extrapolated ones, ``(..., 2**n_wires)``.

        Raises:
            ValueError: angles of another shape, or a circuit with too few gates.
        """
        return nearest_probabilities(self.quasi_probs(circuit, angles))

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Extrapolated expectation values of Pauli strings, ``(..., n_observables)``; they may pass one.

        Raises:
            ValueError: angles of another shape, an impossible observable, or a circuit with too few gates.
        """
        return self._extrapolated(circuit, angles, observables, uncertain=False).value

    def probs_with_error(self, circuit: Circuit, angles: Tensor) -> Estimate:
        """Extrapolated probabilities, which may be negative, and their deviations, each ``(..., 2**n_wires)``.

        Deviations follow from those of the inner backend's values through the covariance of the fit. An exact backend's
        values have none; there, they follow from the scatter about the fit, and are NaN if it goes through all values.
        What the fit gets wrong in the same way at every scale is in neither.

        Raises:
            ValueError: as in :meth:`quasi_probs`, or the inner backend cannot tell the uncertainty of its values.
        """
        return self._extrapolated(circuit, angles, None, uncertain=True)

    def expval_with_error(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Estimate:
        """Extrapolated expectation values and their deviations, each ``(..., n_observables)``.

        Deviations are as in :meth:`probs_with_error`.

        Raises:
            ValueError: as in :meth:`expval`, or the inner backend cannot tell the uncertainty of its values.
        """
        return self._extrapolated(circuit, angles, observables, uncertain=True)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Bits drawn from the extrapolated probabilities, ``(..., shots, n_wires)`` uint8.

        Not measured: there is no experiment without noise. The probabilities are those of :meth:`probs`, with the
        inner backend's own shots.

        Raises:
            ValueError: angles of another shape, fewer than one shot, or a circuit with too few gates.
        """
        check_shots(shots)
        return draw_bits(self.probs(circuit, angles), shots, fresh_generator(generator))

    def _check_number(self, scales: Sequence[float], found: str) -> None:
        if len(set(scales)) != len(scales) or len(scales) < self.degree + 1:
            raise ValueError(f"{found} {list(scales)}; {self.degree + 1} or more, all different, are needed")

    def _folds(self, circuit: Circuit) -> list[tuple[float, Circuit]]:
        """The noise scales that are reached, each with the circuit that reaches it."""
        folded = [_fold(circuit, scale, self.folding) for scale in self.scales]
        scales = [len(one) / max(len(circuit), 1) for one in folded]
        self._check_number(scales, f"a circuit of {len(circuit)} gates is folded to the scales")
        return list(zip(scales, folded, strict=True))

    def _place(self, circuit: Circuit, folded: Sequence[Circuit], observables: Sequence[str] | None) -> None:
        """Puts the circuits that will be measured where the circuit starts."""
        measured = list(folded)
        if observables is not None:
            strings = parse_observables(observables, circuit.n_wires)
            measured = [group for one in folded for group, _ in measurement_groups(one, strings)]
        new = [one for one in dict.fromkeys(measured) if one != circuit and one not in self._placed]
        place_like(self.backend, circuit, new)
        self._placed.update(new)

    def _extrapolated(
        self, circuit: Circuit, angles: Tensor, observables: Sequence[str] | None, uncertain: bool
    ) -> Estimate:
        check_angles(circuit, angles)
        reached, folded = zip(*self._folds(circuit), strict=True)
        self._place(circuit, folded, observables)
        values, deviations = estimates(self.backend, folded, angles, observables, uncertain)
        scales = torch.tensor(reached, dtype=torch.float64)
        known = None if self.backend.capabilities.exact else deviations
        if self.fit != "exponential":
            return polynomial_at_zero(scales, values, known, self.degree)
        n_outputs = values.shape[-1]
        if observables is None:
            asymptote = torch.full((n_outputs,), 2.0**-circuit.n_wires)
        else:
            strings = parse_observables(observables, circuit.n_wires)
            asymptote = torch.tensor([0.0 if string.factors else 1.0 for string in strings])
        # probabilities of one circuit fade together, Pauli strings at rates of their own
        together = n_outputs if observables is None else 1
        shape = (len(scales), -1, together)
        found = exponential_at_zero(
            scales,
            values.detach().reshape(shape),
            None if known is None else known.detach().reshape(shape),
            asymptote.to(values).expand(values.shape[1:]).reshape(shape[1:]),
            0.0 if observables is None else -1.0,
            1.0,
        )
        return Estimate(*(part.reshape(values.shape[1:]) for part in found))
