from __future__ import annotations

import contextlib
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate
from circuits.backends import (
    BACKENDS,
    Backend,
    DensityMatrix,
    ParameterShift,
    PauliString,
    Sampled,
    Statevector,
    Trajectories,
)
from circuits.backends.base import check_angles, check_shots, parse_observables

FAST = settings(max_examples=100, deadline=None)


def test_backends_answer_the_protocol():
    assert BACKENDS["statevector"] is Statevector
    for backend in (Statevector(), ParameterShift(Statevector())):
        assert isinstance(backend, Backend)
        assert backend.capabilities.differentiable
    assert not ParameterShift(Sampled(Statevector(), 10)).capabilities.exact


@FAST
@given(letters=st.text("IXYZ", min_size=1, max_size=8))
def test_both_notations_are_one(letters):
    n_wires = len(letters)
    string = PauliString.parse(letters, n_wires)
    sparse = " ".join(f"{letter}{wire}" for wire, letter in enumerate(letters))
    assert PauliString.parse(sparse, n_wires) == string
    assert str(string) == letters
    assert f"{string.x_mask:0{n_wires}b}" == "".join("1" if letter in "XY" else "0" for letter in letters)
    assert f"{string.z_mask:0{n_wires}b}" == "".join("1" if letter in "YZ" else "0" for letter in letters)


@FAST
@given(text=st.text(max_size=10) | st.text("IXYZ 0123", max_size=10), n_wires=st.integers(1, 4))
def test_any_text_is_a_pauli_string_or_a_value_error(text, n_wires):
    with contextlib.suppress(ValueError):
        assert PauliString.parse(text, n_wires).n_wires == n_wires


@pytest.mark.parametrize(
    ("observables", "message"),
    [
        ([], "a list of Pauli strings is needed"),
        ("ZZ", "a list of Pauli strings is needed"),
        ([3], "observable is 3"),
        (["ZZZ"], "'ZZZ' has 3 letters; the circuit has 2 wires"),
        (["Z2"], "wire 2 is out of range 0 to 1"),
        (["Z0 X0"], "names a wire twice"),
        (["A0"], "is not a Pauli string"),
        ([""], "is not a Pauli string"),
    ],
)
def test_observables_that_are_refused(observables, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_observables(observables, 2)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("angles", "message"),
    [
        ([0.0], "angles are a list; a torch tensor is needed"),
        (torch.zeros(2), r"angles have shape \(2,\); expected \(\.\.\., 1\)"),
        (torch.tensor(0.0), r"angles have shape \(\)"),
        (torch.zeros(1, dtype=torch.complex64), "real numbers are needed"),
    ],
)
def test_angles_that_are_refused(angles, message):
    with pytest.raises(ValueError, match=message):
        check_angles(Circuit(1, [Gate("RX", 0, [0])]), angles)


@pytest.mark.parametrize("shots", [0, -1, 1.0, True, None])
def test_shots_that_are_refused(shots):
    with pytest.raises(ValueError, match="an integer of at least 1 is needed"):
        check_shots(shots)


@pytest.mark.parametrize("engine", [Statevector, DensityMatrix, Trajectories])
@pytest.mark.parametrize("limit", [0, -5, "5", 1.5, True])
def test_a_limit_of_memory_is_a_number_of_bytes(engine, limit):
    line = f"memory_limit is {limit!r}; an integer of at least 1 is needed"
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        engine(memory_limit=limit)
