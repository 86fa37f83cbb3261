from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from circuits import Circuit, Gate, ansatz
from circuits.backends import (
    SPSA,
    DensityMatrix,
    ParameterShift,
    PennyLane,
    Qiskit,
    Sampled,
    Statevector,
    Trajectories,
)
from circuits.metering import Tally, metering
from circuits.mitigation import ZeroNoiseExtrapolation
from qgen.data import simulate_muon
from qgen.models import BornMachine, CVGenerator
from qgen.models.quantum_discriminator import QuantumDiscriminator

NOISE = {"gates": {"CNOT": {"depolarizing": 0.01}}}
CIRCUIT = ansatz.hardware_efficient(n_wires=3, n_layers=1)
ROWS = 4


def angles(gradient: bool = False) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, 2, CIRCUIT.n_angles, generator=rng, dtype=torch.float64).requires_grad_(gradient)


def counted(call: Callable[[], Any]) -> Tally:
    with metering() as tally:
        call()
    return tally


ENGINES: dict[str, Callable[[], Any]] = {
    "statevector": Statevector,
    "density": lambda: DensityMatrix(NOISE),
    "trajectories": lambda: Trajectories(NOISE, n_trajectories=3),
    "pennylane": PennyLane,
    "pennylane adjoint": lambda: PennyLane("lightning.qubit"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_computes_counts_the_rows_of_angles(name: str) -> None:
    engine = ENGINES[name]()
    assert counted(lambda: engine.probs(CIRCUIT, angles())) == Tally(ROWS, 0)
    assert counted(lambda: engine.expval(CIRCUIT, angles(), ["Z0", "Z1 Z2"])) == Tally(ROWS, 0)
    assert counted(lambda: engine.sample(CIRCUIT, angles(), 7)) == Tally(ROWS, 7 * ROWS)


MEASURING: dict[str, Callable[[], Any]] = {
    "sampled": lambda: Sampled(Statevector(), 10),
    "pennylane": lambda: PennyLane("default.qubit", shots=10),
    "aer": lambda: Qiskit("aer", shots=10),
}


@pytest.mark.parametrize("name", MEASURING)
def test_what_measures_counts_each_basis_and_every_shot(name: str) -> None:
    engine = MEASURING[name]()
    assert counted(lambda: engine.probs(CIRCUIT, angles())) == Tally(ROWS, 10 * ROWS)
    assert counted(lambda: engine.expval(CIRCUIT, angles(), ["Z0", "Z1"])) == Tally(ROWS, 10 * ROWS)
    assert counted(lambda: engine.expval(CIRCUIT, angles(), ["Z0", "X0"])) == Tally(2 * ROWS, 20 * ROWS)
    assert counted(lambda: engine.sample(CIRCUIT, angles(), 7)) == Tally(ROWS, 7 * ROWS)


def test_a_gradient_costs_circuits_where_it_is_had_by_circuits() -> None:
    exact = Statevector().expval(CIRCUIT, angles(True), ["Z0"])
    assert counted(lambda: exact.sum().backward()) == Tally(0, 0)
    shifted = ParameterShift(Statevector()).expval(CIRCUIT, angles(True), ["Z0"])
    turns = sum(bool(gate.angles) for gate in CIRCUIT.gates)
    assert counted(lambda: shifted.sum().backward()) == Tally(2 * turns * ROWS, 0)
    perturbed = SPSA(Sampled(Statevector(), 10), repeats=3).expval(CIRCUIT, angles(True), ["Z0"])
    assert counted(lambda: perturbed.sum().backward()) == Tally(2 * 3 * ROWS, 10 * 2 * 3 * ROWS)


def test_mitigation_costs_what_it_runs() -> None:
    folded = ZeroNoiseExtrapolation(DensityMatrix(NOISE), scales=(1, 2, 3))
    assert counted(lambda: folded.expval(CIRCUIT, angles(), ["Z0"])).executions == 3 * ROWS


def test_models_and_discriminators_are_counted_wherever_they_run() -> None:
    events = simulate_muon(n=60, seed=0)
    born = BornMachine.for_dataset(events, bits=1, layers=1)
    rng = torch.Generator().manual_seed(0)
    # one beam energy is one circuit, an event is one shot of it
    assert counted(lambda: born.sample(50, events.conditions[:50], rng)) == Tally(1, 50)
    played = QuantumDiscriminator.for_events(events.n_features, 0, seed=0)
    values = torch.zeros(9, events.n_features, dtype=torch.float64)
    assert counted(lambda: played(values, None)) == Tally(9, 0)
    modes = CVGenerator.for_dataset(events, layers=1, cutoff=4)
    with torch.no_grad():
        assert counted(lambda: modes.sample(30, events.conditions[:30], rng)).executions == 30


def test_nothing_is_counted_outside() -> None:
    with metering() as tally:
        pass
    Statevector().probs(Circuit(1, [Gate("H", [0])]), torch.zeros(0))
    assert tally == Tally()
