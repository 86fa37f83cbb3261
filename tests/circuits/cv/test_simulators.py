"""Which simulator a program is given to."""

from __future__ import annotations

import pytest
import torch

from circuits.cv import CVGate, Fock, Gaussian, Program, Simulator, State, simulator_for

GAUSSIAN = [CVGate("Squeezing", 0, (0, 0.0)), CVGate("Loss", 0, (0.9,)), CVGate("Displacement", 1, (1, 0.0))]


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (Program(2, GAUSSIAN), Gaussian),
        (Program(2, [*GAUSSIAN, CVGate("Kerr", 1, (0.1,))]), Fock),
        (Program(2, [*GAUSSIAN, CVGate("CrossKerr", (0, 1), (0.1,))]), Fock),
        (Program(2, [*GAUSSIAN, CVGate("CubicPhase", 1, (0.1,))]), Fock),
        (Program(2, GAUSSIAN, photons=(0, 1)), Fock),
    ],
)
def test_what_is_gaussian_is_simulated_exactly(program: Program, kind: type) -> None:
    found = simulator_for(program, cutoff=5, dtype=torch.complex64, hbar=1.0, warn_above=None, memory_limit=10**9)
    assert type(found) is kind
    assert isinstance(found, Simulator)
    assert found.hbar == 1.0
    assert found.memory_limit == 10**9
    assert found.dtype == (torch.float32 if kind is Gaussian else torch.complex64)
    if isinstance(found, Fock):
        assert (found.cutoff, found.basis, found.warn_above) == (5, "total", None)


def test_both_simulators_agree_and_are_called_alike() -> None:
    program = Program(2, [GAUSSIAN[0], GAUSSIAN[2], CVGate("Beamsplitter", (0, 1), (0.4, 0.3))])
    values, inputs = torch.tensor([0.2]), torch.tensor([[0.1], [0.3], [-0.2]])
    for simulator in (simulator_for(program, cutoff=20), Fock(20)):
        state = simulator.run(program, values, inputs)
        assert isinstance(state, State)
        means, variances = state.quadratures(0.2)
        if isinstance(simulator, Gaussian):
            expected = means, variances
    torch.testing.assert_close((means, variances), expected, atol=1e-8, rtol=0)


def test_an_argument_that_is_not_allowed_is_refused_for_any_program() -> None:
    with pytest.raises(ValueError, match="cutoff"):
        simulator_for(Program(2, GAUSSIAN), cutoff=0)
    with pytest.raises(ValueError, match="dtype is torch.float64"):
        simulator_for(Program(2, GAUSSIAN), cutoff=5, dtype=torch.float64)
