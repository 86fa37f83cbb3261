from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.cv import CV_GATES, CVGate, Fock, Parameter, Program
from random_programs import random_programs

SOME = settings(max_examples=30, deadline=None)
VECTOR = torch.tensor([0.21, -0.13, 0.4, 0.3], dtype=torch.float64)


def _amplitudes(program, parameters=VECTOR):
    return Fock(8, warn_above=None).run(program, parameters[: program.n_parameters]).amplitudes


@SOME
@given(program=random_programs(names=list(CV_GATES)))
def test_json_gives_the_program_back(program):
    assert Program.from_json(program.to_json()) == program
    assert hash(pickle.loads(pickle.dumps(program))) == hash(program)


@SOME
@given(text=st.text() | st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_any_text_gives_one_line(text):
    with pytest.raises(ValueError, match="program") as caught:
        Program.from_json(text)
    assert "\n" not in str(caught.value)


SHAPE = {
    "n_modes": st.sampled_from([2, 0, 10**12, "2", None]),
    "n_parameters": st.sampled_from([2, -1, 0.5, None]),
    "photons": st.sampled_from([None, [0, 1], [1], [-1, 0], "ab", 3]),
    "gates": st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["Kerr", "Beamsplitter", "Loss", "Ker", 3])},
            optional={
                "modes": st.sampled_from([0, [0], [0, 1], [1, 1], [5], "0", None, [True]]),
                "parameters": st.lists(
                    st.sampled_from(
                        [{"value": 0.5}, {"value": 2}, {"index": 0}, {"index": -1}, {"value": None}, {"scale": 1}, 7]
                    ),
                    max_size=2,
                ),
                "colour": st.none(),
            },
        ),
        max_size=3,
    ),
}


@SOME
@given(content=st.fixed_dictionaries({}, optional=SHAPE))
def test_nearly_right_json_is_read_or_refused_in_one_line(content):
    try:
        program = Program.from_json(json.dumps(content))
    except ValueError as error:
        lines = str(error).splitlines()
    else:
        lines = [str(program.n_modes)]
        assert Program.from_json(program.to_json()) == program
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Program(0), "n_modes is 0"),
        (lambda: Program(10**9), "n_modes is 1000000000; at most 10000"),
        (lambda: Program(1, 3), "gates are 3; a sequence"),
        (lambda: Program(1, ["Kerr"]), "gate 0 is 'Kerr'; a CVGate"),
        (lambda: Program(2, [CVGate("Kerr", 2, (0,))]), r"gate 0, Kerr\(a0\) \[2\]: mode 2 is out of range 0 to 1"),
        (lambda: Program(1, [CVGate("Kerr", 0, (3,))], 2), "parameter index 3 is not below n_parameters = 2"),
        (lambda: Program(2, photons=[1]), "photons are given for 1 modes; the program has 2"),
        (lambda: Program(1, photons=[-1]), "photons of mode 0 is -1"),
        (lambda: Program(1, photons=2), "photons are 2"),
        (lambda: CVGate("Squeeze", 0, (0, 0)), "'Squeeze' is unknown; did you mean Squeezing"),
        (lambda: CVGate("Kerr", -1, (0,)), "mode of Kerr is -1"),
        (lambda: CVGate("Kerr", (0, 1), (0,)), r"Kerr is given 2 modes \(0, 1\); it takes 1"),
        (lambda: CVGate("CrossKerr", (1, 1), (0,)), "given a mode twice"),
        (lambda: CVGate("Squeezing", 0, (0,)), "given 1 parameters; it takes 2: r, phi"),
        (lambda: CVGate("Kerr", 0, (float("nan"),)), "nan"),
        (lambda: CVGate("Loss", 0, (1.5,)), "transmissivity of Loss is 1.5; a number from 0 to 1"),
        (lambda: Program(1, [CVGate("Kerr", 0, (0,))]).bind([]), "0 parameters are given; the program has 1"),
        (lambda: Program(1, [CVGate("Kerr", 0, (0,))]).bind([float("inf")]), "parameter 0 is inf"),
        (lambda: Program(1, [CVGate("Loss", 0, (0,))]).bind([-0.5]), "transmissivity of Loss is -0.5"),
        (lambda: Program(1, [CVGate("Loss", 0, (0.5,))]).inverse(), "has no inverse"),
        (lambda: Program(1, photons=[1]).inverse(), "starts with photons"),
        (lambda: Program(1) + Program(2), "1 and 2 modes"),
        (lambda: Program(2).remap(modes=[0]), "remap is given 1 modes"),
        (lambda: Program(2).remap(modes=[0, 0]), "a mode twice"),
        (lambda: Program(2).remap(modes=[0, -1]), "mode is -1"),
        (lambda: Program(2, photons=[0, 1]).remap(n_modes=1), "remap is given mode 1; it is out of range 0 to 0"),
        (lambda: Program(1).remap(n_modes="3"), "n_modes is '3'"),
        (lambda: Program(1, [CVGate("Kerr", 0, (0,))], "1"), "n_parameters is '1'"),
        (lambda: Program(1, [CVGate("Kerr", 0, (0,))]).bind(0.5), "parameters are 0.5; a sequence"),
        (lambda: Program(1, [CVGate("Kerr", 0, (0,))]).bind(torch.zeros(1, 2)), r"parameter 0 is \[0.0, 0.0\]"),
    ],
)
def test_mistakes_are_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@SOME
@given(program=random_programs(max_modes=2, max_gates=4, photons=0))
def test_inverse_undoes(program):
    both = Program(
        program.n_modes, program.bind(VECTOR).gates + program.inverse().remap(n_parameters=4).bind(VECTOR).gates
    )
    vacuum = torch.zeros_like(_amplitudes(both))
    vacuum[0] = 1
    torch.testing.assert_close(
        Fock(24, warn_above=None).run(both, VECTOR[:0]).amplitudes[0], vacuum[0], atol=1e-3, rtol=0
    )


@SOME
@given(program=random_programs())
def test_bound_and_free_programs_give_the_same_state(program):
    bound = program.bind(VECTOR)
    assert bound.n_parameters == 0
    torch.testing.assert_close(_amplitudes(bound), _amplitudes(program))


@pytest.mark.parametrize(
    "values", [[0.5], np.array([0.5]), [torch.tensor(0.5)], torch.tensor([0.5], requires_grad=True)], ids=str
)
def test_values_to_bind_may_be_tensors_and_arrays(values):
    assert str(Program(1, [CVGate("Kerr", 0, (0,))]).bind(values).gates[0]) == "Kerr(0.5) [0]"


def test_joined_programs_follow_each_other_in_the_vector():
    first = Program(2, [CVGate("Squeezing", 0, (0, 1))], photons=[0, 1])
    second = Program(2, [CVGate("Kerr", 1, (Parameter(0, 0.5, 0.1),))], n_parameters=3)
    both = first + second
    assert (both.n_parameters, both.photons) == (5, (0, 1))
    assert str(both.gates[1]) == "Kerr(0.5*a2+0.1) [1]"


def test_remap():
    program = Program(2, [CVGate("CrossKerr", (0, 1), (1,))], photons=[2, 0]).remap(modes=[3, 1], parameters=[0, 0])
    assert (program.n_modes, program.n_parameters, program.photons) == (4, 1, (0, 0, 0, 2))
    assert str(program.gates[0]) == "CrossKerr(a0) [3, 1]"


def test_numpy_integers_are_modes():
    assert CVGate("Kerr", np.int64(2), (0.5,)).modes == (2,)


def test_what_a_program_is():
    cubic = Program(1, [CVGate("CubicPhase", 0, (0.1,))])
    lossy = Program(1, [CVGate("Loss", 0, (0.9,))])
    assert (cubic.is_gaussian, cubic.is_unitary, lossy.is_gaussian, lossy.is_unitary) == (False, True, True, False)
    assert not Program(1, photons=[1]).is_gaussian
