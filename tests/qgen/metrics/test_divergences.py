"""Divergences of each feature and what all distances between distributions have in common."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from qgen.metrics import METRICS, evaluate, joint_cells, js, kl, kl_reverse, kuiper
from qgen.metrics.kullback_leibler import equal_edges

OURS = (
    *("kl", "kl_reverse", "js", "kuiper", "sliced_wasserstein", "sinkhorn"),
    *("energy_distance", "mmd", "mmd_blocks", "fpd", "kpd"),
)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(metric, truth: torch.Tensor, generated: torch.Tensor) -> float:
    return metric(truth, generated, n_bootstrap=2).value


def shares(truth: torch.Tensor, generated: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    edges = equal_edges(truth[:, 0]).numpy()
    return tuple(
        np.bincount(np.searchsorted(edges, x[:, 0].numpy()), minlength=len(edges) + 1) for x in (truth, generated)
    )


@given(st.integers(0, 2**31), st.integers(40, 3000), st.sampled_from(["continuous", "whole numbers", "many zeros"]))
@settings(max_examples=30, deadline=None)
def test_bins_of_one_column_are_joint_cells(seed: int, n: int, kind: str) -> None:
    truth, generated = 3 * normal(seed, n, 1), 5 * normal(seed + 1, 100, 1)
    if kind != "continuous":
        truth = truth.round() if kind == "whole numbers" else truth.clamp_min(0)
    both = torch.cat([truth, generated])[:, 0]
    cells = torch.cat(joint_cells(truth, generated))
    pairs = torch.stack([cells, torch.bucketize(both, equal_edges(truth[:, 0]))], 1).unique(dim=0)
    assert len(pairs) == len(pairs[:, 0].unique()) == len(pairs[:, 1].unique())


@pytest.mark.parametrize("width", [1.0, 1.5, 0.1])
def test_divergences_are_scipys_on_the_same_bins(width: float) -> None:
    truth, generated = normal(0, 3000, 1), 0.2 + width * normal(1, 2000, 1)
    p, q = shares(truth, generated)
    assert value(js, truth, generated) == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-9)
    assert value(kl, truth, generated) == pytest.approx(stats.entropy(p, q + 0.5), rel=1e-9)
    assert value(kl_reverse, truth, generated) == pytest.approx(stats.entropy(q, p + 0.5), rel=1e-9)


def test_closed_forms() -> None:
    truth = normal(0, 40_000, 1)
    half = truth[truth > 0].reshape(-1, 1)
    assert value(kl_reverse, truth, half) == pytest.approx(math.log(2), abs=0.02)
    assert value(js, truth, truth + 100) == pytest.approx(1, abs=0.05)  # the outermost bin is open
    assert value(kl_reverse, truth, normal(1, 40_000, 1) + 0.5) == pytest.approx(0.125, rel=0.12)
    # normal distributions of widths 1 and 2 cross at two places, each side of which has the same excess
    at = math.sqrt(2 * math.log(2) / (1 - 1 / 4))
    one_side = stats.norm.cdf(at) - stats.norm.cdf(at / 2)
    found = kuiper(truth, 2 * normal(1, 40_000, 1))
    assert found.value == pytest.approx(2 * one_side, abs=4 * found.uncertainty + 0.01)


@given(st.integers(0, 2**31), st.integers(20, 60), st.integers(20, 60), st.booleans())
@settings(max_examples=25, deadline=None)
def test_kuiper_is_the_sum_of_both_one_sided_distances(seed: int, n: int, m: int, ties: bool) -> None:
    truth, generated = normal(seed, n, 1), 0.3 + 1.4 * normal(seed + 1, m, 1)
    if ties:
        truth, generated = (2 * truth).round(), (2 * generated).round()
    a, b = truth[:, 0].numpy(), generated[:, 0].numpy()
    sides = [stats.ks_2samp(a, b, alternative=side, method="asymp").statistic for side in ("less", "greater")]
    assert value(kuiper, truth, generated) == pytest.approx(sum(sides), abs=1e-12)
    assert value(kuiper, generated, truth) == pytest.approx(sum(sides), abs=1e-12)


def test_kuiper_on_a_circle_does_not_depend_on_the_cut() -> None:
    rng = torch.Generator().manual_seed(0)
    truth, generated = torch.rand(500, 1, generator=rng).double(), torch.rand(400, 1, generator=rng).double() ** 1.3
    turned = [(x + 0.37) % 1 for x in (truth, generated)]
    assert value(kuiper, *turned) == pytest.approx(value(kuiper, truth, generated), abs=1e-12)


def test_kuiper_between_samples_of_truth_has_the_mean_of_kuipers_law() -> None:
    """The limit of sqrt(n m / (n + m)) times the distance has mean sqrt(pi / 2)."""
    n = 2000
    found = [value(kuiper, normal(2 * s, n, 1), normal(2 * s + 1, n, 1)) for s in range(150)]
    assert np.mean(found) * math.sqrt(n / 2) == pytest.approx(math.sqrt(math.pi / 2), rel=0.06)


def test_bias_of_divergences_falls_as_stated() -> None:
    """From 2,560 events on, where the number of bins no longer grows."""
    for metric, power in ((kl, 1), (kl_reverse, 1), (js, 1), (kuiper, 0.5)):
        assert metric.bias == power
        small, large = (
            np.mean([value(metric, normal(2 * s, n, 1), normal(2 * s + 1, n, 1)) for s in range(25)])
            for n in (2560, 10_240)
        )
        assert small / large == pytest.approx(4**power, rel=0.2)


@pytest.mark.parametrize("name", OURS)
def test_zero_on_equal_samples_and_growing_with_a_shift_and_a_width(name: str) -> None:
    metric, truth, other = METRICS[name], normal(0, 500, 3), normal(1, 500, 3)
    noise = metric(truth, other)
    equal = metric(truth, truth).value
    assert equal <= max(noise.value, 0) + 2 * noise.uncertainty
    if name not in (
        "mmd_blocks",
        "fpd",
        "kpd",
        "kl",
        "kl_reverse",
    ):  # these pair or draw events at random, or add to them
        assert equal <= 1e-9
    for distorted in (
        [other + shift for shift in (0.0, 0.2, 0.4, 0.8)],
        [width * other for width in (1.0, 1.3, 1.7, 2.5)],
    ):
        found = [value(metric, truth, x) for x in distorted]
        assert found == sorted(found)


@pytest.mark.parametrize("name", OURS)
def test_units_and_origin_do_not_matter(name: str) -> None:
    """The physics distances keep the origin: they are divided by the greatest magnitude."""
    metric, truth, generated = METRICS[name], normal(0, 300, 2), 0.3 + normal(1, 300, 2)
    unit = torch.tensor([1e-3, 50.0]).double()
    origin = 0.0 if name in ("fpd", "kpd") else torch.tensor([7.0, -300.0]).double()
    moved = value(metric, truth * unit + origin, generated * unit + origin)
    assert moved == pytest.approx(value(metric, truth, generated), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["js", "kl"])
def test_growing_functions_of_a_feature_do_not_matter(name: str) -> None:
    truth, generated = normal(0, 500, 1), 0.3 + normal(1, 500, 1)
    found = value(METRICS[name], truth.exp(), generated.exp())
    assert found == pytest.approx(value(METRICS[name], truth, generated), abs=1e-12)


def test_each_sees_the_fault_it_is_for() -> None:
    def modes(seed: int) -> torch.Tensor:
        x = normal(seed, 2000, 2)
        return torch.stack([0.3 * x[:, 0] + torch.where(normal(seed + 50, 2000) > 0, 1.0, -1.0), x[:, 1]], 1)

    truth, other, good = modes(0), modes(1), modes(2)
    invented = torch.where((torch.arange(2000) % 10 == 0)[:, None] & torch.tensor([True, False]), 0.05 * good, good)
    table = evaluate(
        truth,
        {"good": good, "mode dropped": torch.stack([good[:, 0].abs(), good[:, 1]], 1), "invented": invented},
        reference=other,
        metrics=OURS,
        n_bootstrap=10,
    )
    assert {row.metric for row in table.of("good").summary() if abs(row.pull) > 3} == set()
    assert {row.metric for row in table.of("mode dropped").summary() if row.pull < 3} <= {"kpd"}
    assert table.of("invented")["kl_reverse/x0"].pull > 3


@pytest.mark.parametrize("name", OURS)
def test_constant_columns_and_collapsed_generators_have_a_score(name: str) -> None:
    metric = METRICS[name]
    constant = torch.full((60, 2), 0.1, dtype=torch.float64)
    assert math.isfinite(value(metric, constant, constant))
    assert math.isfinite(value(metric, constant, normal(0, 60, 2)))
    truth = normal(0, 60, 2)
    assert value(metric, truth, constant) > value(metric, truth, normal(1, 60, 2))
