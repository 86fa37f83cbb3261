"""The compiled sweeps against the plain torch path and closed formulas."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.backends.base import parse_observables
from circuits.backends.plain import plain_expval, plain_probs, plain_state
from circuits.backends.swept import swept_expval, swept_probs, swept_state

SOME = settings(max_examples=40, deadline=None)
CPU = torch.device("cpu")


def _gradient(function, angles, slopes):
    angles = angles.clone().requires_grad_()
    value = function(angles) + 0 * angles.sum()
    slopes = slopes.to(value.dtype)
    return torch.autograd.grad((value * slopes.conj()).sum().real, angles)[0]


def _slopes(shape, dtype, seed=5):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.5


def _strings(n_wires, number, seed=3):
    letters = np.array(list("IXYZ"))
    rows = letters[np.random.default_rng(seed).integers(0, 4, (number, n_wires))]
    return parse_observables(["".join(row) for row in rows], n_wires)


@SOME
@given(data=st.data())
def test_values_and_gradients_are_the_plain_ones(circuits, data):
    circuit = data.draw(circuits(max_wires=6, max_gates=30))
    angles = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    strings = _strings(circuit.n_wires, 8)
    for swept_function, plain_function in (
        (lambda a: swept_probs(circuit, a, torch.complex128), lambda a: plain_probs(circuit, a, torch.complex128, CPU)),
        (lambda a: swept_state(circuit, a, torch.complex128), lambda a: plain_state(circuit, a, torch.complex128, CPU)),
        (
            lambda a: swept_expval(circuit, a, torch.complex128, strings),
            lambda a: plain_expval(circuit, a, strings, torch.complex128, CPU),
        ),
    ):
        value = swept_function(angles)
        torch.testing.assert_close(value, plain_function(angles), rtol=0, atol=1e-12)
        slopes = _slopes(value.shape, value.dtype)
        torch.testing.assert_close(
            _gradient(swept_function, angles, slopes), _gradient(plain_function, angles, slopes), rtol=0, atol=1e-11
        )
