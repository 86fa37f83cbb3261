from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit
from circuits.ansatz import hardware_efficient
from circuits.backends import Statevector
from circuits.commuting import side_by_side
from circuits.iqp import iqp
from random_circuits import random_circuits


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_state_stays(data: st.DataObject) -> None:
    circuit: Circuit = data.draw(random_circuits())
    found = side_by_side(circuit)
    assert sorted(map(str, found.gates)) == sorted(map(str, circuit.gates))
    assert found.depth <= circuit.depth
    angles = torch.linspace(0.3, 2.0, circuit.n_angles, dtype=torch.float64)
    assert torch.allclose(Statevector().state(found, angles), Statevector().state(circuit, angles))


def test_the_depth_of_a_local_circuit_does_not_grow_with_its_size() -> None:
    depths = set()
    for side in (5, 30):
        row = [(i, i + 1) for i in range(side**2 - 1)]
        column = [(i, i + side) for i in range(side * (side - 1))]
        depths.add(side_by_side(iqp(side**2, [*row, *column, *((i,) for i in range(side**2))])).depth)
    assert max(depths) <= 9


def test_what_does_not_commute_stays_as_it_is() -> None:
    circuit = hardware_efficient(4, 2)
    assert side_by_side(circuit).depth == circuit.depth
