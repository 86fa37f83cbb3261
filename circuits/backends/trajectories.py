"""``Trajectories``: noise where a density matrix does not fit, as an average over random pure states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuits.backends.base import (
    Capabilities,
    PauliString,
    check_angles,
    check_shots,
    draw_bits,
    fresh_generator,
    measurement_groups,
    parse_observables,
)
from circuits.backends.density import measured_probabilities
from circuits.backends.memory import bytes_allowed, check_memory, torch_device
from circuits.channels import Depolarizing, GateNoise, OneQubitChannel, ReadoutError
from circuits.circuit import Circuit, Gate
from circuits.gate_table import gate_matrix
from circuits.gates import integer
from circuits.metering import ran
from circuits.noise import NoiseModel, PreparedCircuit

__all__ = ["Trajectories"]

_MOST_WIRES = 30
_CHUNK = 2**22
"""Probabilities held at a time."""


class Trajectories:
    """Noisy simulation by quantum trajectories, also called Monte-Carlo wave functions (Dalibard et al. 1992).

    Each trajectory is a state vector that meets random errors: of every noise channel one Kraus operator acts, drawn
    with its probability. Averages over trajectories converge to those of
    :class:`~circuits.backends.density.DensityMatrix`, with an error that falls as ``1 / sqrt(n_trajectories)``, in the
    memory of state vectors, ``2**n`` instead of ``4**n``. Readout errors are counted exactly. Trajectories run on the
    CPU, compiled, and are not differentiable; :class:`~circuits.backends.gradients.ParameterShift` makes them so.

    Args:
        noise: the noise, or what :meth:`circuits.noise.NoiseModel.from_config` reads; None for none.
        n_trajectories: how many are averaged, for each set of angles.
        generator: source of the randomness of ``probs`` and ``expval``; without one, a new one seeded by the operating
            system.
        dtype: of the state, ``torch.complex128`` or ``torch.complex64``; results are float64.
        device: any torch device; results live there, wherever they were computed.
        memory_limit: bytes that a call may take; by default what is free.

    Raises:
        ValueError: another dtype, a device that is not here, fewer than one trajectory, or an impossible noise model.

    >>> from circuits.backends import DensityMatrix
    >>> noise = {"depolarizing": 0.05, "amplitude_damping": 0.1}
    >>> circuit = Circuit(2, [Gate("RY", [0], [0]), Gate("CNOT", [0, 1])])
    >>> angles = torch.tensor([1.0], dtype=torch.float64)
    >>> backend = Trajectories(noise, 2000, torch.Generator().manual_seed(0))
    >>> mean, error = backend.probs_with_error(circuit, angles)
    >>> bool(((mean - DensityMatrix(noise).probs(circuit, angles)).abs() < 4 * error).all())
    True
    """

    name = "trajectories"

    def __init__(
        self,
        noise: NoiseModel | Mapping[str, Any] | str | None = None,
        n_trajectories: int = 1000,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.complex128,
        device: torch.device | str = "cpu",
        memory_limit: int | None = None,
    ) -> None:
        if dtype not in (torch.complex64, torch.complex128):
            raise ValueError(f"dtype is {dtype}; torch.complex64 or torch.complex128 is needed")
        self.noise = NoiseModel.from_config(noise)
        self.n_trajectories = integer(n_trajectories, "n_trajectories", 1)
        self.generator = fresh_generator(generator)
        self.dtype = dtype
        self.device = torch_device(device)
        self.memory_limit = bytes_allowed(memory_limit)

    @property
    def capabilities(self) -> Capabilities:
        """Neither differentiable nor exact; noisy with a noise model."""
        return Capabilities(differentiable=False, exact=False, noisy=self.noise != NoiseModel(), batched=True)

    def __repr__(self) -> str:
        return f"Trajectories(n_trajectories={self.n_trajectories}, dtype={self.dtype})"

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        """Probabilities of the bits read, averaged over trajectories, ``(..., 2**n_wires)`` float64.

        Raises:
            ValueError: angles of another shape, a circuit that the noise model's device cannot host, or more memory
                needed than there is.
        """
        return self.probs_with_error(circuit, angles)[0]

    def probs_with_error(self, circuit: Circuit, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and their standard errors over the trajectories, each ``(..., 2**n_wires)`` float64.

        One trajectory does not tell its error, which is then NaN.

        Raises:
            ValueError: as of :meth:`probs`.
        """
        return self._averaged(circuit, angles, lambda probs: probs, 2**circuit.n_wires)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        """Expectation values of Pauli strings, averaged over trajectories, with readout errors.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            observables: Pauli strings, dense (``"ZIX"``, wire 0 leftmost) or sparse (``"Z0 X2"``).

        Returns:
            ``(..., n_observables)`` float64.

        Raises:
            ValueError: as of :meth:`probs`, or an impossible observable.
        """
        return self.expval_with_error(circuit, angles, observables)[0]

    def expval_with_error(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Expectation values and their standard errors over the trajectories, each ``(..., n_observables)`` float64.

        Strings that need different bases on a wire are taken from different trajectories.

        Raises:
            ValueError: as of :meth:`expval`.
        """
        strings = parse_observables(observables, circuit.n_wires)
        columns: dict[int, tuple[Tensor, Tensor]] = {}
        for group, places in measurement_groups(circuit, strings):
            turns = tuple((gate.name, gate.wires[0]) for gate in group.gates[len(circuit.gates) :])
            signs = torch.stack([_signs(strings[place]) for place in places], -1)
            found = self._averaged(circuit, angles, lambda probs, signs=signs: probs @ signs, len(places), turns)
            for number, place in enumerate(places):
                columns[place] = (found[0][..., number], found[1][..., number])
        means, errors = zip(*(columns[place] for place in range(len(strings))), strict=True)
        return torch.stack(means, -1), torch.stack(errors, -1)

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        """Measured bits, with readout errors.

        Every shot has a trajectory of its own, up to ``n_trajectories``; more shots share them evenly.

        Args:
            circuit: the circuit.
            angles: ``(..., n_angles)`` in radians.
            shots: how many per set of angles.
            generator: source of randomness; without one, a new one seeded by the operating system.

        Returns:
            ``(..., shots, n_wires)`` uint8; wire 0 first, in random order.

        Raises:
            ValueError: as of :meth:`probs`, or fewer than one shot.
        """
        check_shots(shots)
        generator = fresh_generator(generator)
        n_lanes = min(shots, self.n_trajectories)
        ran(0, shots * angles.shape[:-1].numel())
        each = math.ceil(shots / n_lanes)
        rows = []
        for chunks in self._run(circuit, angles, n_lanes, generator):
            bits = torch.cat([draw_bits(probs, each, generator).flatten(0, 1) for probs in chunks])
            rows.append(bits[torch.randperm(len(bits), generator=generator)[:shots]])
        drawn = torch.stack(rows) if rows else torch.empty((0, shots, circuit.n_wires), dtype=torch.uint8)
        return drawn.reshape(*angles.shape[:-1], shots, circuit.n_wires).to(self.device)

    def _averaged(
        self, circuit: Circuit, angles: Tensor, value: Any, size: int, turns: tuple[tuple[str, int], ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """Mean of a linear function of the probabilities, and its standard error."""
        n = self.n_trajectories
        means, errors = [], []
        for chunks in self._run(circuit, angles, n, self.generator, turns):
            total = torch.zeros(size, dtype=torch.float64)
            squares = torch.zeros_like(total)
            origin: Tensor | None = None
            for probs in chunks:
                values = value(probs)
                origin = values[0] if origin is None else origin  # sums of what lies near zero round less
                total += (values - origin).sum(0)
                squares += (values - origin).square().sum(0)
            if origin is None:
                raise RuntimeError("no trajectory was run")
            means.append(origin + total / n)
            spread = (squares - total.square() / n).clamp(min=0)
            errors.append((spread / (n - 1) / n).sqrt() if n > 1 else torch.full_like(total, torch.nan))
        shape = (*angles.shape[:-1], size)
        if not means:
            means = errors = [torch.zeros(0, size, dtype=torch.float64)]
        mean, error = (torch.stack(rows).reshape(shape).to(self.device) for rows in (means, errors))
        return mean, error

    @torch.no_grad()
    def _run(
        self,
        circuit: Circuit,
        angles: Tensor,
        n_lanes: int,
        generator: torch.Generator,
        turns: tuple[tuple[str, int], ...] = (),
    ) -> Iterator[Iterator[Tensor]]:
        """For each set of angles, the trajectories' probabilities in chunks, ``(chunk, 2**n_wires)``."""
        check_angles(circuit, angles)
        flat = angles.detach().to("cpu", torch.float64).reshape(math.prod(angles.shape[:-1]), circuit.n_angles)
        if not bool(torch.isfinite(flat).all()):
            raise ValueError("angles are not finite")
        prepared = self.noise.prepare(circuit)
        n_wires = prepared.circuit.n_wires
        if n_wires > _MOST_WIRES:
            raise ValueError(f"{n_wires} qubits: a trajectory has at most {_MOST_WIRES}")
        chunk = min(n_lanes, max(1, _CHUNK >> n_wires))
        needed = 2**n_wires * (self.dtype.itemsize + 4 * 8 * chunk)
        check_memory(needed, self.memory_limit, torch.device("cpu"), f"trajectories of {n_wires} qubits")
        plan = _plan(prepared, turns)
        readout = prepared.noise.readout_of(prepared.measured)
        ran(len(flat))
        for row in flat:
            single, double = (matrices.to(self.dtype).numpy() for matrices in plan.matrices(row))
            yield (
                _read(plan.run(single, double, min(chunk, n_lanes - start), generator), prepared, readout)
                for start in range(0, n_lanes, chunk)
            )


@dataclass
class _Plan:
    """A circuit as the operations of :func:`circuits.backends.jumps.trajectories`.

    Args:
        n_wires: wires that are run.
        gates: those on one wire and those on two, in order.
        kinds, wires, places: of the operations.
        mixtures: for each Pauli operation, the cumulative probabilities of its operators.
        rates: for each decay, its probability.
    """

    n_wires: int
    gates: tuple[list[Gate], list[Gate]] = field(default_factory=lambda: ([], []))
    kinds: list[int] = field(default_factory=list)
    wires: list[tuple[int, int]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    mixtures: list[Tensor] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def add(self, kind: int, place: int, first: int, second: int = -1) -> None:
        """One more operation."""
        self.kinds.append(kind)
        self.places.append(place)
        self.wires.append((first, second))

    def matrices(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """The matrices of the gates on one wire and of those on two, complex128."""
        return _matrices(self.gates[0], 1, angles), _matrices(self.gates[1], 2, angles)

    def run(self, single: NDArray[Any], double: NDArray[Any], n_lanes: int, generator: torch.Generator) -> Tensor:
        """Probabilities of some trajectories, ``(n_lanes, 2**n_wires)`` float64."""
        from circuits.backends.jumps import trajectories

        drawn = torch.rand((len(self.mixtures), n_lanes), generator=generator, dtype=torch.float64)
        codes = torch.empty((n_lanes, len(self.mixtures)), dtype=torch.int64)
        for place, cumulative in enumerate(self.mixtures):
            codes[:, place] = torch.searchsorted(cumulative, drawn[place], right=True).clamp_(max=len(cumulative) - 1)
        draws = torch.rand((n_lanes, len(self.rates)), generator=generator, dtype=torch.float64)
        probs = torch.empty((n_lanes, 2**self.n_wires), dtype=torch.float64)
        trajectories(
            np.array(self.kinds, dtype=np.int64),
            np.array(self.wires, dtype=np.int64).reshape(-1, 2),
            np.array(self.places, dtype=np.int64),
            single,
            double,
            np.array(self.rates, dtype=np.float64),
            codes.numpy(),
            draws.numpy(),
            self.n_wires,
            probs.numpy(),
        )
        return probs


@lru_cache(maxsize=64)
def _plan(prepared: PreparedCircuit, turns: tuple[tuple[str, int], ...]) -> _Plan:
    from circuits.backends.jumps import ONE, TWO

    plan = _Plan(prepared.circuit.n_wires)
    ideal = [Gate(name, prepared.measured[wire]) for name, wire in turns]
    for number, gate in enumerate([*prepared.circuit.gates, *ideal]):
        gates = plan.gates[len(gate.wires) - 1]
        plan.add(ONE if len(gate.wires) == 1 else TWO, len(gates), *gate.wires)
        gates.append(gate)
        if number < len(prepared.circuit.gates):
            _add_noise(plan, prepared.noise.channels(gate.name, gate.wires), gate.wires)
    return plan


def _add_noise(plan: _Plan, noise: GateNoise, wires: tuple[int, ...]) -> None:
    from circuits.backends.jumps import DECAY, PAULI

    decays = dict.fromkeys(wires, 1.0)  # probabilities that nothing happens
    flips = dict.fromkeys(wires, 1.0)  # what coherences are multiplied with

    def settle() -> None:
        for wire in wires:
            if flips[wire] < 1:
                plan.add(PAULI, len(plan.mixtures), wire)
                flip = (1 - flips[wire]) / 2
                plan.mixtures.append(torch.tensor([1 - flip, 0, 0, flip], dtype=torch.float64).cumsum(0))
            if decays[wire] < 1:
                plan.add(DECAY, len(plan.rates), wire)
                plan.rates.append(1 - decays[wire])
            decays[wire] = flips[wire] = 1.0

    for channel, position in noise:
        on = wires if position is None else (wires[position],)
        if isinstance(channel, OneQubitChannel):  # such channels commute, those of a wire are one
            for wire in on:
                decays[wire] *= 1 - channel.decay
                flips[wire] *= 1 - 2 * channel.phase_flip
        elif isinstance(channel, Depolarizing):
            settle()
            plan.add(PAULI, len(plan.mixtures), *on)
            mixture = torch.full((4 ** len(on),), channel.probability / 4 ** len(on), dtype=torch.float64)
            mixture[0] += 1 - channel.probability
            plan.mixtures.append(mixture.cumsum(0))
        else:
            raise TypeError(f"{channel!r} has no trajectories")
    settle()


def _matrices(gates: Sequence[Gate], n_wires: int, angles: Tensor) -> Tensor:
    result = torch.empty((len(gates), 2**n_wires, 2**n_wires), dtype=torch.complex128)
    by_name: dict[str, list[int]] = {}
    for place, gate in enumerate(gates):
        by_name.setdefault(gate.name, []).append(place)
    for name, places in by_name.items():
        values = [
            [a.offset if a.index is None else a.scale * float(angles[a.index]) + a.offset for a in gates[place].angles]
            for place in places
        ]
        slots = torch.tensor(values, dtype=torch.float64).reshape(len(places), -1)
        result[places] = gate_matrix(name, slots, n_wires)
    return result


def _read(probs: Tensor, prepared: PreparedCircuit, readout: Sequence[ReadoutError]) -> Tensor:
    """Probabilities of the bits read on the measured wires, from those of all wires."""
    n_wires = prepared.circuit.n_wires
    if prepared.measured != tuple(range(n_wires)):
        left = [wire for wire in range(n_wires) if wire not in prepared.measured]
        split = probs.reshape(-1, *[2] * n_wires).permute(0, *(1 + wire for wire in (*prepared.measured, *left)))
        probs = split.reshape(len(probs), 2 ** len(prepared.measured), -1).sum(-1)
    return measured_probabilities(probs, readout) if any(readout) else probs


def _signs(string: PauliString) -> Tensor:
    """The sign of a string of Z for each basis state."""
    signs = torch.ones(1, dtype=torch.float64)
    letters = dict(string.factors)
    for wire in range(string.n_wires):
        signs = torch.kron(signs, torch.tensor([1.0, -1.0 if wire in letters else 1.0], dtype=torch.float64))
    return signs
