"""Random circuits of all gates, as a hypothesis strategy."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate
from circuits.gate_table import GATES

N_ANGLES = 4


@st.composite
def random_circuits(draw, max_wires=4, max_gates=12, free=True, names=tuple(GATES)):
    n_wires = draw(st.integers(1, max_wires))
    fixed = st.floats(-math.pi, math.pi, allow_subnormal=False)
    index = st.integers(0, N_ANGLES - 1)
    affine = st.builds(
        Angle, index, st.sampled_from([0.5, -1.0, 2.0, 1 / 3]), st.sampled_from([0.0, math.pi / 2, -0.3])
    )
    angle = st.one_of(fixed, index, affine) if free else fixed
    names = [name for name in names if (GATES[name].n_wires or 1) <= n_wires]
    gates = []
    for _ in range(draw(st.integers(0, max_gates))):
        name = draw(st.sampled_from(names))
        size = GATES[name].n_wires or draw(st.integers(1, n_wires))
        wires = draw(st.permutations(range(n_wires)))[:size]
        gates.append(Gate(name, wires, [draw(angle) for _ in range(GATES[name].n_angles)]))
    return Circuit(n_wires, gates, N_ANGLES if free else 0)
