from __future__ import annotations

import math

import pytest
import torch
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate
from circuits.gate_table import GATES

N_ANGLES = 4


@st.composite
def _circuits(draw, max_wires=4, max_gates=12, free=True):
    n_wires = draw(st.integers(1, max_wires))
    fixed = st.floats(-math.pi, math.pi, allow_subnormal=False)
    index = st.integers(0, N_ANGLES - 1)
    affine = st.builds(
        Angle, index, st.sampled_from([0.5, -1.0, 2.0, 1 / 3]), st.sampled_from([0.0, math.pi / 2, -0.3])
    )
    angle = st.one_of(fixed, index, affine) if free else fixed
    names = [name for name, gate in GATES.items() if (gate.n_wires or 1) <= n_wires]
    gates = []
    for _ in range(draw(st.integers(0, max_gates))):
        name = draw(st.sampled_from(names))
        size = GATES[name].n_wires or draw(st.integers(1, n_wires))
        wires = draw(st.permutations(range(n_wires)))[:size]
        gates.append(Gate(name, wires, [draw(angle) for _ in range(GATES[name].n_angles)]))
    return Circuit(n_wires, gates, N_ANGLES if free else 0)


@pytest.fixture(scope="session")
def circuits():
    """The strategy of random circuits: ``data.draw(circuits(max_wires=3))``."""
    return _circuits


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
