"""Clusters on a ring against scipy's distributions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from qgen.data import DATASETS, ring_events


def test_clusters_are_equally_likely_round_normals() -> None:
    samples = ring_events(n=6000, modes=3, radius=2.0, width=0.1, seed=1).samples
    angle = torch.atan2(samples[:, 1], samples[:, 0])
    cluster = (angle / (2 * math.pi / 3)).round().long() % 3
    assert stats.chisquare(torch.bincount(cluster).numpy()).pvalue > 0.01
    centre = 2 * torch.stack([(cluster * 2 * math.pi / 3).cos(), (cluster * 2 * math.pi / 3).sin()], 1)
    z = ((samples - centre) / 0.1).flatten().numpy()
    assert stats.kstest(z, stats.norm.cdf).pvalue > 0.01


def test_the_seed_fixes_the_events() -> None:
    first, second, third = (DATASETS["ring"](n=50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.samples, second.samples)
    assert not torch.equal(first.samples, third.samples)


@pytest.mark.parametrize("options", [{"modes": 0}, {"width": 0.0}, {"radius": math.inf}, {"n": 0}])
def test_impossible_options_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must all be positive and finite"):
        ring_events(**options)
