from __future__ import annotations

from hypothesis import given, settings

from circuits.cv import CV_GATES, CVGate, Parameter, Program
from random_programs import random_programs


def test_picture_of_a_program():
    gates = [
        CVGate("Displacement", 0, (0, 0.0)),
        CVGate("TwoModeSqueezing", (2, 0), (0.5, 1)),
        CVGate("Loss", 1, (Parameter(2, 0.5, 0.25),)),
        CVGate("CrossKerr", (0, 1), (0.125,)),
    ]
    assert Program(3, gates, photons=[0, 2, 0]).draw().splitlines() == [
        "0: ──D(a0, 0)──●───────────────────────────────CK(0.125)─",
        "1: ──|2>───────│────────────Loss(0.5*a2+0.25)──●─────────",
        "2: ────────────S2(0.5, a1)───────────────────────────────",
    ]


@settings(max_examples=40, deadline=None)
@given(program=random_programs(names=list(CV_GATES), max_gates=12))
def test_every_gate_is_drawn_within_the_width(program):
    picture = program.draw(width=60)
    lines = picture.splitlines()
    assert len(lines) % (program.n_modes + 1) == program.n_modes
    assert all(len(line) <= 60 or line.count("(") <= 1 for line in lines)
    assert picture.count("(") == len(program)
