"""Each metric sees the fault it exists for, and is blind where its definition says so."""

from __future__ import annotations

import pytest
import torch

from qgen.metrics import METRICS, evaluate

DEFAULT = {name for name, m in METRICS.items() if m.by_default}
N = 2500


def two_blobs(seed: int, n: int = N) -> torch.Tensor:
    """Correlated in columns 0 and 1, two modes in column 2."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=rng, dtype=torch.float64)
    x[:, 1] = 0.8 * x[:, 0] + 0.6 * x[:, 1]
    x[:, 2] = 0.3 * x[:, 2] + torch.where(torch.rand(n, generator=rng) < 0.5, -1.0, 1.0)
    return x


def shuffled_column(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[:, 1] = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(5)), 1]
    return x


FAULTS = {
    "shifted mean": lambda x: x + torch.tensor([0.5, 0.0, 0.0]),
    "smeared": lambda x: x * torch.tensor([1.5, 1.5, 1.0]),
    "lost correlation": shuffled_column,
    "dropped mode": lambda x: torch.cat([x[:, :2], x[:, 2:].abs()], 1),
    "collapsed": lambda x: x[:1].expand(len(x), -1),
    "tail at one value": lambda x: torch.where(x > 1.2, 2.0, x),
}
MARGINAL = {"wasserstein", "ks", "separation"}
SEEN = {
    "shifted mean": DEFAULT - {"correlation"},
    "smeared": {"wasserstein", "ks", "mmd", "classifier_auc", "separation"},
    "lost correlation": DEFAULT - MARGINAL,
    "dropped mode": DEFAULT - {"correlation"},
    "collapsed": DEFAULT,
    "tail at one value": {"classifier_auc", "separation"},
}
UNSEEN = {"shifted mean": {"correlation"}, "smeared": {"correlation"}, "lost correlation": MARGINAL}


@pytest.fixture(scope="module")
def table():
    faulty = {name: fault(two_blobs(2)) for name, fault in FAULTS.items()}
    return evaluate(two_blobs(0), {"perfect": two_blobs(2), **faulty}, reference=two_blobs(1))


def pull(row) -> float:
    return (row.value.value - row.floor.value) / (row.value.uncertainty**2 + row.floor.uncertainty**2) ** 0.5


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_seen(table, fault):
    rows = table.of(fault)
    assert {name for name in SEEN[fault] if pull(rows[name]) < 4} == set()


@pytest.mark.parametrize("fault", UNSEEN)
def test_blind_spots_are_as_defined(table, fault):
    rows = table.of(fault)
    assert {name for name in UNSEEN[fault] if abs(pull(rows[name])) > 3} == set()


def test_a_perfect_generator_is_at_the_floor(table):
    rows = table.of("perfect")
    assert {row.name for row in rows if abs(pull(row)) > 3} == set()


@pytest.mark.parametrize("name", sorted(DEFAULT - {"correlation"}))
def test_a_growing_shift_grows(name):
    truth, generated = two_blobs(0, 1000), two_blobs(1, 1000)
    values = [METRICS[name](truth, generated + shift, n_bootstrap=2).value for shift in (0.0, 0.25, 0.5, 1.0)]
    assert values == sorted(values)
    assert values[-1] > values[0]
