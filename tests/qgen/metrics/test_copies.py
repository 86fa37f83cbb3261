"""Memorisation is seen, and nothing else looks like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact
from sklearn.neighbors import NearestNeighbors

from qgen.metrics import evaluate, memorisation
from qgen.metrics.columns import as_dataset
from qgen.metrics.copies import copied, nearness


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


N, D = 1000, 3
TRUTH, TRAINING, FRESH = normal(0, N, D), normal(1, N, D), normal(2, N, D)


def test_nearness_is_that_of_scikit_learns_neighbours() -> None:
    found = nearness(FRESH, TRAINING)
    distances, _ = NearestNeighbors(n_neighbors=2).fit(TRAINING.numpy()).kneighbors(FRESH.numpy())
    np.testing.assert_allclose(found, distances[:, 0] / distances[:, 1], rtol=1e-9)


def test_the_p_value_is_fishers() -> None:
    found = copied(torch.arange(100.0) / 100, torch.arange(50.0) / 80, 0.1)
    below = [[8, 42], [10, 90]]
    assert found.p_value == pytest.approx(fisher_exact(below, alternative="greater").pvalue)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_score_is_the_share_of_copies(share: float) -> None:
    mixed = FRESH.clone()
    mixed[: int(share * N)] = TRAINING[: int(share * N)]
    found = memorisation(TRUTH, mixed, training=TRAINING)
    assert abs(found.value - share) < 3 * found.uncertainty + 1e-9
    assert (found.p_value < 1e-3) == (share > 0)


def test_blurred_copies_are_seen_until_the_blur_is_that_of_the_density() -> None:
    found = [memorisation(TRUTH, TRAINING + blur * FRESH, training=TRAINING).value for blur in (0.01, 0.03, 0.1, 1.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.8
    assert abs(found[-1]) < 0.1


OTHER_FAULTS = {
    "dense region": 0.2 * FRESH,
    "noisy": 3 * FRESH,
    "shifted": FRESH + 2,
    "dropped mode": FRESH.abs(),
    "collapsed": torch.zeros(N, D),
    "repeats itself": FRESH[:200].repeat(5, 1),
}


@pytest.mark.parametrize("fault", OTHER_FAULTS)
def test_other_faults_are_no_memorisation(fault: str) -> None:
    assert memorisation(TRUTH, OTHER_FAULTS[fault], training=TRAINING).value < 0.1


def test_duplicates_in_truth_do_not_count() -> None:
    """A fifth of the true events are empty, whoever draws them; another tenth repeats one training event."""
    truth, training, fresh = TRUTH.clone(), TRAINING.clone(), FRESH.clone()
    for x in (truth, training, fresh):
        x[: N // 5] = 0
    truth[N // 5 : 3 * N // 10] = fresh[N // 5 : 3 * N // 10] = training[-1]
    found = memorisation(truth, fresh, training=training)
    assert abs(found.value) < 3 * found.uncertainty
    assert found.p_value > 0.01
    assert memorisation(truth, training, training=training).p_value < 1e-6


def test_where_all_true_events_repeat_nothing_can_be_told() -> None:
    grid = torch.arange(5.0).repeat(100)[:, None]
    found = memorisation(grid, grid, training=grid)
    assert (found.value, found.p_value) == (0.0, 1.0)


def test_the_floor_is_at_zero_and_the_pull_large() -> None:
    table = evaluate(
        torch.cat([TRUTH, normal(5, N, D)]),
        {"copies": TRAINING, "fresh": FRESH},
        training=TRAINING,
        metrics=["memorisation"],
    )
    copies, fresh = (table.of(name)["memorisation"] for name in ("copies", "fresh"))
    assert copies.pull > 10
    assert abs(fresh.pull) < 3
    assert abs(fresh.floor.value) < 3 * fresh.floor.uncertainty


def test_false_alarms_are_as_rare_as_stated() -> None:
    p = [memorisation(*normal(100 + s, 3, 300, 2)[:2], training=normal(500 + s, 300, 2)).p_value for s in range(100)]
    assert np.mean(np.array(p) < 0.05) <= 0.08


def test_mistakes_are_one_line() -> None:
    with pytest.raises(ValueError, match="quantile is 1.0; it must lie between 0 and 1"):
        memorisation(TRUTH, FRESH, training=TRAINING, quantile=1.0)
    with pytest.raises(ValueError, match="training has 1 events; at least 2"):
        memorisation(TRUTH, FRESH, training=TRAINING[:1])
    with pytest.raises(ValueError, match="memorisation needs the events that the generator was trained on"):
        memorisation(TRUTH, FRESH)


def test_weights_count_in_the_shares() -> None:
    """A quarter of the events are copies, of the weights a tenth; weights of one sign or with a fifth negative."""
    mixed = torch.cat([TRAINING[:250], FRESH[:750]])
    for sign in (torch.ones(750), torch.where(torch.arange(750) % 10 < 1, -1.0, 1.0)):
        weights = torch.cat([torch.full((250,), sign.sum().item() / 9 / 250), sign]).double()
        events = replace(as_dataset("generated", mixed), weights=weights)
        found = memorisation(TRUTH, events, training=TRAINING)
        assert abs(found.value - 0.1) < 3 * found.uncertainty < 0.2
        assert found.p_value < 1e-3
        assert memorisation(events, events, training=TRAINING).value == pytest.approx(0, abs=1e-9)


def test_false_alarms_of_weighted_events_are_as_rare_as_stated() -> None:
    p = []
    for s in range(100):
        truth, fresh, of = normal(100 + s, 3, 300, 2)
        events = replace(as_dataset("generated", fresh), weights=of[:, 0].exp())
        p.append(memorisation(truth, events, training=normal(500 + s, 300, 2)).p_value)
    assert np.mean(np.array(p) < 0.05) <= 0.08
