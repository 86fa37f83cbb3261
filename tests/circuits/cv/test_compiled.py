import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.cv import CV_GATES, CVGate, CVNeuralNetworkLayers, Fock, Program
from circuits.cv import compiled as compiled_module
from random_programs import random_programs

ALL_NAMES = list(CV_GATES)


def both(cutoff, **options):
    """The compiled simulation, and the one of plain operations, which is also that of other devices."""
    simulations = [Fock(cutoff, warn_above=None, **options) for _ in range(2)]
    simulations[1]._compiled = False
    return simulations


def numbers(state):
    return state.matrix if hasattr(state, "matrix") else state.amplitudes


def parameters(program, n_shared, rows, seed=0):
    """Those of the whole batch, and those of each row."""
    rng = torch.Generator().manual_seed(seed)
    draw = torch.rand(rows, program.n_parameters, generator=rng, dtype=torch.float64) - 0.5
    shared, each = draw[0, :n_shared].clone(), draw[:, n_shared:].clone()
    return shared.requires_grad_(), each.requires_grad_()


def slopes(state, inputs):
    found = numbers(state)
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).reshape(found.shape)
    loss = (found.real * weights).sum() + (found.imag * weights**2).sum() + found.abs().square().square().sum()
    return torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


@settings(max_examples=40, deadline=None)
@given(
    random_programs(names=ALL_NAMES, max_modes=2, max_gates=8), st.integers(0, 4), st.sampled_from(["mode", "total"])
)
def test_compiled_and_plain_passes_agree(program, n_shared, basis):
    shared, each = parameters(program, n_shared, 3)
    compiled, plain = (sim.run(program, shared, each) for sim in both(4, basis=basis))
    torch.testing.assert_close(numbers(compiled), numbers(plain), atol=1e-13, rtol=0)
    if numbers(plain).requires_grad:
        for found, wanted in zip(slopes(compiled, (shared, each)), slopes(plain, (shared, each)), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("lossy", [False, True])
@pytest.mark.parametrize("basis", ["mode", "total"])
def test_derivatives(lossy, basis):
    gates = [
        CVGate("Displacement", 0, (2, 3)),
        CVGate("Squeezing", 1, (0, 1)),
        CVGate("Beamsplitter", (0, 1), (2, 0)),
        CVGate("CrossKerr", (1, 0), (3,)),
        CVGate("QuadraticPhase", 0, (1,)),
        CVGate("TwoModeSqueezing", (1, 0), (0, 2)),
        CVGate("CubicPhase", 1, (0,)),
    ]
    program = Program(2, [*gates[:4], *([CVGate("Loss", 0, (4,))] if lossy else []), *gates[4:]], 5)
    shared = torch.tensor([0.2, -0.3], dtype=torch.float64, requires_grad=True)
    each = torch.tensor([[0.1, 0.5, 0.7], [-0.2, 0.0, 0.4]], dtype=torch.float64, requires_grad=True)

    def run(shared, each):
        return torch.view_as_real(numbers(Fock(3, basis=basis, warn_above=None).run(program, shared, each)))

    assert torch.autograd.gradcheck(run, (shared, each))
    if not lossy:
        assert torch.autograd.gradgradcheck(run, (shared, each))


def test_derivatives_by_the_state_at_the_start():
    program = Program(1, [CVGate("Displacement", 0, (0, 1)), CVGate("Kerr", 0, (1,))])
    parts = torch.tensor([[0.6, 0.0, 0.2, 0.1], [0.1, 0.3, 0.0, 0.2]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.3, 0.4], dtype=torch.float64, requires_grad=True)

    def run(parts, weights):
        initial = torch.complex(parts, parts.flip(-1))
        return torch.view_as_real(Fock(4, warn_above=None).run(program, weights, initial=initial).amplitudes)

    assert torch.autograd.gradcheck(run, (parts, weights))
    assert torch.autograd.gradgradcheck(run, (parts, weights))


def test_second_derivatives_at_zero_are_finite():
    layers = CVNeuralNetworkLayers(1, 2)
    weights = torch.zeros(layers.program.n_parameters, dtype=torch.float64, requires_grad=True)
    state = Fock(4, warn_above=None).run(layers.program, weights)
    (first,) = torch.autograd.grad(state.amplitudes.real.sum(), weights, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weights)
    assert torch.isfinite(second).all()


def test_a_gradient_can_be_taken_twice():
    program = Program(1, [CVGate("Squeezing", 0, (0, 1)), CVGate("Kerr", 0, (1,)), CVGate("Displacement", 0, (1, 0))])
    weights = torch.tensor([0.2, 0.4], dtype=torch.float64, requires_grad=True)
    loss = Fock(5, warn_above=None).run(program, weights).amplitudes.real.sum()
    (first,) = torch.autograd.grad(loss, weights, retain_graph=True)
    (again,) = torch.autograd.grad(loss, weights)
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_many_gradients_at_once():
    program = Program(1, [CVGate("Displacement", 0, (0, 1))])
    weights = torch.tensor([0.2, 0.4], dtype=torch.float64, requires_grad=True)
    amplitudes = Fock(4, warn_above=None).run(program, weights).amplitudes
    together = torch.autograd.grad(amplitudes, weights, torch.eye(4, dtype=torch.complex128), is_grads_batched=True)[0]
    for number in range(4):
        single = torch.autograd.functional.jacobian(
            lambda w, n=number: Fock(4, warn_above=None).run(program, w).amplitudes[n].real, weights
        )
        torch.testing.assert_close(together[number], single)


def test_large_batches_in_pieces(monkeypatch):
    program = Program(
        2, [CVGate("Displacement", 0, (2, 0.0)), CVGate("Beamsplitter", (0, 1), (0, 3)), CVGate("Kerr", 1, (1,))]
    )
    shared, each = parameters(program, 2, 70)
    whole = Fock(4, warn_above=None).run(program, shared, each)
    monkeypatch.setattr(compiled_module, "rows_at_once", lambda *_: 32)
    pieces = Fock(4, warn_above=None).run(program, shared, each)
    torch.testing.assert_close(pieces.amplitudes, whole.amplitudes, rtol=0, atol=0)
    for found, wanted in zip(slopes(pieces, (shared, each)), slopes(whole, (shared, each)), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("basis", ["mode", "total"])
def test_single_precision(basis):
    layers = CVNeuralNetworkLayers(2, 2)
    weights = layers.flatten(*layers.initial(torch.Generator().manual_seed(0), active=0.1)).requires_grad_()
    exact = Fock(6, basis=basis, warn_above=None).run(layers.program, weights)
    for simulation in both(6, basis=basis, dtype=torch.complex64):
        state = simulation.run(layers.program, weights)
        assert state.amplitudes.dtype == torch.complex64
        torch.testing.assert_close(state.amplitudes.to(torch.complex128), exact.amplitudes, atol=2e-6, rtol=0)
        (found,) = torch.autograd.grad(state.amplitudes.real.sum(), weights)
        (wanted,) = torch.autograd.grad(exact.amplitudes.real.sum(), weights, retain_graph=True)
        torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


def test_kernels_are_compiled_only_when_they_run():
    code = "import sys, circuits.cv as cv; cv.Fock(3); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
