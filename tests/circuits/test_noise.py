from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Circuit, Gate, ansatz
from circuits.backends import DensityMatrix, Statevector
from circuits.channels import (
    AmplitudeDamping,
    Depolarizing,
    OverRotation,
    PhaseDamping,
    ReadoutError,
    ThermalRelaxation,
    noise_transfer,
)
from circuits.interop import qiskit_class
from circuits.noise import NoiseModel

FULL = """
depolarizing: {one_qubit: 0.001, two_qubit: 0.01}
amplitude_damping: 0.002
phase_damping: {two_qubit: 0.003}
thermal_relaxation: {t1: 100e-6, t2: 80e-6, one_qubit_time: 35e-9, two_qubit_time: 300e-9}
over_rotation: {radians: 0.01, relative: 0.02}
readout: [{p01: 0.02, p10: 0.03}, 0.04]
gates:
  RZ:
  CZ: {amplitude_damping: 0.1}
  CNOT 0 1: {depolarizing: 0.05, thermal_relaxation: {t1: 1.0e-4, t2: 5.0e-5, time: 4.0e-7}}
"""


def _ptm(channel, n_wires=1):
    """An Aer error or a PennyLane channel on Pauli coefficients."""
    from qiskit.quantum_info import PTM, Kraus, SuperOp

    made = channel if not isinstance(channel, list) else Kraus([np.asarray(matrix) for matrix in channel])
    return PTM(SuperOp(made)).data.real


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.99])
def test_channels_are_pennylanes(strength):
    import pennylane as qml

    for ours, theirs in (
        (Depolarizing(strength), qml.DepolarizingChannel(0.75 * strength, wires=0)),
        (AmplitudeDamping(strength), qml.AmplitudeDamping(strength, wires=0)),
        (PhaseDamping(strength), qml.PhaseDamping(strength, wires=0)),
    ):
        np.testing.assert_allclose(ours.transfer(1), _ptm(theirs.kraus_matrices()), atol=1e-12)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 1.5, 2.0])
def test_channels_are_aers(ratio):
    from qiskit_aer import noise as aer

    relaxation = ThermalRelaxation(2e-5, 2e-5 * ratio, 3e-6)
    np.testing.assert_allclose(
        relaxation.transfer(1), _ptm(aer.thermal_relaxation_error(2e-5, 2e-5 * ratio, 3e-6)), atol=1e-10
    )
    np.testing.assert_allclose(Depolarizing(0.3).transfer(2), _ptm(aer.depolarizing_error(0.3, 2)), atol=1e-12)
    np.testing.assert_allclose(AmplitudeDamping(0.3).transfer(1), _ptm(aer.amplitude_damping_error(0.3)), atol=1e-12)
    np.testing.assert_allclose(PhaseDamping(0.3).transfer(1), _ptm(aer.phase_damping_error(0.3)), atol=1e-12)


def test_a_noise_model_of_a_configuration_file():
    noise = NoiseModel.from_config(yaml.safe_load(FULL))
    relaxation = ThermalRelaxation(100e-6, 80e-6, 35e-9)
    assert noise.channels("RX", (1,)) == (
        (Depolarizing(0.001), None),
        (AmplitudeDamping(0.002), None),
        (relaxation, None),
    )
    assert [channel.kind for channel, _ in noise.channels("ECR", (1, 0))] == [
        "depolarizing",
        "amplitude_damping",
        "phase_damping",
        "thermal_relaxation",
    ]
    assert noise.channels("RZ", (0,)) == ()
    assert noise.channels("CZ", (0, 1)) == ((AmplitudeDamping(0.1), None),)
    assert noise.channels("CNOT", (0, 1))[0] == (Depolarizing(0.05), None)
    assert noise.channels("CNOT", (1, 0))[0] == (Depolarizing(0.01), None)
    assert noise.over_rotation == OverRotation(0.01, 0.02)
    assert noise.readout == (ReadoutError(0.02, 0.03), ReadoutError(0.04, 0.04))
    assert NoiseModel.from_config(None) == NoiseModel() == NoiseModel.from_config({})
    assert NoiseModel.from_config(noise) is noise
    assert NoiseModel.from_config({"over_rotation": 0.1}).over_rotation == OverRotation(radians=0.1)


@pytest.mark.parametrize("name", ["written", "fake_torino"])
def test_files_and_hashes(name):
    noise = NoiseModel.from_config(yaml.safe_load(FULL) if name == "written" else name)
    again = NoiseModel.from_json(noise.to_json())
    assert again == noise
    assert hash(again) == hash(noise)
    json.loads(noise.to_json(), parse_constant=pytest.fail)
    assert {noise: 1}[again] == 1
    endless = NoiseModel(one_qubit=((ThermalRelaxation(math.inf, 1e-5, 1e-6), None),))
    assert NoiseModel.from_json(endless.to_json()) == endless


def test_a_noise_model_that_was_sent_elsewhere():
    noise = NoiseModel.from_config({"depolarizing": 0.1, "readout": 0.02})
    hash(noise)
    code = (
        "import pickle, sys; noise = pickle.load(sys.stdin.buffer); "
        "assert hash(noise) == hash(type(noise).from_json(noise.to_json()))"
    )
    for seed in ("1", "2"):  # of the hashes of text
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code], input=pickle.dumps(noise), check=True, env=environment)
    assert copy.deepcopy(noise) == noise


def test_depolarizing_beyond_a_channel():
    strong = Depolarizing(1.2)
    NoiseModel(one_qubit=((strong, None),))
    for place in (
        {"two_qubit": ((strong, None),)},
        {"by_gate": (("CNOT", ((strong, None),)),)},
        {"by_place": (("CNOT", (0, 1), ((strong, None),)),)},
    ):
        with pytest.raises(ValueError, match=r"^depolarizing on 2 wires: found 1\.2; at most 1\.06667 is possible$"):
            NoiseModel(**place)
    with pytest.raises(ValueError, match=r"^noise scale 1\.3: depolarizing on 2 wires: found 1\.3; at most"):
        NoiseModel.from_config({"depolarizing": {"two_qubit": 1.0}, "scale": 1.3})


def test_scaled():
    noise = NoiseModel.from_config(yaml.safe_load(FULL))
    half = noise.scaled(0.5)
    assert half.channels("RX", (0,))[0] == (Depolarizing(0.0005), None)
    assert half.channels("RX", (0,))[2] == (ThermalRelaxation(100e-6, 80e-6, 17.5e-9), None)
    assert half.channels("CZ", (0, 1)) == ((AmplitudeDamping(0.05), None),)
    assert half.over_rotation == OverRotation(0.005, 0.01)
    assert half.readout[1] == ReadoutError(0.02, 0.02)
    assert NoiseModel.from_config({**yaml.safe_load(FULL), "scale": 0.5}) == half
    circuit = ansatz.hardware_efficient(2, 1)
    angles = torch.linspace(0, 1, circuit.n_angles, dtype=torch.float64)
    torch.testing.assert_close(
        DensityMatrix(noise.scaled(0)).probs(circuit, angles), Statevector().probs(circuit, angles)
    )
    with pytest.raises(
        ValueError, match=r"noise scale 30.0: probability: found 3.0; a probability in \[0, 1\] is needed"
    ):
        noise.scaled(30)
    with pytest.raises(ValueError, match="noise scale is -1.0"):
        noise.scaled(-1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"depolarizing": {"two_qubit": 1.2}},
            r"noise.depolarizing.two_qubit: found 1.2; a probability in \[0, 1\] is needed",
        ),
        ({"depolarizing": -0.1}, "noise.depolarizing: found -0.1; a probability"),
        ({"phase_damping": "much"}, "noise.phase_damping: found 'much'; a probability"),
        ({"amplitude_damping": True}, "noise.amplitude_damping: found True; a probability"),
        ({"readout": {"p01": 2}}, "noise.readout.p01: found 2; a probability"),
        ({"readout": [0.1, {"p11": 0.2}]}, r"noise.readout\[1\].p11: there is no such field; the fields are p01, p10"),
        ({"readout": []}, "noise.readout: found an empty list"),
        ({"depolarising": 0.1}, "noise.depolarising: there is no such field; the fields are depolarizing, "),
        ({"depolarizing": {"three_qubit": 0.1}}, "noise.depolarizing.three_qubit: there is no such field"),
        ({"thermal_relaxation": {"t1": 1e-6}}, "noise.thermal_relaxation lacks t2; the fields are"),
        ({"thermal_relaxation": 3}, "noise.thermal_relaxation: found 3; a mapping with keys of t1, t2"),
        (
            {"thermal_relaxation": {"t1": 1e-6, "t2": 3e-6, "one_qubit_time": 1e-8, "two_qubit_time": 1e-8}},
            r"noise.thermal_relaxation.t2: found 3e-06; at most 2 \* t1 = 2e-06 is possible",
        ),
        (
            {"thermal_relaxation": {"t1": 0, "t2": 0, "one_qubit_time": 1e-8, "two_qubit_time": 1e-8}},
            "noise.thermal_relaxation.t1: found 0.0; a time in seconds above 0",
        ),
        ({"over_rotation": "x"}, "noise.over_rotation is 'x'; a finite number is needed"),
        ({"over_rotation": {"degrees": 3}}, "noise.over_rotation.degrees: there is no such field"),
        ({"gates": {"CNOTT": {}}}, r"noise.gates\['CNOTT'\]: unknown gate 'CNOTT'; did you mean 'CNOT'"),
        ({"gates": {"CNOT 0": {}}}, r"noise.gates\['CNOT 0'\]: CNOT takes 2 different wires"),
        ({"gates": {"CNOT a b": {}}}, r"noise.gates\['CNOT a b'\]: found wires 'a b'; numbers such as"),
        ({"gates": {"RX": {"readout": 0.1}}}, r"noise.gates\['RX'\].readout: there is no such field"),
        ({"gates": {"RX": {"depolarizing": 3}}}, r"noise.gates\['RX'\].depolarizing: found 3; a probability"),
        ({"gates": ["RX"]}, r"noise.gates: found \['RX'\]; a mapping"),
        ({"gates": {"Rot": {}}}, "noise of Rot: it runs as U3; name that"),
        ({"device": "fake_manila", "depolarizing": 0.1}, "noise.depolarizing: fake_manila has its own"),
        ({"scale": -2}, "noise scale is -2.0"),
        ("fake_manilla", "unknown device 'fake_manilla'; did you mean fake_manila"),
        ("aer", "noise: aer has no calibration to read noise from"),
        (0.1, "noise: found 0.1; a mapping"),
    ],
)
def test_faults_in_a_configuration(value, message):
    with pytest.raises(ValueError, match=message) as caught:
        NoiseModel.from_config(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"one_qubit": [{"kind": "heat"}]}', "1e5"])
def test_faults_in_a_file(text):
    with pytest.raises(ValueError, match="noise model is not the JSON that to_json writes"):
        NoiseModel.from_json(text)


# devices


def _corner(name, n_qubits):
    """The first qubits of a large device, whose whole noise model takes Aer long."""
    from qiskit.transpiler import Target

    from circuits.backends.devices import find_device

    whole = find_device(name)
    target = Target(num_qubits=n_qubits, dt=whole.dt, qubit_properties=whole.target.qubit_properties[:n_qubits])
    for label in ("rz", "sx", "x", "cz", "ecr", "cx", "id", "u1", "u2", "u3", "measure"):
        if label in whole.target.operation_names:
            places = {on: each for on, each in whole.target[label].items() if max(on) < n_qubits}
            target.add_instruction(whole.target.operation_from_name(label), places)
    return SimpleNamespace(
        version=2, target=target, operation_names=list(target.operation_names), dt=whole.dt, name=name
    )


@pytest.mark.parametrize(
    ("name", "n_qubits"), [("fake_manila", 5), ("fake_burlington", 5), ("fake_torino", 8), ("fake_sherbrooke", 8)]
)
def test_calibrations_are_read_as_aer_does(name, n_qubits):
    from qiskit_aer import noise as aer

    backend = _corner(name, n_qubits)
    noise = NoiseModel.from_qiskit(backend)
    theirs = aer.NoiseModel.from_backend(backend)
    labels = {"u1": "PhaseShift", "u3": "U3"} | {
        qiskit_class(gate)(*[0.0] * len(_angles(gate))).name: gate for gate, _ in noise.device.operations
    }
    known = {name: labels[name] for name in theirs._local_quantum_errors if name in labels}
    assert set(known.values()) <= {gate for gate, _ in noise.device.operations}
    checked = 0
    for label, gate in known.items():
        for wires, error in theirs._local_quantum_errors[label].items():
            n = len(wires)
            found = noise_transfer(noise.channels(gate, wires), n).numpy().reshape([4] * 2 * n)
            ours = found.transpose(*reversed(range(n)), *reversed(range(n, 2 * n))).reshape(4**n, 4**n)
            np.testing.assert_allclose(ours, _ptm(error), atol=1e-8)
            checked += 1
    assert checked > 12
    for wire in range(noise.device.n_qubits):
        row = np.array(noise.readout[wire].confusion).T
        np.testing.assert_allclose(row, theirs._local_readout_errors[(wire,)].probabilities, atol=1e-12)


def _angles(gate):
    from circuits.gate_table import GATES

    return range(GATES[gate].n_angles)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_transpiled_circuits_keep_to_the_device_and_compute_the_same(circuits, data):
    circuit = data.draw(circuits(max_wires=4, max_gates=10))
    angles = torch.tensor([0.3, -1.1, 2.2, 0.7], dtype=torch.float64)
    quiet = NoiseModel(device=NoiseModel.from_config(data.draw(st.sampled_from(["fake_manila", "fake_torino"]))).device)
    prepared = quiet.prepare(circuit)
    allowed = {name: set(places) for name, places in quiet.device.operations}
    for gate in prepared.circuit.gates:
        assert tuple(prepared.physical[wire] for wire in gate.wires) in allowed[gate.name]
    assert prepared.circuit.n_angles == circuit.n_angles
    assert quiet.prepare(circuit) is prepared
    torch.testing.assert_close(DensityMatrix(quiet).probs(circuit, angles), Statevector().probs(circuit, angles))


def test_gates_that_undo_each_other_are_run():
    again = Circuit(2, [Gate("CNOT", [0, 1]), Gate("X", 1), Gate("X", 1), Gate("CNOT", [0, 1])])
    assert NoiseModel.from_config("fake_manila").prepare(again).circuit.counts == {"CNOT": 2, "X": 2}


def test_the_device_in_a_configuration():
    plain = NoiseModel.from_config("fake_manila")
    more = NoiseModel.from_config(
        {"device": "fake_manila", "readout": None, "scale": 2, "gates": {"CNOT 0 1": {"depolarizing": 0.1}}}
    )
    assert more.readout == ()
    assert more.channels("CNOT", (0, 1)) == ((Depolarizing(0.2), None),)
    assert more.channels("SX", (2,)) == tuple((c.scaled(2), place) for c, place in plain.channels("SX", (2,)))
    assert more.device == plain.device


def test_restricted_to_some_wires():
    noise = NoiseModel.from_config("fake_manila")
    some = noise.restricted((3, 2))
    assert some.device is None
    assert some.channels("CNOT", (1, 0)) == noise.channels("CNOT", (2, 3))
    assert some.readout == (noise.readout[3], noise.readout[2])
    assert {name for name, _, _ in some.by_place} == {name for name, _, _ in noise.by_place}


def test_what_cannot_be_hosted_or_exported():
    with pytest.raises(ValueError, match="the circuit has 6 qubits; fake_manila has 5"):
        NoiseModel.from_config("fake_manila").prepare(ansatz.hardware_efficient(6, 1))
    whole = NoiseModel.from_config("fake_manila").device
    for n_qubits, pairs in ((2, ()), (4, ((0, 1), (2, 3)))):
        singles = tuple((qubit,) for qubit in range(n_qubits))
        cut = type(whole)("cut", n_qubits, tuple((n, pairs if n == "CNOT" else singles) for n, _ in whole.operations))
        with pytest.raises(ValueError, match=r"cut cannot host the circuit of \d qubits: ") as caught:
            NoiseModel(device=cut).prepare(ansatz.hardware_efficient(max(2, n_qubits - 1), 1, topology="ring"))
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="noise is asked of int; a Qiskit BackendV2 is needed"):
        NoiseModel.from_qiskit(3)
    with pytest.raises(ValueError, match="over_rotation.relative depends on the angle"):
        NoiseModel.from_config({"over_rotation": {"relative": 0.1}}).to_aer()


def test_a_simulator_has_no_noise():
    from qiskit_aer import AerSimulator

    assert NoiseModel.from_qiskit(AerSimulator()) == NoiseModel()
