from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from qgen.metrics import pairs
from qgen.metrics.pairs import parts_of_squared_distances, squared_distances


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("chunk", [1, 130, 1000, 4_000_000])
def test_they_are_those_of_scipy_in_parts_of_any_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "CHUNK", chunk)
    a, b = normal(0, 70, 368), normal(1, 65, 368)
    expected = cdist(a, b, "sqeuclidean")
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-12)
    seen = 0
    for rows, part in parts_of_squared_distances(a, b):
        assert part.numel() <= max(chunk, len(b))
        assert rows.start == seen
        np.testing.assert_allclose(part, expected[rows], rtol=1e-12)
        seen = rows.stop
    assert seen == 70


@pytest.mark.parametrize("columns", [1, 8, 15625])
def test_equal_events_have_distance_0_far_from_the_origin(columns: int) -> None:
    a, b = 1e4 + normal(0, 60, columns), 1e4 + normal(1, 50, columns)
    b[:30] = a[:30]
    found = squared_distances(a, b)
    assert (found[:30].diagonal() == 0).all()
    assert (found[cdist(a, b) > 1e-2] > 0).all()
    np.testing.assert_allclose(found.sqrt(), cdist(a, b), atol=1e-2)


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_events_have_no_distances(n: int, m: int) -> None:
    assert squared_distances(torch.zeros(n, 2), torch.zeros(m, 2)).shape == (n, m)
