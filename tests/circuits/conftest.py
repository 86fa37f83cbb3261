from __future__ import annotations

import pytest
import torch

from circuits import Circuit, Gate
from circuits.gate_table import GATES
from random_circuits import random_circuits


@pytest.fixture(scope="session")
def circuits():
    """The strategy of random circuits: ``data.draw(circuits(max_wires=3))``."""
    return random_circuits


@pytest.fixture(scope="session")
def every_gate():
    """A circuit on four wires with every gate at least once, between layers that make all amplitudes non-zero."""
    gates = [Gate("RY", w, [w]) for w in range(4)] + [Gate("RX", w, [4 + w]) for w in range(4)]
    index = 8
    for number, (name, gate) in enumerate(GATES.items()):
        size = gate.n_wires or 3
        wires = [(number + k) % 4 for k in range(size)]
        gates.append(Gate(name, wires, range(index, index + gate.n_angles)))
        index += gate.n_angles
    gates += [Gate("H", w) for w in range(4)]
    return Circuit(4, gates)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(7)
