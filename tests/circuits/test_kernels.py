"""The compiled sweeps against the plain torch path and numpy."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from circuits import Circuit, Gate, ansatz
from circuits.backends import Statevector, sweep
from circuits.backends.base import parse_observables
from circuits.backends.compiled import compiled
from circuits.backends.kernels import backward, forward
from circuits.backends.moves import cosines_and_sines, walsh
from circuits.backends.plain import plain_expval, plain_probs, plain_state
from circuits.backends.sweep import compile_sweep
from circuits.backends.swept import swept_expval, swept_probs, swept_state
from circuits.gate_table import GATES

SOME = settings(max_examples=40, deadline=None)
CPU = torch.device("cpu")
EXACT, SINGLE = torch.complex128, torch.complex64


def _gradient(function, angles, slopes):
    angles = angles.clone().requires_grad_()
    value = function(angles) + 0 * angles.sum()
    return torch.autograd.grad((value * slopes.to(value.dtype).conj()).sum().real, angles)[0]


def _slopes(value):
    return torch.rand(value.shape, generator=torch.Generator().manual_seed(5), dtype=value.dtype) - 0.5


def _strings(n_wires, number, seed=3):
    letters = np.array(list("IXYZ"))
    rows = letters[np.random.default_rng(seed).integers(0, 4, (number, n_wires))]
    return parse_observables(["".join(row) for row in rows], n_wires)


def _angles(circuit, batch=(), seed=2):
    shape = (*batch, circuit.n_angles)
    return 6 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 3


def _check(swept, plain, angles, tolerance):
    value = swept(angles)
    expected = plain(angles)
    torch.testing.assert_close(value.to(expected.dtype), expected, rtol=0, atol=tolerance)
    slopes = _slopes(value)
    found, wanted = _gradient(swept, angles, slopes), _gradient(plain, angles, slopes)
    torch.testing.assert_close(found, wanted, rtol=0, atol=10 * tolerance)


@SOME
@given(data=st.data())
def test_values_and_gradients_are_the_plain_ones(circuits, data):
    circuit = data.draw(circuits(max_wires=6, max_gates=30))
    angles = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    strings = _strings(circuit.n_wires, 8)
    _check(lambda a: swept_probs(circuit, a, EXACT), lambda a: plain_probs(circuit, a, EXACT, CPU), angles, 1e-12)
    _check(lambda a: swept_state(circuit, a, EXACT), lambda a: plain_state(circuit, a, EXACT, CPU), angles, 1e-12)
    _check(
        lambda a: swept_expval(circuit, a, EXACT, strings),
        lambda a: plain_expval(circuit, a, strings, EXACT, CPU),
        angles,
        1e-12,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(EXACT, 1e-12), (SINGLE, 2e-5)])
@pytest.mark.parametrize("n_wires", [*range(1, 12), 14])
def test_qubits_within_vectors_chunks_and_blocks(n_wires, dtype, tolerance):
    gates = list(ansatz.hardware_efficient(n_wires, 2, ("RX", "RZ"), topology="linear").gates)
    count = 2 * 2 * n_wires
    gates += [Gate("CRZ", [wire, 0], [count + wire]) for wire in range(1, n_wires)]
    gates += [Gate("H", wire) for wire in range(n_wires)]
    circuit = Circuit(n_wires, gates)
    _check(
        lambda a: swept_probs(circuit, a, dtype),
        lambda a: plain_probs(circuit, a, EXACT, CPU),
        _angles(circuit),
        tolerance,
    )


def test_the_phase_of_every_gate_is_the_plain_one():
    for name, gate in GATES.items():
        n_wires = gate.n_wires or 3
        turned = [Gate("RY", w, [0.3 + w]) for w in range(n_wires)] + [Gate("RX", w, [0.9 - w]) for w in range(n_wires)]
        circuit = Circuit(n_wires, [*turned, Gate(name, range(n_wires), range(gate.n_angles))])
        angles = _angles(circuit)
        torch.testing.assert_close(
            swept_state(circuit, angles, EXACT), plain_state(circuit, angles, EXACT, CPU), rtol=0, atol=1e-14
        )


def test_many_strings_that_flip_the_same(every_gate):
    angles = _angles(every_gate, (2,))
    letters = ["IIIZ", "ZIII", "ZZII", "IZZI", "ZZZZ", "XXXX", "YYXX", "XYXY", "YYYY", "XXYX", "YXXX"]
    strings = parse_observables(letters, 4)
    _check(
        lambda a: swept_expval(every_gate, a, EXACT, strings),
        lambda a: plain_expval(every_gate, a, strings, EXACT, CPU),
        angles,
        1e-12,
    )


def test_second_derivatives_of_states_and_observables():
    circuit = Circuit(2, [Gate("RX", 0, [0]), Gate("CRY", [0, 1], [1]), Gate("RZZ", [0, 1], [0]), Gate("RY", 0, [1])])
    angles = torch.tensor([0.4, -1.1], dtype=torch.float64, requires_grad=True)
    strings = parse_observables(["XY", "ZI"], 2)
    assert torch.autograd.gradgradcheck(lambda a: torch.view_as_real(swept_state(circuit, a, EXACT)), angles)
    assert torch.autograd.gradgradcheck(lambda a: swept_expval(circuit, a, EXACT, strings), angles)


def test_angles_of_other_kinds(every_gate):
    wide = _angles(every_gate, (4, 2))
    expected = swept_probs(every_gate, wide[::2, 1].contiguous(), EXACT)
    torch.testing.assert_close(swept_probs(every_gate, wide[::2, 1], EXACT), expected, rtol=0, atol=0)
    single = wide[0, 0].float().requires_grad_()
    value = swept_probs(every_gate, single, EXACT)
    assert value.dtype == torch.float64
    value[0].backward()
    assert single.grad.dtype == torch.float32
    whole = swept_probs(every_gate, torch.ones(every_gate.n_angles, dtype=torch.int64), EXACT)
    torch.testing.assert_close(whole, swept_probs(every_gate, torch.ones(every_gate.n_angles), EXACT))
    shared = wide[0, 0].clone().requires_grad_()
    swept_probs(every_gate, shared.expand(3, -1), EXACT)[:, 1].sum().backward()
    alone = wide[0, 0].clone().requires_grad_()
    (3 * swept_probs(every_gate, alone, EXACT)[1]).backward()
    torch.testing.assert_close(shared.grad, alone.grad)
    assert len(forward.signatures) <= 2  # one for each precision: nothing is compiled for another layout
    assert len(backward.signatures) <= 2


def test_an_empty_batch_has_a_gradient(every_gate):
    angles = torch.zeros((0, every_gate.n_angles), requires_grad=True)
    swept_probs(every_gate, angles, EXACT).sum().backward()
    assert angles.grad.shape == angles.shape


def test_angles_that_are_not_finite_make_nothing_finite():
    circuit = ansatz.hardware_efficient(5, 2)
    angles = _angles(circuit)
    angles[3] = torch.nan
    assert not bool(torch.isfinite(swept_probs(circuit, angles, EXACT)).any())


def test_threads_do_not_meet():
    circuit = ansatz.hardware_efficient(9, 4, topology="ring")
    rows = [_angles(circuit, seed=seed) for seed in range(16)]

    def work(row):
        row = row.clone().requires_grad_()
        swept_probs(circuit, row, EXACT)[:100].sum().backward()
        return row.grad

    alone = [work(row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, rows))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_circuits_with_large_tables_take_the_other_path(monkeypatch):
    circuit = ansatz.hardware_efficient(6, 3, entangler="CZ")
    angles = _angles(circuit)
    expected = Statevector().probs(circuit, angles)
    monkeypatch.setattr(sweep, "_MOST_BYTES", 10)
    monkeypatch.setattr("circuits.backends.statevector.swept_probs", None)
    torch.testing.assert_close(Statevector().probs(circuit, angles), expected, rtol=0, atol=1e-12)


def test_a_layer_is_three_steps():
    circuit = ansatz.hardware_efficient(5, 8, topology="ring")
    assert len(compile_sweep(circuit).steps) == 8 * 2  # rotations, then phases with a permutation
    assert len(compile_sweep(circuit).targets) == 1


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e5, 1e9])
def test_cosines_and_sines_are_numpys(scale):
    angles = scale * np.random.default_rng(1).normal(size=4096)
    angles[:8] = [0.0, np.pi, -np.pi, np.pi / 2, 2 * np.pi, 1e-300, -0.0, 3 * np.pi]
    cosines, sines = np.empty_like(angles), np.empty_like(angles)
    cosines_and_sines(angles, cosines, sines)
    np.testing.assert_allclose(cosines, np.cos(angles), rtol=0, atol=1e-15)
    np.testing.assert_allclose(sines, np.sin(angles), rtol=0, atol=1e-15)


def test_walsh_is_scipys():
    values = np.random.default_rng(1).normal(size=64)
    expected = hadamard(64) @ values
    walsh(values)
    np.testing.assert_allclose(values, expected, atol=1e-12)


def test_kernels_work_where_nothing_can_be_written():
    scope = {}
    exec("def double(values):\n    for i in range(values.size):\n        values[i] *= 2.0\n", scope)
    values = np.ones(3)
    compiled(scope["double"])(values)
    assert values.tolist() == [2.0, 2.0, 2.0]


def test_kernels_where_no_compiled_code_can_be_kept():
    modules = "kernels", "observables", "guide", "jumps"
    code = f"for name in {modules}: __import__('circuits.backends.' + name)\n"
    code += "import numpy as np; from circuits.backends.guide import invert\n"
    code += "states = np.zeros((1, 1), np.int32)\n"
    code += "invert(np.array([[0.5, 1.0]]), np.array([[0.7]]), states, np.zeros(3, np.int32)); assert states[0, 0] == 1"
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment["NUMBA_CACHE_LOCATOR_CLASSES"] = "UserProvidedCacheLocator"  # that is, none
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
