"""The Walsh-Hadamard transform against scipy's matrices."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import hadamard

from qgen.bits.walsh import walsh_hadamard
from qgen.random import new_generator, normal


@pytest.mark.parametrize("n_bits", [0, 1, 5, 6, 7, 11])
def test_it_is_scipys(n_bits: int) -> None:
    values = normal((3, 2, 2**n_bits), new_generator(0), dtype=torch.float64)
    expected = values @ torch.from_numpy(hadamard(2**n_bits)).double()
    torch.testing.assert_close(walsh_hadamard(values), expected)


def test_gradients_flow_after_a_call_without() -> None:
    values = normal((2, 8), new_generator(1), dtype=torch.float64)
    with torch.inference_mode():
        walsh_hadamard(values)
    assert torch.autograd.gradcheck(walsh_hadamard, values.requires_grad_())
