"""Readout mitigation: what was measured, corrected for the errors of measuring."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from circuits.backends.base import (
    Backend,
    Capabilities,
    PauliString,
    check_angles,
    check_shots,
    draw_bits,
    frequencies,
    fresh_generator,
    measurement_groups,
    parse_observables,
)
from circuits.backends.layers import layers, shots_of
from circuits.backends.quasi import nearest_probabilities
from circuits.circuit import Circuit, Gate
from circuits.mitigation.measure import (
    Estimate,
    mean_over_parts,
    mean_over_shots,
    sample_each,
    stacked,
)
from circuits.mitigation.twirling import PauliTwirling
from circuits.noise import NoiseModel

__all__ = ["ReadoutMitigation"]


class ReadoutMitigation:
    """A backend whose readout errors are measured first and then corrected (M3, 2108.12518).

    Each wire has a confusion matrix, the probabilities to read 0 or 1 after 0 or 1 was prepared; errors of different
    wires are taken as independent. Circuits that prepare basis states measure all matrices at once, once for each
    layout: on a device, wires belong to the qubits that the circuit is placed on. A backend that places circuits
    offers ``physical_wires(circuit)``, the qubits on which the wires are measured, and ``place(circuit, qubits)``,
    which puts a circuit on qubits. For an engine with a :class:`~circuits.noise.NoiseModel` (its attribute ``noise``)
    the matrices are the model's; seen through shots, they are known as well as so many shots tell.

    Measured counts are corrected by mthree among the bit strings that occurred, which scales to many wires. The
    probabilities of a backend without shots, and expectation values, are corrected by the inverse matrices, which is
    unbiased: exactly for exact matrices, otherwise up to the calibration's own statistical error.

    Args:
        backend: the inner backend.
        shots: measurements of each wire in each of its two states for the calibration; exact backends need none.
        method: which basis states are prepared: ``"balanced"``, about as many as wires, in which every two wires are in
            each of their joint states equally often, or ``"marginal"``, only all 0 and all 1.
        distance: mthree corrects for at most so many wrong bits in a string; all by default.
        generator: source of the shots of ``probs``, ``expval`` and the calibration; without one, a new one seeded by
            the operating system.

    Raises:
        ImportError: the backend has shots and mthree is missing.
        ValueError: fewer than one shot, an unknown method, or a backend that is mitigated already.

    >>> from circuits.backends import Sampled, Statevector
    >>> coin = Circuit(1, [Gate("H", 0)])
    >>> backend = ReadoutMitigation(Sampled(Statevector(), 100), shots=10)
    >>> backend.confusion(coin)
    tensor([[[1., 0.],
             [0., 1.]]], dtype=torch.float64)
    """

    def __init__(
        self,
        backend: Backend,
        shots: int = 10_000,
        method: Literal["balanced", "marginal"] = "balanced",
        distance: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if method not in ("balanced", "marginal"):
            raise ValueError(f"method is {method!r}; 'balanced' or 'marginal' is needed")
        if distance is not None and (isinstance(distance, bool) or not isinstance(distance, int) or distance < 1):
            raise ValueError(f"distance is {distance!r}; an integer of at least 1 is needed")
        if hasattr(backend, "quasi_probs"):
            raise ValueError(
                f"readout of {backend.name!r} is mitigated already or extrapolated; mitigate readout first"
            )
        self.backend = backend
        self.calibration_shots = check_shots(shots)
        self.method = method
        self.distance = distance
        self.generator = fresh_generator(generator)
        # calibration has a seed of its own: the first one of a layout is the same whenever it is asked for
        self._seed = int(torch.randint(2**62, (), generator=self.generator, device=self.generator.device))
        self._confusion: dict[tuple[int, ...], Tensor] = {}
        self._calibrations: dict[tuple[int, ...], int] = {}
        if shots_of(backend) is not None and importlib.util.find_spec("mthree") is None:
            raise ImportError("readout mitigation needs mthree; install it with: pip install 'qgen-hep[mitigation]'")

    @property
    def name(self) -> str:
        """The inner backend's name, marked."""
        return f"{self.backend.name}, readout mitigated"

    @property
    def capabilities(self) -> Capabilities:
        """The inner backend's; with shots it is not differentiable."""
        inner = self.backend.capabilities
        return replace(inner, differentiable=inner.differentiable and shots_of(self.backend) is None)

    # calibration

    def confusion(self, circuit: Circuit) -> Tensor:
        """The confusion matrices on a circuit's layout, calibrated when they are first asked for.

        Returns:
            ``(n_wires, 2, 2)`` float64, ``[wire, read, prepared]``: columns sum to one.

        Raises:
            ValueError: as in :meth:`calibrate`.
        """
        layout = self._layout(circuit)
        return self._confusion[layout] if layout in self._confusion else self.calibrate(circuit)

    def calibrate(self, circuit: Circuit) -> Tensor:
        """The confusion matrices on a circuit's layout, measured anew and kept for all circuits on it.

        Raises:
            ValueError: the backend cannot place the calibration circuits where the circuit runs, or a wire's readout
                does not tell 0 from 1.
        """
        layout = self._layout(circuit)
        earlier = self._calibrations.get(layout, 0)
        generator = torch.Generator().manual_seed(self._seed + earlier)
        noise = next(filter(None, map(_noise_model, layers(self.backend))), None)
        if noise is not None:
            prepared = noise.prepare(circuit)
            exact = [error.confusion for error in prepared.noise.readout_of(prepared.measured)]
            matrices = self._as_well_as_shots(torch.tensor(exact, dtype=torch.float64), generator)
        else:
            matrices = self._measure(circuit.n_wires, layout, generator)
        for wire, gain in enumerate((matrices[:, 0, 0] + matrices[:, 1, 1] - 1).tolist()):
            if gain < 0.01:
                raise ValueError(f"wire {wire}: readout does not tell 0 from 1, confusion {matrices[wire].tolist()}")
        self._confusion[layout], self._calibrations[layout] = matrices, earlier + 1
        return matrices

    def overhead(self, circuit: Circuit) -> float:
        """How many times the shots corrected values need for the same uncertainty, at most.

        The square of the one-norm of the inverse of all confusion matrices.
        """
        return float(torch.linalg.inv(self.confusion(circuit)).abs().sum(1).amax(-1).prod().square())

    def _layout(self, circuit: Circuit) -> tuple[int, ...]:
        for layer in layers(self.backend):
            if hasattr(layer, "physical_wires"):
                return tuple(layer.physical_wires(circuit))
            if (noise := _noise_model(layer)) is not None:
                prepared = noise.prepare(circuit)
                return tuple(prepared.physical[wire] for wire in prepared.measured)
        return tuple(range(circuit.n_wires))

    def _as_well_as_shots(self, matrices: Tensor, generator: torch.Generator) -> Tensor:
        """Confusion matrices as the calibration's shots would show them; exact without shots."""
        if shots_of(self.backend) is None:
            return matrices
        shots = torch.full((len(matrices), 2), float(self.calibration_shots), dtype=torch.float64)
        ones = torch.binomial(shots, matrices[:, 1], generator=generator) / self.calibration_shots
        return torch.stack([1 - ones, ones], 1)

    def _measure(self, n_wires: int, layout: tuple[int, ...], generator: torch.Generator) -> Tensor:
        prepared = _prepared_states(n_wires, self.method)
        circuits = [Circuit(n_wires, [Gate("X", wire) for wire in range(n_wires) if row[wire]]) for row in prepared]
        placing = next((layer for layer in layers(self.backend) if hasattr(layer, "place")), None)
        for circuit in circuits:
            if placing is not None:
                placing.place(circuit, layout)
            if self._layout(circuit) != layout:
                raise ValueError(
                    f"{self.backend.name}: the circuit runs on qubits {list(layout)}, its calibration on "
                    f"{list(self._layout(circuit))}; the backend cannot be calibrated"
                )
        none = torch.zeros(0, dtype=torch.float64)
        if shots_of(self.backend) is None:
            read = torch.stack([_ones(self.backend.probs(circuit, none)) for circuit in circuits])
        else:
            shots = -(-2 * self.calibration_shots // len(circuits))
            measured = sample_each(self.backend, circuits, none, shots, generator)
            read = torch.stack([bits.to(torch.float64).mean(-2) for bits in measured])
        read = read.detach().to("cpu", torch.float64)
        was_one = prepared.to(torch.float64)
        one = torch.stack([(read * was).sum(0) / was.sum(0) for was in (1 - was_one, was_one)], -1)
        return torch.stack([1 - one, one], 1)

    # values

    def quasi_probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Corrected probabilities, ``(..., 2**n_wires)``; with sum one, but some may be negative.

        Raises:
            ValueError: angles of another shape, or as in :meth:`calibrate`.
        """
        shots = shots_of(self.backend)
        if shots is None:
            found = self.backend.probs(circuit, angles)
            return _on_each_wire(torch.linalg.inv(self.confusion(circuit)), found)
        return self._corrected(circuit, self._bits([circuit], angles, shots, self.generator)[0])

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """The probabilities nearest to the corrected ones, ``(..., 2**n_wires)``.

        Raises:
            ValueError: angles of another shape, or as in :meth:`calibrate`.
        """
        return nearest_probabilities(self.quasi_probs(circuit, angles))

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Corrected expectation values of Pauli strings, ``(..., n_observables)``; unbiased, so they may pass one.

        Raises:
            ValueError: angles of another shape, an impossible observable, or as in :meth:`calibrate`.
        """
        return self.expval_with_error(circuit, angles, observables).value

    def probs_with_error(self, circuit: Circuit, angles: Tensor) -> Estimate:
        """Corrected probabilities, which may be negative, and their deviations, each ``(..., 2**n_wires)``.

        Deviations are the statistical ones of the shots after correction by the inverse matrices, without those of the
        calibration. An exact backend has none; for one that is random, but has no shots, they are NaN.

        Raises:
            ValueError: angles of another shape, or as in :meth:`calibrate`.
        """
        shots = shots_of(self.backend)
        if shots is None:
            value = self.quasi_probs(circuit, angles)
            return Estimate(value, self._none(value))
        (bits,) = self._bits([circuit], angles, shots, self.generator)
        inverse, blocks = torch.linalg.inv(self.confusion(circuit)), self._blocks(shots)
        if blocks is None:
            found = frequencies(bits)
            second = _on_each_wire(inverse.square(), found) - _on_each_wire(inverse, found).square()
            deviation = (second.clamp(min=0) / (shots - 1)).sqrt()
        else:
            parts = bits.tensor_split(blocks, -2)
            corrected = torch.stack([_on_each_wire(inverse, frequencies(part)) for part in parts])
            shares = torch.tensor([part.shape[-2] / shots for part in parts], dtype=torch.float64)
            deviation = mean_over_parts(corrected, shares).deviation
        return Estimate(self._corrected(circuit, bits), deviation)

    def expval_with_error(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Estimate:
        """Corrected expectation values and their deviations, each ``(..., n_observables)``.

        Deviations are as in :meth:`probs_with_error`.

        Raises:
            ValueError: as in :meth:`expval`.
        """
        check_angles(circuit, angles)
        strings = parse_observables(observables, circuit.n_wires)
        groups = measurement_groups(circuit, strings)
        shots = shots_of(self.backend)
        columns: dict[int, Estimate] = {}
        if shots is None:
            for group, places in groups:
                corrected = self.quasi_probs(group, angles)
                for place in places:
                    value = (corrected * _parities(strings[place]).to(corrected)).sum(-1)
                    columns[place] = Estimate(value, self._none(value))
        else:
            measured = self._bits([group for group, _ in groups], angles, shots, self.generator)
            for (group, places), bits in zip(groups, measured, strict=True):
                said = torch.linalg.inv(self.confusion(group)).to(bits.device)
                said = said[:, 0] - said[:, 1]  # what each wire's bit says about its sign
                for place in places:
                    outcome = torch.ones(bits.shape[:-1], dtype=torch.float64, device=bits.device)
                    for wire, _ in strings[place].factors:
                        outcome = outcome * torch.where(bits[..., wire] == 1, said[wire, 1], said[wire, 0])
                    columns[place] = mean_over_shots(outcome, self._blocks(shots))
        return stacked([columns[place] for place in range(len(strings))], -1)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Bits drawn from the corrected probabilities, ``(..., shots, n_wires)`` uint8.

        Not measured: single bits cannot be corrected, distributions can. A backend with shots measures its own number
        of them, or as many as are asked for if those are more; their corrected frequencies are what is drawn from.

        Raises:
            ValueError: angles of another shape, fewer than one shot, or as in :meth:`calibrate`.
        """
        check_shots(shots)
        generator = fresh_generator(generator)
        measured = shots_of(self.backend)
        if measured is None:
            return draw_bits(self.probs(circuit, angles), shots, generator)
        (bits,) = self._bits([circuit], angles, max(measured, shots), generator)
        return draw_bits(nearest_probabilities(self._corrected(circuit, bits)), shots, generator)

    def _bits(
        self, circuits: Sequence[Circuit], angles: Tensor, shots: int, generator: torch.Generator
    ) -> list[Tensor]:
        check_angles(circuits[0], angles)
        return sample_each(self.backend, circuits, angles, shots, generator)

    def _blocks(self, shots: int) -> int | None:
        """How many independent blocks of shots there are, if single shots are not independent."""
        twirls = [layer.twirls for layer in layers(self.backend) if isinstance(layer, PauliTwirling)]
        return min(*twirls, shots) if twirls else None

    def _none(self, value: Tensor) -> Tensor:
        """The deviation of values that are not measured: none, or unknown."""
        return torch.full_like(value, 0.0 if self.backend.capabilities.exact else torch.nan)

    def _corrected(self, circuit: Circuit, bits: Tensor) -> Tensor:
        """Quasi-probabilities of measured bits, ``(..., shots, n_wires)`` to ``(..., 2**n_wires)``, by mthree."""
        from mthree import M3Mitigation

        corrector = M3Mitigation()
        corrector.cals_from_matrices(list(self.confusion(circuit).numpy()))
        n_wires = circuit.n_wires
        found = frequencies(bits)
        result = torch.zeros_like(found)
        wires = list(range(n_wires))[::-1]  # its strings end with the first qubit
        for row, corrected in zip(found.reshape(-1, 2**n_wires), result.view(-1, 2**n_wires), strict=True):
            states = row.nonzero().flatten().tolist()
            shares = row[states].tolist()
            counts = {f"{state:0{n_wires}b}": share for state, share in zip(states, shares, strict=True)}
            quasi: dict[str, Any] = corrector.apply_correction(counts, wires, distance=self.distance or n_wires)
            places = torch.tensor([int(string, 2) for string in quasi], device=found.device)
            corrected[places] = torch.tensor(list(quasi.values()), dtype=found.dtype, device=found.device)
        return result


def _noise_model(layer: Backend) -> NoiseModel | None:
    noise = getattr(layer, "noise", None)
    return noise if isinstance(noise, NoiseModel) else None


def _prepared_states(n_wires: int, method: str) -> Tensor:
    """Basis states of the calibration circuits, ``(n_circuits, n_wires)``; every wire is 1 in half of them.

    >>> _prepared_states(3, "balanced").tolist()
    [[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 0]]
    """
    if method == "marginal":
        return torch.tensor([[0] * n_wires, [1] * n_wires])
    n_circuits = 2 ** n_wires.bit_length()
    return torch.tensor([[(row & wire).bit_count() % 2 for wire in range(1, n_wires + 1)] for row in range(n_circuits)])


def _on_each_wire(matrices: Tensor, values: Tensor) -> Tensor:
    """``(n_wires, 2, 2)`` matrices applied to the bits of ``(..., 2**n_wires)``."""
    shape = values.shape
    for wire, matrix in enumerate(matrices.to(values)):
        split = values.reshape(-1, 2**wire, 2, 2 ** (len(matrices) - 1 - wire))
        values = torch.einsum("ij,sajb->saib", matrix, split)
    return values.reshape(shape)


def _ones(probabilities: Tensor) -> Tensor:
    """Probability of 1 on each wire, ``(2**n_wires,)`` to ``(n_wires,)``."""
    n_wires = probabilities.shape[-1].bit_length() - 1
    table = probabilities.reshape([2] * n_wires)
    return torch.stack([table.select(wire, 1).sum() for wire in range(n_wires)])


def _parities(string: PauliString) -> Tensor:
    """The sign of a Pauli string, measured in its basis, for each basis state, ``(2**n_wires,)``."""
    result = torch.ones(1, dtype=torch.float64)
    letters = dict(string.factors)
    for wire in range(string.n_wires):
        result = torch.kron(result, torch.tensor([1.0, -1.0 if wire in letters else 1.0], dtype=torch.float64))
    return result
