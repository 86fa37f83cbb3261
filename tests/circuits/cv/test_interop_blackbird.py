from __future__ import annotations

import cmath
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import unitary_group

from circuits.cv import CV_GATES, CVGate, Fock, Parameter, Program
from circuits.cv.blackbird_expressions import Expressions, Tokens
from circuits.cv.meshes import interferometer
from random_programs import random_programs

SOME = settings(max_examples=40, deadline=None)
HEAD = "name test\nversion 1.0\n"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import blackbird


def _read(body):
    return Program.from_blackbird(HEAD + body)


def _gates(body):
    return [str(gate) for gate in _read(body).gates]


@SOME
@given(program=random_programs(names=list(CV_GATES)))
def test_round_trip(program):
    back = Program.from_blackbird(program.to_blackbird())
    assert (back.n_modes, back.gates, back.photons) == (program.n_modes, program.gates, program.photons)


@settings(max_examples=15, deadline=None)
@given(program=random_programs(names=list(CV_GATES)))
def test_text_means_the_same_to_the_reference_reader(program):
    found = blackbird.loads(program.to_blackbird("ours"))
    assert found.name == "ours"
    values = {f"a{index}": 0.1 + 0.2 * index for index in range(4)}
    if found.is_template():
        found = found(**{name: values[name] for name in found.parameters})
    operations = [o for o in found.operations if o["op"] not in ("Fock", "Vacuum")]
    bound = program.bind([values[f"a{index}"] for index in range(4)])
    names = {
        "Rotation": "Rgate",
        "Displacement": "Dgate",
        "Squeezing": "Sgate",
        "QuadraticPhase": "Pgate",
        "CubicPhase": "Vgate",
        "Kerr": "Kgate",
        "Beamsplitter": "BSgate",
        "TwoModeSqueezing": "S2gate",
        "CrossKerr": "CKgate",
        "Loss": "LossChannel",
    }
    assert len(operations) == len(bound)
    for gate, operation in zip(bound.gates, operations, strict=True):
        assert (names[gate.name], list(gate.modes)) == (operation["op"], operation["modes"])
        np.testing.assert_allclose([slot.offset for slot in gate.parameters], np.array(operation["args"], dtype=float))


EXPRESSIONS = st.recursive(
    st.sampled_from(["1", "2", "0.5", "3e-1", "pi", "1+2j", "0.5-0.25j", "x", "n", "A[1]"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from([" + ", " - ", "*", "/", "**"]), inner).map("".join)
        | inner.map("-{}".format)
        | inner.map("({})".format)
        | st.tuples(st.sampled_from(["sin", "exp", "sqrt", "arctan", "cosh"]), inner).map("{0[0]}({0[1]})".format)
    ),
    max_leaves=5,
)
VARIABLES = "float x = 0.75\nint n = 3\nfloat array A =\n    0.1, 0.2\n"


@settings(max_examples=150, deadline=None)
@given(expression=EXPRESSIONS)
def test_arithmetic_is_the_reference_readers(expression):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            text = f"{HEAD}{VARIABLES}complex z = {expression}\nRgate(z) | 0\n"
            theirs = complex(blackbird.loads(text).operations[0]["args"][0])
    except Exception:  # it lets errors of many kinds through; what it refuses is no reference
        theirs = complex(math.nan)
    if cmath.isfinite(theirs) and abs(theirs) < 1e6:
        reader = Expressions({"x": 0.75, "n": 3, "A": np.array([[0.1, 0.2]])}, Parameter.of)
        assert reader.value(Tokens(expression)) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_program_with_a_target_and_an_array():
    unitary = unitary_group.rvs(3, random_state=1)
    rows = "\n".join("    " + ", ".join(f"{z.real!r}{z.imag:+.17g}j" for z in row.tolist()) for row in unitary)
    body = f"""target gaussian (shots=10)

complex array mixer[3, 3] =
{rows}

# light in, mixed, measured
Sgate(0.5) | 0
Interferometer(mixer) | [2, 0, 1]
MeasureFock() | [0, 1, 2]
"""
    assert _read(body).gates[1:] == interferometer(unitary, modes=[2, 0, 1])
    theirs = blackbird.loads(HEAD + body).operations
    assert [operation["op"] for operation in theirs] == ["Sgate", "Interferometer", "MeasureFock"]
    np.testing.assert_allclose(theirs[1]["args"][0], unitary)


def test_every_operation():
    body = """float r = 0.25
Fock(2) | 0
Coherent(0.5, 0.125) | 1
Squeezed(r) | 2
DisplacedSqueezed(0.5, 1.0, 0.75, 2.0) | 3
Vacuum() | 4
Dgate(r) | 0
Dgate(r=0.5, phi=0.25) | (0)
Xgate(1.0) | 1
Zgate({x}) | 1
Sgate(r, phi=1) | 0
Pgate(0.5) | 0
Vgate(0.5) | 0
Kgate(0.5) | 0
Rgate(0.5) | 0
Fouriergate() | 0
Fouriergate | 0
BSgate() | 0, 1
BSgate(0.5) | [0,1]
S2gate(0.5) | (1, 0)
CKgate(0.5) | [0, 1]
LossChannel({x}) | 0
MeasureHomodyne(0.5) | 0
MeasureX | 1
"""
    program = _read(body)
    assert (program.n_modes, program.n_parameters, program.photons) == (5, 1, (2, 0, 0, 0, 0))
    assert [str(gate) for gate in program.gates] == [
        "Displacement(0.5, 0.125) [1]",
        "Squeezing(0.25, 0) [2]",
        "Squeezing(0.75, 2) [3]",
        "Displacement(0.5, 1) [3]",
        "Displacement(0.25, 0) [0]",
        "Displacement(0.5, 0.25) [0]",
        "Displacement(0.5, 0) [1]",
        "Displacement(0.5*a0, 1.571) [1]",
        "Squeezing(0.25, 1) [0]",
        "QuadraticPhase(0.5) [0]",
        "CubicPhase(0.5) [0]",
        "Kerr(0.5) [0]",
        "Rotation(0.5) [0]",
        "Rotation(1.571) [0]",
        "Rotation(1.571) [0]",
        "Beamsplitter(0.7854, 0) [0, 1]",
        "Beamsplitter(0.5, 0) [0, 1]",
        "TwoModeSqueezing(0.5, 0) [1, 0]",
        "CrossKerr(0.5) [0, 1]",
        "Loss(a0) [0]",
    ]


def test_mach_zehnder_and_controlled_gates():
    """Against the unitary in the documentation of MZgate, and the maps of the quadratures of the others."""
    inside, outside, s = 0.4, 0.9, 0.3
    photon = Fock(2, basis="total").run(
        Program(2, _read(f"MZgate({inside}, {outside}) | [0, 1]\n").gates, photons=[1, 0]), torch.zeros(0)
    )
    turn, ext = np.exp(1j * inside), np.exp(1j * outside)
    expected = 0.5 * np.array([0, 1j * (turn + 1) * ext, (turn - 1) * ext])  # no photon, in mode 1, in mode 0
    np.testing.assert_allclose(photon.amplitudes, expected, atol=1e-12)
    for name, moved in (("CXgate", [0.6, 0.2 + 0.6 * s, 0.0, 0.4]), ("CZgate", [0.6, 0.2, s * 0.2, 0.4 + s * 0.6])):
        body = f"Coherent(0.3) | 0\nCoherent(0.1) | 1\nZgate(0.4) | 1\n{name}({s}) | [0, 1]\n"
        state = Fock(24).run(_read(body), torch.zeros(0))
        x, p = state.quadratures(0.0)[0], state.quadratures(np.pi / 2)[0]
        if name == "CXgate":
            moved = [0.6, 0.2 + 0.6 * s, -0.4 * s, 0.4]
        np.testing.assert_allclose(torch.cat([x, p]), moved, atol=1e-8)


def test_hbar_moves_with_the_units():
    program = Program.from_blackbird(HEAD + "Xgate(1.0) | 0\n", hbar=0.5)
    assert str(program.gates[0]) == "Displacement(1, 0) [0]"


def test_loops():
    assert _gates("for int i in 0:5:2\n    Rgate(0.5*i) | i\n    Kgate(1) | 0\nKgate(2) | 3\n") == [
        "Rotation(0) [0]",
        "Kerr(1) [0]",
        "Rotation(1) [2]",
        "Kerr(1) [0]",
        "Rotation(2) [4]",
        "Kerr(1) [0]",
        "Kerr(2) [3]",
    ]
    assert _gates("for float x in [0.5, 0.25]\n\tRgate(x) | 0\n") == ["Rotation(0.5) [0]", "Rotation(0.25) [0]"]
    assert _gates("for int i in 2, 0\n\tRgate(1) | i\n") == ["Rotation(1) [2]", "Rotation(1) [0]"]


def test_template_parameters():
    program = _read("float t = {theta}/2 - 0.25*{theta}\nRgate({phi}) | 0\nRgate(2*(t + 1)) | 0\n")
    assert (program.n_parameters, [str(gate.parameters[0]) for gate in program.gates]) == (2, ["a1", "0.5*a0+2"])
    assert _read("Rgate({a3}) | 0\nRgate({a1} - {a1}) | 0\n").n_parameters == 4
    assert _gates("Rgate({a1} - {a1}) | 0\nRgate(0*{a1}) | 0\n") == ["Rotation(0) [0]", "Rotation(0) [0]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the text ends before its 'version' line"),
        ("version 1.0\n", "line 1: 'version' is not expected; 'name' is"),
        ("name a\nversion 2.0\n", "line 2: version is 2.0; 1.0 is allowed"),
        (HEAD, "line 3: the text has no modes"),
        (HEAD + "Rgate(0.1) 0\n", r"line 3: '0' is not expected; '\|' is"),
        (HEAD + "\n# words\nRgate(0.1) |\n", "line 5: the line ends early"),
        (HEAD + "Rgate(0.1 | 0\n", r"line 3: '\|' is not expected"),
        (HEAD + "Rgate(0.1;) | 0\n", "line 3: ';' is not expected"),
        (HEAD + "Rgate(.5) | 0\n", "line 3: '.' is not expected"),
        (HEAD + "Rgate(x) | 0\n", "line 3: 'x' is not defined"),
        (HEAD + "Rgate(q0) | 0\n", "line 3: 'q0' is the result of a measurement"),
        (HEAD + "Rgate(1/0) | 0\n", "line 3: division by zero"),
        (HEAD + "Rgate(9**9**9**9) | 0\n", "line 3: .*range"),
        (HEAD + "Rgate(sqrt(-1)) | 0\n", "line 3: math domain error"),
        (HEAD + "Rgate(1e999) | 0\n", "line 3: a value is inf"),
        (HEAD + "Rgate(1+2j) | 0\n", r"line 3: theta of Rgate is \(1\+2j\); a real number"),
        (HEAD + "Rgate(" + "(" * 5000 + "1\n", "line 3: expressions are nested too deeply"),
        (HEAD + "Rgate(0.1, 0.2) | 0\n", "Rgate is given 2 values; it takes 1: theta"),
        (HEAD + "Rgate() | 0\n", "Rgate lacks theta"),
        (HEAD + "Dgate(0.1, r=0.2) | 0\n", "Dgate is given 'r', twice or wrongly; it takes r, phi"),
        (HEAD + "Dgate(r=0.1, 0.2) | 0\n", "a value without a name follows one with a name"),
        (HEAD + "Rgate(0.1) | [0, 1]\n", "Rgate is given 2 modes; it takes 1"),
        (HEAD + "BSgate() | [0, 0]\n", "given a mode twice"),
        (HEAD + "Rgate(0.1) | -1\n", r"modes of Rgate are \[-1\]; integers from 0"),
        (HEAD + "Rgate(0.1) | 99999999999\n", "modes of Rgate are"),
        (HEAD + "Rgate(0.1) | 0.5\n", "modes of Rgate are"),
        (HEAD + "Rgatte(0.1) | 0\n", "Rgatte is unknown or cannot be imported"),
        (HEAD + "Thermal(0.1) | 0\n", "Thermal is unknown or cannot be imported"),
        (HEAD + "MeasureX | 0\nRgate(0.1) | 0\n", r"line 4: Rgate on modes \[0\] follows a measurement"),
        (HEAD + "MeasureFock(select=1) | 0\n", "MeasureFock selects an outcome"),
        (HEAD + "Rgate(0.1) | 0\nFock(1) | 0\n", "line 4: Fock prepares mode 0 a second time or after a gate"),
        (HEAD + "Fock(0.5) | 0\n", "n of Fock is 0.5"),
        (HEAD + "LossChannel(1.5) | 0\n", "transmissivity of Loss is 1.5"),
        (HEAD + "Interferometer(0.5) | [0, 1]\n", "U of Interferometer is not an array"),
        (
            HEAD + "float array U =\n    1, 2\n    3, 4\nInterferometer(U) | [0, 1]\n",
            "line 6: interferometer is not unitary",
        ),
        (HEAD + "float array U[2, 3] =\n    1, 2\n    3, 4\n", r"line 3: array 'U' has 2 rows; \(2, 3\) is needed"),
        (HEAD + "float array U =\n    1, 2\n    3\n", "line 5: a row of 'U' has 1 values; the first has 2"),
        (HEAD + "float array U =\n    1, {x}\n", "array 'U' holds a template parameter"),
        (HEAD + "float array U =\n    1, 2\nRgate(U[2]) | 0\n", "index of 'U' is 2; an integer from 0 to 1"),
        (HEAD + "int n = 0.5\n", "line 3: a value is of type float; int is needed"),
        (HEAD + "float pi = 3\n", "'pi' cannot be the name of a variable"),
        (HEAD + "    Rgate(0.1) | 0\n", "line 3: the line is indented"),
        (HEAD + "for int i in 0:3\nRgate(0.1) | 0\n", "line 3: the loop has no indented lines"),
        (HEAD + "for int i in 0:3\n    Rgate(0.1) | 0\n    Rgate(j) | i\n", "line 5: 'j' is not defined"),
        (HEAD + "for int i in 0:3:0\n    Rgate(0.1) | 0\n", "line 3: range"),
        (HEAD + "for int i in 0:900000000\n    Rgate(0.1) | 0\n", "line 3: the loop has more than 100000 statements"),
        (HEAD + "for int i in 0:99999999999999999999\n    # nothing\n", "line 3: "),
        (HEAD + 'include "other.xbb"\n', "'include' cannot be imported here"),
        (HEAD + "type tdm (temporal_modes=2)\n", "'type' cannot be imported here"),
        (HEAD + "Rgate({x}*{y}) | 0\n", "a product of template parameters"),
        (HEAD + "Rgate({x} + {y}) | 0\n", "depends on two template parameters"),
        (HEAD + "Rgate(sin({x})) | 0\n", "the argument of sin is a template parameter"),
        (HEAD + "CXgate({x}) | [0, 1]\n", "s depends on a template parameter"),
    ],
)
def test_mistakes_are_one_line_with_its_number(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Program.from_blackbird(text)
    assert str(caught.value).startswith("Blackbird, line ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hbar", [0, -1.0])
def test_hbar_is_positive(hbar):
    with pytest.raises(ValueError, match=f"^hbar is {hbar}; a positive number is needed$"):
        Program.from_blackbird(HEAD + "Xgate(1) | 0\n", hbar)


WORDS = (
    "name version 1.0 target type include for in int float complex array str bool pi True x n q0 Rgate BSgate Fock "
    "Interferometer MeasureX Dgate ( ) [ ] { } | , = : + - * ** / 0 1 2 0.5 1j 1e5 sin sqrt"
)
PIECES = st.sampled_from([*WORDS.split(), "\n", "\n    ", '"a"', "#"])


@settings(max_examples=300, deadline=None)
@given(body=st.lists(PIECES, max_size=25).map(" ".join) | st.text(max_size=40), head=st.sampled_from([HEAD, ""]))
def test_any_text_is_read_or_refused_in_one_line(body, head):
    try:
        program = Program.from_blackbird(head + body)
    except ValueError as error:
        lines = str(error).splitlines()
        known = lines[0].startswith("Blackbird, line ")
    else:
        lines, known = [str(program.n_modes)], True
    assert len(lines) == 1
    assert known


@pytest.mark.parametrize("name", ["", "2x", "a b", "name", "pi", "q1", "x\n"])
def test_names_that_blackbird_does_not_allow(name):
    with pytest.raises(ValueError, match="name is"):
        Program(1).to_blackbird(name)


def test_empty_modes_are_kept():
    program = Program(3, [CVGate("Kerr", 1, (Parameter(0, 0.5),))])
    assert Program.from_blackbird(program.to_blackbird()) == program
