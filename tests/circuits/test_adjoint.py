from __future__ import annotations

import os
import subprocess
import sys

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits import Angle, Circuit, Gate, ansatz
from circuits.backends import adjoint
from circuits.backends.adjoint import grouped_probs, grouped_state
from circuits.backends.program import compile_circuit, permute

SOME = settings(max_examples=60, deadline=None)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def _plain(circuit, angles, dtype=torch.complex128):
    """The same state by ordinary autograd through every operation, in groups of another size."""
    program = compile_circuit(circuit, 3, dtype, torch.device("cpu"))
    state = program.run(angles.to(dtype.to_real())) + 0 * angles.sum()  # also without any gate
    return state if program.restore is None else permute(state, *program.restore)


def _gradient(function, angles):
    leaf = angles.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def _compare(circuit, angles, rng, tolerance=1e-12):
    size = 2**circuit.n_wires
    weights = torch.randn((len(angles), size), generator=rng, dtype=torch.complex128)
    torch.testing.assert_close(grouped_state(circuit, angles), _plain(circuit, angles), rtol=0, atol=tolerance)
    torch.testing.assert_close(
        grouped_probs(circuit, angles), _plain(circuit, angles).abs().square(), rtol=0, atol=tolerance
    )
    for ours, plain in (
        (
            lambda a: grouped_probs(circuit, a) * weights.real,
            lambda a: _plain(circuit, a).abs().square() * weights.real,
        ),
        (lambda a: (grouped_state(circuit, a) * weights).real, lambda a: (_plain(circuit, a) * weights).real),
    ):
        expected = _gradient(lambda a, f=plain: f(a).sum(), angles)
        torch.testing.assert_close(_gradient(lambda a, f=ours: f(a).sum(), angles), expected, rtol=0, atol=tolerance)


@SOME
@given(data=st.data(), batch=st.integers(1, 3))
def test_random_circuits(circuits, data, batch):
    circuit = data.draw(circuits(max_wires=5, max_gates=25))
    rng = torch.Generator().manual_seed(3)
    angles = torch.rand((batch, circuit.n_angles), generator=rng, dtype=torch.float64, requires_grad=True) * 6
    _compare(circuit, angles.detach(), rng)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ["hardware_efficient", "brickwork", "strongly_entangling_layers"])
def test_large_groups(name, batch, rng):
    circuit = ansatz.ANSATZE[name](n_wires=13, n_layers=3)
    angles = torch.rand((batch, circuit.n_angles), generator=rng, dtype=torch.float64) * 6
    _compare(circuit, angles, rng)


@pytest.mark.parametrize("batch", [1, 2])
def test_diagonal_layers(batch, rng):
    wires = range(11)
    pairs = [(a, b) for a in wires for b in range(a)]
    gates = [Gate("H", w) for w in wires] + [Gate("RZZ", pair, [k]) for k, pair in enumerate(pairs)]
    gates += [Gate("CZ", [w, (w + 1) % 11]) for w in wires] + [Gate("MultiRZ", [0, 3, 7], [Angle(0, -2.0, 0.4)])]
    gates += [Gate("CNOT", [w, (w + 1) % 11]) for w in wires] + [Gate("CRZ", [4, 8], [1]), Gate("CRZ", [8, 4], [1])]
    circuit = Circuit(11, gates + [Gate("H", w) for w in wires])
    _compare(circuit, torch.rand((batch, circuit.n_angles), generator=rng, dtype=torch.float64) * 6, rng)


def test_gradient_is_pennylanes(rng):
    circuit = ansatz.hardware_efficient(11, 2, topology="ring")
    angles = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64) * 6
    target = torch.rand(2**11, generator=rng, dtype=torch.float64)

    @qml.qnode(qml.device("default.qubit", wires=11))
    def node(values):
        circuit.to_pennylane()(values)
        return qml.probs(wires=range(11))

    expected = _gradient(lambda a: (node(a) - target).square().sum(), angles)
    found = _gradient(lambda a: (grouped_probs(circuit, a[None])[0] - target).square().sum(), angles)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", [grouped_probs, lambda *given: torch.view_as_real(grouped_state(*given))])
def test_first_and_second_derivatives_of_every_gate(function, every_gate, rng):
    angles = torch.rand((2, every_gate.n_angles), generator=rng, dtype=torch.float64, requires_grad=True)
    some = torch.rand(function(every_gate, angles).shape, generator=rng, dtype=torch.float64)

    def scalar(values):
        return (function(every_gate, values) * some).sum()

    assert torch.autograd.gradcheck(scalar, angles)
    first, again = (torch.autograd.grad(scalar(angles), angles, create_graph=graph)[0] for graph in (False, True))
    torch.testing.assert_close(again, first, rtol=0, atol=1e-12)
    assert torch.autograd.gradgradcheck(scalar, angles, fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in forward derivatives
def test_forward_over_reverse(every_gate, rng):
    angles = torch.rand(every_gate.n_angles, generator=rng, dtype=torch.float64)
    some = torch.rand(16, generator=rng, dtype=torch.float64)
    hessian = torch.func.hessian(lambda a: _plain(every_gate, a[None])[0].abs().square() @ some)(angles)
    expected = torch.autograd.functional.hessian(lambda a: grouped_probs(every_gate, a[None])[0] @ some, angles)
    torch.testing.assert_close(hessian, expected, rtol=0, atol=1e-12)


def test_an_expanded_batch_is_one_circuit(rng):
    circuit = ansatz.hardware_efficient(6, 2)
    row = torch.rand(circuit.n_angles, generator=rng, dtype=torch.float64)
    weights = torch.rand((5, 64), generator=rng, dtype=torch.float64)
    expanded = _gradient(lambda a: (grouped_probs(circuit, a.expand(5, -1)) * weights).sum(), row)
    repeated = _gradient(lambda a: (grouped_probs(circuit, a.repeat(5, 1)) * weights).sum(), row)
    torch.testing.assert_close(expanded, repeated, rtol=0, atol=1e-13)


def test_backward_twice_and_shapes(rng):
    circuit = ansatz.hardware_efficient(4, 2, topology="ring")
    angles = torch.rand((3, circuit.n_angles), generator=rng, dtype=torch.float64, requires_grad=True)
    loss = grouped_probs(circuit, angles).square().sum()
    first = torch.autograd.grad(loss, angles, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, angles)[0], first)
    assert grouped_probs(circuit, angles[:0]).shape == (0, 16)
    empty = angles.detach()[:0].requires_grad_()
    grouped_probs(circuit, empty).sum().backward()
    assert empty.grad.shape == empty.shape
    assert grouped_state(Circuit(2), torch.zeros(4, 0)).tolist() == [[1, 0, 0, 0]] * 4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-5), (torch.complex128, 1e-12)])
def test_precision_and_device(every_gate, rng, device, dtype, tolerance):
    angles = torch.rand((2, every_gate.n_angles), generator=rng, dtype=torch.float64)
    target = torch.rand(16, generator=rng, dtype=torch.float64)
    found = grouped_probs(every_gate, angles, dtype, device)
    assert (found.dtype, found.device.type) == (dtype.to_real(), device)
    torch.testing.assert_close(found.cpu().double(), grouped_probs(every_gate, angles), rtol=0, atol=tolerance)
    gradient = _gradient(
        lambda a: (grouped_probs(every_gate, a, dtype, device).cpu() @ target.to(found.dtype)).sum(), angles
    )
    expected = _gradient(lambda a: (grouped_probs(every_gate, a) @ target).sum(), angles)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize(("n_wires", "batch"), [(14, 1), (13, 2), (5, 3)])
def test_the_path_of_other_devices(n_wires, batch, monkeypatch, rng):
    monkeypatch.setattr(adjoint, "_on_cpu", lambda tensor: False)
    circuit = ansatz.hardware_efficient(n_wires, 2, topology="ring") + ansatz.hardware_efficient(
        n_wires, 1, entangler="CZ"
    )
    _compare(circuit, torch.rand((batch, circuit.n_angles), generator=rng, dtype=torch.float64) * 6, rng)


def test_no_value_is_looked_at(every_gate):
    """On the meta device, which has none; on a GPU a look would wait for all that is queued."""
    angles = torch.zeros((2, every_gate.n_angles), dtype=torch.float64, device="meta", requires_grad=True)
    probabilities = grouped_probs(every_gate, angles, device="meta")
    assert (probabilities.shape, probabilities.device.type) == ((2, 16), "meta")
    probabilities.square().sum().backward()
    assert angles.grad.shape == angles.shape


def test_inference_first_and_gradients_later(rng):
    circuit = ansatz.brickwork(7, 3) + Circuit(7, [Gate("CRY", [0, 4], [0]), Gate("CZ", [3, 5])])
    angles = torch.rand((1, circuit.n_angles), generator=rng)
    with torch.inference_mode():
        grouped_probs(circuit, angles, torch.complex64)
    assert bool(_gradient(lambda a: grouped_probs(circuit, a, torch.complex64).square().sum(), angles).any())


def test_threads_are_the_callers_again(rng):
    circuit = ansatz.hardware_efficient(5, 1)
    angles = torch.rand((1, circuit.n_angles), generator=rng, dtype=torch.float64, requires_grad=True)
    torch.set_num_threads(2)
    grouped_probs(circuit, angles).square().sum().backward()
    assert torch.get_num_threads() == 2


MEMORY = """
import re, torch
from pathlib import Path
from circuits import ansatz
from circuits.backends.adjoint import grouped_probs
torch.set_num_threads(1)
for n_wires, n_layers in ((12, 2), (17, 2), (17, 6)):
    parts = [ansatz.hardware_efficient(n_wires, n_layers, topology="ring", entangler=e) for e in ("CNOT", "CZ")]
    angles = torch.ones(1, 4 * n_layers * n_wires, dtype=torch.float64, requires_grad=True)
    grouped_probs(parts[0] + parts[1], angles).square().sum().backward()
    print(int(re.search("VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / (16 * 2**7))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted otherwise")
def test_memory_is_of_a_few_states_not_of_all_gates():
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back at once
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, env=environment)
    before, short, long = map(float, done.stdout.split())
    assert short - before < 16
    assert long - short < 9  # the tables of another program; autograd would keep 40 more states
