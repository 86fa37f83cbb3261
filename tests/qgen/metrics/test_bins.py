from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data.dataset import Dataset, Feature
from qgen.metrics.bins import bin_edges, condition_bins


def conditional(values: list[float]) -> Dataset:
    column = torch.tensor(values, dtype=torch.float64)[:, None]
    return Dataset(torch.zeros_like(column), (Feature("x"),), column, (Feature("energy", "GeV"),))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_every_true_event_is_in_one_bin(values, count):
    data = conditional(values)
    bins = condition_bins(data, {"energy": count})
    assert 1 <= len(bins) <= count
    assert torch.stack([one.holds(data) for one in bins]).sum(0).tolist() == [1] * len(values)


def test_bins_hold_about_as_many_events_each():
    values = (torch.rand(1000, generator=torch.Generator().manual_seed(0)) ** 3).tolist()
    data = conditional(values)
    assert [int(one.holds(data).sum()) for one in condition_bins(data, {"energy": 5})] == [200] * 5


def test_few_values_have_a_bin_each():
    data = conditional([50.0, 100.0, 200.0, 100.0])
    bins = condition_bins(data, {"energy": 4})
    assert [one.label for one in bins] == ["energy 50 GeV", "energy 100 GeV", "energy 200 GeV"]
    assert [int(one.holds(data).sum()) for one in bins] == [1, 2, 1]
    assert bin_edges(torch.tensor([1.0, 1.0, 1.0, 2.0]), 2) == (1.0, 2.0)


def test_the_last_edge_is_in_the_last_bin_and_what_is_beyond_in_none():
    data = conditional([0.0, 1.0, 2.0, 3.0])
    low, high = condition_bins(data, {"energy": [0, 1, 2]})
    assert low.holds(data).tolist() == [True, False, False, False]
    assert high.holds(data).tolist() == [False, True, True, False]


def test_a_dataset_without_conditions_has_no_bins():
    plain = Dataset(torch.zeros(3, 1), (Feature("x"),))
    with pytest.raises(ValueError, match="bins of 'energy': no conditions"):
        condition_bins(plain, {"energy": 2})
