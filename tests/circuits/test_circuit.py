from __future__ import annotations

import contextlib
import copy
import json
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate

FAST = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gate("CNTO", [0, 1]), "unknown gate 'CNTO'; did you mean 'CNOT'"),
        (lambda: Gate("rx", [0], [0]), "did you mean 'RX'"),
        (lambda: Gate(3, [0]), "unknown gate 3"),
        (lambda: Gate("CNOT", [1, 1]), "a wire twice"),
        (lambda: Gate("CNOT", [1]), "takes 2"),
        (lambda: Gate("MultiRZ", [], [0]), "at least 1"),
        (lambda: Gate("X", [-1]), "wire of X is -1"),
        (lambda: Gate("X", [0.0]), "wire of X is 0.0"),
        (lambda: Gate("X", "0"), "a sequence is needed"),
        (lambda: Gate("RX", [0]), "0 angles; it takes 1"),
        (lambda: Gate("RX", [0], [math.nan]), "finite"),
        (lambda: Gate("RX", [0], [math.inf]), "finite"),
        (lambda: Gate("RX", [0], [True]), "angle is True"),
        (lambda: Gate("RX", [0], ["a"]), "angle is 'a'"),
        (lambda: Gate("RX", [0], [-1]), "index of an angle is -1"),
        (lambda: Angle(0, scale=0.0), "scale of an angle is 0"),
        (lambda: Angle(0, scale=math.nan), "scale of an angle is nan"),
        (lambda: Circuit(0), "n_wires is 0"),
        (lambda: Circuit(2.0), "n_wires is 2.0"),
        (lambda: Circuit(2, [Gate("X", [2])]), "gate 0, X [2]: wire 2 is out of range 0 to 1"),
        (lambda: Circuit(1, [Gate("RX", [0], [3])], 3), "angle index 3 is not below n_angles = 3"),
        (lambda: Circuit(1, ["X"]), "gate 0 is 'X'"),
        (lambda: Circuit(1, n_angles=-1), "n_angles is -1"),
        (lambda: Circuit(1) + Circuit(2), "1 and 2 wires cannot be joined"),
        (lambda: Circuit(2).remap(wires=[0]), "remap is given 1 wires"),
        (lambda: Circuit(2, [Gate("X", 0)]).remap(wires=[1, 1]), "remap is given a wire twice: [1, 1]"),
        (lambda: Circuit(1, [Gate("RX", [0], [0])]).bind([]), "0 angles are given"),
        (lambda: Circuit(1, [Gate("RX", [0], [0])]).bind([math.nan]), "angle 0 is nan"),
    ],
)
def test_a_mistake_is_one_clear_line(make, message):
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_index_is_not_a_fixed_angle():
    index, fixed = Gate("RX", [0], [1]), Gate("RX", [0], [1.0])
    assert index != fixed
    assert len({index, fixed, Gate("RX", 0, [Angle(1)])}) == 2
    assert Circuit(1, [index]).n_angles == 2
    assert Circuit(1, [fixed]).n_angles == 0


def test_circuits_are_keys_and_frozen():
    a, b = (Circuit(2, [Gate("CRX", (0, 1), (0,))]) for _ in range(2))
    assert a == b
    assert {a: 1}[b] == 1
    assert a != Circuit(2, a.gates, 2)
    with pytest.raises(AttributeError):
        a.n_wires = 3
    for other in (pickle.loads(pickle.dumps(a)), copy.deepcopy(a)):
        assert other == a
        assert hash(other) == hash(a)


def test_figures():
    circuit = Circuit(3, [Gate("H", 0), Gate("H", 1), Gate("CNOT", [0, 1]), Gate("RZZ", [1, 2], [5]), Gate("X", 0)])
    assert circuit.depth == 3
    assert circuit.counts == {"H": 2, "CNOT": 1, "RZZ": 1, "X": 1}
    assert circuit.n_two_qubit_gates == 2
    assert circuit.n_angles == 6
    assert len(circuit) == 5
    assert Circuit(2).depth == 0


def test_joining_and_remapping():
    block = Circuit(2, [Gate("RX", [0], [0]), Gate("CRZ", [0, 1], [Angle(1, 0.5, 1.0)])])
    both = block + block
    assert [gate.angles[0].index for gate in both.gates] == [0, 1, 2, 3]
    shared = both.remap(angles=[0, 1, 0, 1])
    assert shared.n_angles == 2
    assert shared.gates[3].angles == (Angle(1, 0.5, 1.0),)
    moved = block.remap(wires=[2, 0], n_wires=4)
    assert moved.n_wires == 4
    assert moved.gates[1].wires == (2, 0)
    assert block.bind([0.1, 0.2]).gates[1].angles == (Angle(None, offset=1.1),)


@FAST
@given(data=st.data())
def test_json_gives_the_same_circuit(circuits, data):
    circuit = data.draw(circuits())
    assert Circuit.from_json(circuit.to_json()) == circuit


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NEARLY = st.fixed_dictionaries(
    {
        "n_wires": st.integers(1, 3) | _JSON,
        "gates": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["RX", "CNOT", "Rot", "?"]) | _JSON,
                    "wires": st.lists(st.integers(0, 3)) | _JSON,
                },
                optional={
                    "angles": _JSON
                    | st.lists(
                        st.dictionaries(st.sampled_from(["index", "scale", "offset", "value"]), st.integers() | _JSON)
                    )
                },
            ),
            max_size=3,
        ),
    },
    optional={"n_angles": st.integers(0, 5) | _JSON},
)


@settings(max_examples=200, deadline=None)
@given(content=_JSON | _NEARLY)
def test_any_json_is_a_circuit_or_a_value_error(content):
    with contextlib.suppress(ValueError):
        circuit = Circuit.from_json(json.dumps(content))
        assert Circuit.from_json(circuit.to_json()) == circuit


@FAST
@given(text=st.text(max_size=40), cut=st.integers(0, 200))
def test_text_that_is_not_a_circuit(text, cut):
    whole = Circuit(1, [Gate("RX", 0, [0])]).to_json()
    for broken in (text, whole[: min(cut, len(whole) - 1)], "[" * 100_000):
        with pytest.raises(ValueError, match=r"^circuit|^gate"):
            Circuit.from_json(broken)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"n_wires": 1}', "circuit lacks ['gates']"),
        ('{"n_wires": 1, "gates": [], "depth": 2}', "circuit has unknown keys ['depth']"),
        ('{"n_wires": 1, "gates": {}}', "a list is needed"),
        ('{"n_wires": 1, "gates": [{"name": "RX", "wires": [0]}]}', "gate 0: RX"),
        ('{"n_wires": 1, "gates": [{"name": "RX", "wires": [0], "angles": [0.5]}]}', "gate 0: angle is a float"),
        ('{"n_wires": 1, "gates": [{"name": "RX", "wires": [0], "angles": [{"value": NaN}]}]}', "finite number"),
        ('{"n_wires": 1, "gates": [{"name": "RX", "wires": [0], "angles": [{"value": 1%s}]}]}' % ("0" * 400), "finite"),
    ],
)
def test_json_faults_are_placed(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        Circuit.from_json(text)
    assert message in str(caught.value)


def test_text_drawing_folds():
    circuit = Circuit(2, [Gate("RY", 0, [i]) for i in range(30)] + [Gate("SWAP", [0, 1])])
    text = circuit.draw(width=60)
    assert max(map(len, text.splitlines())) <= 60
    assert "RY(a29)" in text
    assert text.count("×") == 2
    assert Circuit(1).draw() == "0: ───"


def test_matplotlib_drawing():
    pytest.importorskip("pylatexenc")
    import matplotlib as mpl
    import matplotlib.pyplot

    mpl.use("Agg")
    figure = Circuit(2, [Gate("H", 0), Gate("CRX", [0, 1], [0])]).draw_mpl()
    assert type(figure).__name__ == "Figure"
    assert mpl.pyplot.get_fignums() == []


def test_matplotlib_drawing_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"qgen-hep\[draw\]"):
        Circuit(1).draw_mpl()


def test_importing_stays_light():
    heavy = "'pennylane', 'qiskit', 'matplotlib', 'scipy', 'sklearn', 'h5py', 'numba'"
    code = f"import sys, circuits, circuits.backends; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
