from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from classical_baselines.sizing import closest_size, closest_width, mlp_size

SIZES = st.integers(1, 9)


@settings(max_examples=20, deadline=None)
@given(SIZES, st.lists(SIZES, max_size=3), SIZES)
def test_size_is_that_of_torch_layers(n_inputs: int, hidden: list[int], n_outputs: int) -> None:
    widths = [n_inputs, *hidden, n_outputs]
    network = nn.Sequential(*[nn.Linear(a, b) for a, b in pairwise(widths)])
    assert mlp_size(n_inputs, hidden, n_outputs) == sum(p.numel() for p in network.parameters())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 6), st.integers(0, 9), st.integers(1, 5))
def test_closest_width_is_the_best_of_all(target: int, slope: int, offset: int, smallest: int) -> None:
    def size(width: int) -> int:
        return slope * width**2 + offset

    best = min(abs(size(width) - target) for width in range(smallest, 200))
    assert abs(size(closest_width(size, target, smallest)) - target) == best


def test_the_first_near_architecture_wins_and_far_ones_are_refused() -> None:
    candidates = [("a", 300), ("b", 192), ("c", 200)]
    assert closest_size(candidates, 200, "a model") == "b"
    assert closest_size(candidates, 214, "a model") == "c"
    with pytest.raises(
        ValueError, match=r"^n_parameters is 100; the closest size of a model is 192 parameters \(a diff"
    ):
        closest_size(candidates, 100, "a model")
