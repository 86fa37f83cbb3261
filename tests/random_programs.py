"""Random programs of optical modes for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from circuits.cv import CV_GATES, CVGate, Parameter, Program

UNITARY = [name for name, definition in CV_GATES.items() if definition.unitary]


@st.composite
def random_programs(draw, names=UNITARY, max_modes=3, max_gates=6, n_parameters=4, photons=1):
    """Programs whose strengths are small, so that little is lost at cutoff 8."""
    n_modes = draw(st.integers(1, max_modes))
    allowed = [name for name in names if CV_GATES[name].n_modes <= n_modes]
    gates = []
    for _ in range(draw(st.integers(0, max_gates))):
        name = draw(st.sampled_from(allowed))
        modes = draw(st.permutations(range(n_modes)))[: CV_GATES[name].n_modes]
        gates.append(CVGate(name, modes, [draw(_slots(name, n_parameters)) for _ in CV_GATES[name].parameters]))
    start = draw(st.lists(st.integers(0, photons), min_size=n_modes, max_size=n_modes))
    return Program(n_modes, gates, n_parameters, start)


@st.composite
def _slots(draw, name, n_parameters):
    if name == "Loss":
        return draw(st.sampled_from([Parameter(None, offset=0.5), Parameter(2, 0.5, 0.25)]))
    scale = 0.1 if name in ("CubicPhase", "QuadraticPhase", "Squeezing", "TwoModeSqueezing") else 0.5
    number = st.integers(-8, 8).map(lambda n: n * scale / 8)
    factor = st.sampled_from([scale, -scale, scale / 4])
    free = st.builds(Parameter, st.integers(0, n_parameters - 1), factor, number)
    return draw(free | st.builds(lambda value: Parameter(None, offset=value), number))
