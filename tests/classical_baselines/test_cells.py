from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classical_baselines.cells import ConditionBins, QuantileMarginals, locate, quantiles
from qgen.random import new_generator, normal, uniform

VALUES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]) | st.floats(-5, 5), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_quantiles_are_those_of_numpy(column: list[float]) -> None:
    levels = torch.linspace(0, 1, 7, dtype=torch.float64)
    values = torch.tensor(column, dtype=torch.float64)[:, None]
    expected = np.quantile(np.array(column), levels.numpy())
    torch.testing.assert_close(quantiles(values, levels)[:, 0], torch.from_numpy(expected))


@settings(max_examples=50, deadline=None)
@given(VALUES, st.integers(2, 9))
def test_a_value_lies_between_its_edges(column: list[float], n_edges: int) -> None:
    values = torch.tensor(column, dtype=torch.float64)[:, None]
    edges = quantiles(values, torch.linspace(0, 1, n_edges, dtype=torch.float64)).T.contiguous()
    low, high = locate(edges, values)
    assert (low < high).all()
    assert (edges[0, low] <= values).all()
    assert (values <= edges[0, high]).all()


def test_few_conditions_are_groups_of_their_own_and_many_are_cut_at_quantiles() -> None:
    beam = torch.tensor([50.0, 100.0, 200.0], dtype=torch.float64).repeat(20)[:, None]
    bins = ConditionBins.fit(beam, 8)
    assert bins.n_groups == 3
    assert bins(torch.tensor([[10.0], [90.0], [1e4]], dtype=torch.float64), 3).tolist() == [0, 1, 2]
    energy = uniform((800, 1), new_generator(0), dtype=torch.float64)
    groups = ConditionBins.fit(energy, 8)(energy, 800)
    assert groups.bincount().tolist() == [100] * 8
    order = energy[:, 0].argsort()
    assert (groups[order].diff() >= 0).all()


def test_every_pair_of_conditions_has_a_group() -> None:
    column = uniform((200, 1), new_generator(1), dtype=torch.float64)
    bins = ConditionBins.fit(column.expand(-1, 2), 16)
    assert bins.n_groups == 4  # a diagonal of 4 x 4 products
    far = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.99, 0.99]], dtype=torch.float64)
    assert bins(far, 3)[2] == bins.n_groups - 1
    assert ((bins(far, 3) >= 0) & (bins(far, 3) < 4)).all()


def test_without_conditions_there_is_one_group() -> None:
    bins = ConditionBins.fit(torch.empty(5, 0), 8)
    assert (bins.n_groups, bins.edges.numel()) == (1, 0)
    assert bins(None, 3).tolist() == [0, 0, 0]


def test_marginals_invert_themselves_and_their_density_is_the_slope() -> None:
    rng = new_generator(0)
    values = normal((4000, 2), rng, dtype=torch.float64) * torch.tensor([1.0, 3.0])
    group = (torch.arange(4000) % 2).long()
    marginals = QuantileMarginals.fit(values, group, 2, 51)
    levels = uniform((500, 2), rng, dtype=torch.float64)
    samples = marginals.quantile(levels, group[:500])
    cdf, log_density = marginals.cdf_and_log_density(samples, group[:500])
    torch.testing.assert_close(cdf, levels)
    step = 1e-7
    slope = (marginals.quantile(levels + step, group[:500]) - samples) / step
    inside = (torch.searchsorted(marginals.levels, levels) == torch.searchsorted(marginals.levels, levels + step)).all(
        1
    )
    assert inside.sum() > 400
    torch.testing.assert_close(log_density[inside], -slope[inside].log(), atol=1e-5, rtol=1e-5)
    expected = torch.distributions.Normal(0, torch.tensor([1.0, 3.0])).log_prob(samples.float()).double()
    assert (log_density - expected).abs().median() < 0.15


def test_a_frequent_value_stays_exact() -> None:
    values = torch.cat([torch.zeros(300), torch.linspace(0.1, 1, 700)]).double()[:, None]
    marginals = QuantileMarginals.fit(values, torch.zeros(1000).long(), 1, 101)
    group = torch.zeros(20_000).long()
    samples = marginals.quantile(uniform((20_000, 1), new_generator(0), dtype=torch.float64), group)
    assert (samples == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    probe = torch.tensor([[0.0], [0.5], [-0.1], [1.1]], dtype=torch.float64)
    cdf, log_density = marginals.cdf_and_log_density(probe, group[:4])
    assert cdf[0].item() == pytest.approx(0.15, abs=0.02)
    assert log_density[0].item() == pytest.approx(np.log(0.3 / 1e-6), abs=0.1)
    assert log_density[1].exp().item() == pytest.approx(0.7 / 0.9, rel=0.05)
    assert torch.isneginf(log_density[2:]).all()
