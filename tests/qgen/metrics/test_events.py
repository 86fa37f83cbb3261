"""The suite on the lab's own events."""

from __future__ import annotations

import pytest
import torch

from qgen.data import load_calorimeter, simulate_muon
from qgen.metrics import evaluate

PHYSICS = ["separation", "correlation"]


@pytest.fixture(scope="module")
def showers():
    return load_calorimeter(grid=(8,), max_events=3000)


def pull(row) -> float:
    return (row.value.value - row.floor.value) / (row.value.uncertainty**2 + row.floor.uncertainty**2) ** 0.5


def test_a_shifted_response_is_seen_in_the_response(showers):
    truth, other = showers.train, showers.train.with_samples(1.1 * showers.train.samples)
    half = torch.arange(len(truth)) % 2 == 0
    true, fresh, shifted = (x.take(rows.nonzero()[:, 0]) for x, rows in ((truth, half), (truth, ~half), (other, ~half)))
    table = evaluate(true, {"truth": fresh, "shifted": shifted}, reference=showers.test, metrics=PHYSICS)
    assert pull(table.of("shifted")["separation/response"]) > 4
    for name in ("separation/sparsity", "separation/centre_layer", "correlation"):
        assert abs(pull(table.of("shifted")[name])) < 3
    assert abs(pull(table.of("truth")["separation/response"])) < 3


def test_pixels_with_permuted_events_have_lost_their_correlation(showers):
    rng = torch.Generator().manual_seed(0)
    pixels = showers.train.samples.unbind(1)
    independent = torch.stack([x[torch.randperm(len(x), generator=rng)] for x in pixels], 1)
    table = evaluate(showers.test, showers.train.with_samples(independent), metrics=["correlation", "ks"])
    assert pull(table["correlation"]) > 5
    assert abs(pull(table["ks"])) < 3


def test_muon_events_at_another_mediator_mass_are_told_apart():
    options = {"beam_energy": 100.0, "target": "Pb", "mediator": "vector"}
    truth = simulate_muon(n=3000, mediator_mass=0.2, seed=0, **options).select("energy", "pt", "eta")
    same = simulate_muon(n=1500, mediator_mass=0.2, seed=1, **options).select("energy", "pt", "eta")
    lighter = simulate_muon(n=1500, mediator_mass=0.05, seed=2, **options).select("energy", "pt", "eta")
    metrics = ["ks", "separation", "classifier_auc"]
    table = evaluate(truth, {"same": same, "lighter": lighter}, metrics=metrics)
    assert all(abs(pull(table.of("same")[name])) < 3 for name in metrics)
    assert all(pull(table.of("lighter")[name]) > 4 for name in metrics)
