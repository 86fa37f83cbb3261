"""Learned cells against the tabulated optimal quantiser and scikit-learn's k-means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from qgen.bits.learned import learned_edges
from qgen.data import load_calorimeter


def squared_error(values: np.ndarray, edges: np.ndarray) -> float:
    cells = np.searchsorted(edges, values, side="right")
    groups = [values[cells == c] for c in range(len(edges) + 1)]
    return float(sum(((group - group.mean()) ** 2).sum() for group in groups if len(group)))


@pytest.mark.parametrize(
    ("cells", "edges", "error"),
    [(2, [0.0], 0.3634), (4, [-0.9816, 0.0, 0.9816], 0.1175), (8, [-1.748, -1.05, -0.5006], 0.03454)],
)
def test_a_normal_distribution_has_the_cells_of_max(cells: int, edges: list[float], error: float) -> None:
    """J. Max, IRE Trans. Inf. Theory 6 (1960) 7, table I: the outer edges and the mean squared error."""
    levels = (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    values = torch.special.ndtri(levels)[:, None]
    found = learned_edges(values, values == values, cells)[0]
    assert found[: len(edges)].tolist() == pytest.approx(edges, abs=2e-3)
    assert squared_error(values[:, 0].numpy(), found.numpy()) / len(values) == pytest.approx(error, rel=2e-3)


@pytest.mark.parametrize("cells", [2, 5])
def test_energies_of_pixels_have_cells_as_good_as_those_of_k_means(cells: int) -> None:
    data = load_calorimeter(grid=(8, 8, 8), max_events=2000)
    energies = data.samples[:, ::41]
    energies = energies[:, (energies > 0).sum(0) > 30]
    edges = learned_edges(energies, energies > 0, cells)
    for column, of_column in zip(energies.T.numpy(), edges.numpy(), strict=True):
        filled = column[column > 0]
        best = KMeans(cells, n_init=5, random_state=0).fit(filled[:, None]).inertia_
        assert squared_error(filled, of_column) < 1.02 * best


def test_what_does_not_count_has_no_say_and_columns_do_not_mix() -> None:
    values = torch.randn(300, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).exp()
    counted = values > torch.tensor([0.0, 0.5, 1.0])
    together = learned_edges(values, counted, 4)
    for i in range(3):
        alone = values[counted[:, i], i][:, None]
        torch.testing.assert_close(learned_edges(alone, alone > 0, 4)[0], together[i])


def test_fewer_values_than_cells_have_edges_that_do_not_fall() -> None:
    values = torch.tensor([[1.0, 5.0], [2.0, 5.0], [1.0, 5.0]]).double()
    edges = learned_edges(values, values > 0, 4)
    assert edges.isfinite().all()
    assert (edges.diff(dim=1) >= 0).all()
    assert (edges[0] == 1.5).any()
    assert edges[0].min() >= 1
    assert edges[0].max() <= 2
