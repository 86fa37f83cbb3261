"""What is asked of Gaussian and of truncated states is checked alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from circuits.cv import CVGate, Fock, Gaussian, Program, State

TWO_MODES = Program(2, [CVGate("Squeezing", 0, (0.2, 0.0)), CVGate("Displacement", 1, (0.3, 0.1))])


@pytest.fixture(scope="module")
def states() -> list[State]:
    """The same one, truncated and Gaussian."""
    return [simulator.run(TWO_MODES, torch.empty(0)) for simulator in (Fock(12), Gaussian())]


@pytest.mark.parametrize("kind", [0, 1], ids=["truncated", "gaussian"])
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda state: state.photon_probs(True), "mode is True; an integer of at least 0 is needed"),
        (lambda state: state.photon_probs(2), "mode is 2; the state has modes 0 to 1"),
        (lambda state: state.sample_homodyne(1, modes=0), "modes are 0; a sequence is needed"),
        (lambda state: state.sample_homodyne(1, modes=[]), r"modes are \[\]; at least one is needed, none twice"),
        (lambda state: state.quadratures("a"), "phi is 'a'; one finite phase or one for each of 2 modes is needed"),
        (lambda state: state.quadratures(None), "phi is None"),
        (lambda state: state.quadratures(1j), "phi is 1j"),
        (lambda state: state.quadratures(torch.tensor(1j)), "phi is 1j"),
        (lambda state: state.quadratures(torch.zeros(1, 2)), r"phi is \[\[0.0, 0.0\]\]"),
        (lambda state: state.quadratures(math.inf), "phi is inf"),
        (lambda state: state.homodyne_log_prob([[0.0, 0.0]]), r"outcomes are \[\[0.0, 0.0\]\]; a real tensor of shape"),
        (lambda state: state.homodyne_log_prob(torch.zeros(2)), r"outcomes have shape \(2,\); a real tensor of shape"),
        (lambda state: state.wigner(0, [0.0], torch.zeros(1)), r"x is \[0.0\]; a real tensor of one dimension"),
        (lambda state: state.wigner(0, torch.zeros(1), torch.tensor(0.0)), r"p has shape \(\); a real tensor"),
    ],
)
def test_mistakes_are_one_line(states: list[State], kind: int, call: Callable[[State], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        call(states[kind])
    assert "\n" not in str(error.value)


def test_phases_may_be_numbers_lists_and_integers(states: list[State]) -> None:
    exact = states[1].quadratures(0.3)
    for state in states:
        for phi in (0.3, [0.3, 0.3], torch.tensor(0.3, dtype=torch.float64)):
            torch.testing.assert_close(state.quadratures(phi), exact, atol=1e-6, rtol=0)
        torch.testing.assert_close(state.quadratures(torch.tensor([1, 1])), state.quadratures(1.0), atol=0, rtol=0)
    torch.testing.assert_close(states[1].quadratures([0.3, 0.3]), exact, atol=1e-15, rtol=0)
