"""Toy distributions against scipy's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy import stats

from qgen.data import DATASETS, Feature, load_events, write_events
from qgen.data.toys import gamma_events, gaussian_events

COVARIANCE = [[0.5, 0.1, 0.25], [0.1, 0.5, 0.1], [0.25, 0.1, 0.5]]


@pytest.mark.parametrize(("shape", "scale"), [(1.0, 1.0), (3.0, 0.5)])
def test_gamma_is_scipys(shape: float, scale: float) -> None:
    x = gamma_events(n=4000, shape=shape, scale=scale, seed=2).column("x").numpy()
    assert stats.kstest(x, stats.gamma(shape, scale=scale).cdf).pvalue > 0.01


def test_gaussian_is_scipys() -> None:
    events = gaussian_events(n=4000, seed=3)
    z = events.samples @ torch.linalg.inv(torch.tensor(COVARIANCE, dtype=torch.float64)) * events.samples
    assert stats.kstest(z.sum(1).numpy(), stats.chi2(3).cdf).pvalue > 0.01
    for i, name in enumerate(("x", "y", "z")):
        assert stats.kstest(events.column(name).numpy(), stats.norm(0, COVARIANCE[i][i] ** 0.5).cdf).pvalue > 0.01
    shifted = gaussian_events(n=4000, mean=[5.0, -1.0], covariance=[[1.0, 0.5], [0.5, 2.0]])
    torch.testing.assert_close(shifted.samples.mean(0), torch.tensor([5.0, -1.0]).double(), atol=0.1, rtol=0)
    torch.testing.assert_close(
        shifted.samples.T.cov(), torch.tensor([[1.0, 0.5], [0.5, 2.0]]).double(), atol=0.15, rtol=0
    )
    wide = torch.eye(5).tolist()
    names = [f.name for f in gaussian_events(n=20, mean=[0.0] * 5, covariance=wide).features]
    assert names == ["x0", "x1", "x2", "x3", "x4"]


@pytest.mark.parametrize("build", [gamma_events, gaussian_events])
def test_the_seed_fixes_the_events(build) -> None:
    assert torch.equal(build(n=50, seed=1).samples, build(n=50, seed=1).samples)
    assert not torch.equal(build(n=50, seed=1).samples, build(n=50, seed=2).samples)


def test_limits_are_kept_in_files_and_do_not_cut(tmp_path: Path) -> None:
    events = gamma_events(n=3000, limits=(0.0, 2.0))
    assert events.samples.max() > 4
    write_events(tmp_path / "toy.h5", events)
    assert load_events(tmp_path / "toy.h5").features == (Feature("x", limits=(0.0, 2.0)),)


def test_both_are_kinds_of_a_configuration() -> None:
    assert DATASETS["gamma"] is gamma_events
    assert DATASETS["gaussian"] is gaussian_events


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gamma_events(n=0), "n is 0; a whole number"),
        (lambda: gamma_events(shape=0.0), "shape is 0.0; it must be positive and finite"),
        (lambda: gamma_events(scale=float("inf")), "scale is inf"),
        (
            lambda: gamma_events(limits=(1.0, 1.0)),
            r"limits of 'x' are \(1.0, 1.0\); they must be finite and increasing",
        ),
        (lambda: gamma_events(limits=(1.0,)), r"limits are \[1.0\]; a lower and an upper one are needed"),
        (lambda: gaussian_events(n=-1), "n is -1"),
        (lambda: gaussian_events(mean=[0.0]), "covariance has 3 rows of 3; the mean has 1 features"),
        (lambda: gaussian_events(mean=[0.0], covariance=[[]]), "covariance has 1 rows of 0"),
        (lambda: gaussian_events(mean=[0.0], covariance=[[-1.0]]), "symmetric and positive definite"),
        (lambda: gaussian_events(mean=[0.0, 0.0], covariance=[[1.0, 0.5], [0.1, 1.0]]), "symmetric and positive"),
        (lambda: gaussian_events(mean=[0.0], covariance=[[float("nan")]]), "symmetric and positive definite"),
    ],
)
def test_misuse_is_one_clear_line(make, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
