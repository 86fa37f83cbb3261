"""What holds for every metric, on the first kind of events for which it is defined.

A metric whose ``needs`` are met by none of :data:`KINDS` fails here: add a kind of events that it is for.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from qgen.data import gaussian_events, load_calorimeter, simulate_muon
from qgen.data.dataset import Dataset, Feature
from qgen.metrics import GROUPS, METRICS, Metric, MetricTable, evaluate
from qgen.metrics.columns import Columns

N = 500
REPLICAS = 5


def table() -> Dataset:
    rng = torch.Generator().manual_seed(0)
    energy = torch.rand(12_000, 1, generator=rng, dtype=torch.float64)
    pixels = energy * torch.rand(12_000, 3, generator=rng, dtype=torch.float64)
    pixels[pixels < 0.1] = 0.0
    features = tuple(Feature(f"pixel{i}", "MeV") for i in range(3))
    return Dataset(pixels, features, energy, (Feature("energy", "GeV"),))


KINDS = {
    "table": table,
    "muon events": lambda: simulate_muon(5000, beam_energy=[50.0, 100.0, 200.0]),
    "profile": lambda: load_calorimeter(grid=(8,)),
    "lateral image": lambda: load_calorimeter(grid=(8, 8)),
    "showers": lambda: load_calorimeter(grid=(5, 5, 5), axes=("layer", "x", "y"), max_events=2500),
    "features with limits": lambda: gaussian_events(n=2500, limits=(-1.0, 1.0)),
}
"""Events to choose from, at least 5 times ``N`` of each, simplest first."""


@cache
def whole_of(kind: str) -> Dataset:
    return KINDS[kind]()


@cache
def events(kind: str, part: int, n: int = N) -> Dataset:
    """Independent parts of one kind of events, ``n`` each."""
    whole = whole_of(kind)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return whole.take(order[part * n : (part + 1) * n])


@cache
def kind_of(metric: Metric) -> str:
    return next(kind for kind in KINDS if not metric.problem(Columns(events(kind, 0), metric.view)))


@pytest.fixture(params=sorted(name for name, m in METRICS.items() if not m.slow))
def metric(request: pytest.FixtureRequest) -> Metric:
    return METRICS[request.param]


def parts(metric: Metric) -> tuple[Dataset, Dataset, Dataset]:
    """Truth, events of a perfect generator, and training events."""
    truth, generated, training = (events(kind_of(metric), part) for part in range(3))
    return truth, generated, training


def scored(metric: Metric, generated: Dataset, truth: Dataset | None = None) -> MetricTable:
    true, _, training = parts(metric)
    return evaluate(
        true if truth is None else truth,
        generated,
        reference=events(kind_of(metric), 3),
        training=training,
        metrics=[metric.name],
        n_bootstrap=REPLICAS,
    )


@cache
def perfect(metric: Metric) -> MetricTable:
    return scored(metric, parts(metric)[1])


def collapsed(truth: Dataset) -> Dataset:
    return truth.with_samples(truth.samples[:1].expand(len(truth), -1))


def assert_finite(found: MetricTable) -> None:
    for row in found:
        for result in (row.value, row.floor):
            assert math.isfinite(result.value)
            assert math.isfinite(result.uncertainty)
            assert result.uncertainty >= 0
            assert result.p_value is None or 0 <= result.p_value <= 1
            assert result.interval is None or result.interval[0] <= result.value <= result.interval[1]
            assert result.extrapolated is None or math.isfinite(result.extrapolated)


def assert_scored_or_refused(metric: Metric, generated: Dataset, truth: Dataset | None = None) -> None:
    message = "one line"
    try:
        assert_finite(scored(metric, generated, truth))
    except ValueError as refused:
        message = str(refused)
    assert len(message.splitlines()) == 1


def test_it_says_what_it_is(metric: Metric) -> None:
    assert metric.description.endswith(".")
    assert metric.reference
    assert len(metric.description) < 120


def test_results_are_finite_numbers_with_an_uncertainty(metric: Metric) -> None:
    found = perfect(metric)
    assert_finite(found)
    assert found[metric.name].value.uncertainty > 0
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()


def test_a_perfect_generator_is_at_the_floor(metric: Metric) -> None:
    row = perfect(metric)[metric.name]
    assert row.target == metric.target
    if row.value.p_value is not None:
        assert row.value.p_value > 1e-3
    assert abs(row.value.value - row.floor.value) < 5 * (row.value.uncertainty + row.floor.uncertainty)


def test_seed_fixes_the_result_and_nothing_else_is_touched(metric: Metric) -> None:
    truth, generated, training = parts(metric)
    before = [x.clone() for d in (truth, generated, training) for x in (d.samples, d.conditions)]
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    first, again = (metric(truth, generated, training=training, n_bootstrap=REPLICAS, seed=4) for _ in range(2))
    assert first == again
    assert torch.equal(states[0], torch.random.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    after = [x for d in (truth, generated, training) for x in (d.samples, d.conditions)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_collapsed_generator_is_scored(metric: Metric) -> None:
    found = scored(metric, collapsed(parts(metric)[0]))
    assert_finite(found)
    row = found[metric.name]
    if metric.by_default:
        assert row.value.value > row.floor.value + row.floor.uncertainty


def test_empty_and_constant_events_are_scored_or_refused_in_one_line(metric: Metric) -> None:
    truth, generated, _ = parts(metric)
    assert_scored_or_refused(metric, generated.with_samples(torch.zeros_like(generated.samples)))
    dead = [d.with_samples(d.samples.index_fill(1, torch.tensor([0]), 0.0)) for d in (truth, generated)]
    assert_scored_or_refused(metric, dead[1])
    assert_scored_or_refused(metric, dead[1], dead[0])
    assert_scored_or_refused(metric, generated, collapsed(truth))


def test_weights_count_as_repeated_events_or_are_refused(metric: Metric) -> None:
    """Weights 0 and 2 that depend on the events: what ignores them is far off.

    Not to the last digit: estimators without bias pair no event with itself, but they do pair its copies.
    """
    truth, generated, training = parts(metric)
    total = generated.samples.abs().sum(1)
    weights = torch.where(total > total.median(), 2.0, 0.0).double()
    weights[::7] = 1.0
    weighted = replace(generated, weights=weights)
    settings = {"training": training, "n_bootstrap": REPLICAS}
    if metric.weights == "none":
        with pytest.raises(ValueError, match=f"{metric.name} is not defined for weighted events"):
            metric(truth, weighted, **settings)
        return
    repeated = metric(truth, generated.take(torch.arange(len(generated)).repeat_interleave(weights.long())), **settings)
    counted, ignored = metric(truth, weighted, **settings), metric(truth, generated, **settings)
    allowed = 0.3 * abs(ignored.value - repeated.value) + repeated.uncertainty + counted.uncertainty
    assert abs(counted.value - repeated.value) < allowed + 1e-9
    scaled = metric(truth, replace(generated, weights=1e-6 * weights), **settings)
    assert (scaled.value, scaled.uncertainty) == pytest.approx((counted.value, counted.uncertainty), rel=1e-6, abs=1e-9)
    negative = replace(generated, weights=torch.where(torch.arange(len(generated)) % 20 == 3, -1.0, 1.0).double())
    if metric.weights == "signed":
        assert math.isfinite(metric(truth, negative, **settings).value)
    else:
        with pytest.raises(ValueError, match=f"{metric.name} is not defined for negative weights, found -1 in row 3"):
            metric(truth, negative, **settings)


@pytest.mark.parametrize("name", sorted(name for name, m in METRICS.items() if m.weights == "signed" and not m.slow))
def test_events_of_both_signs_that_cancel_leave_a_perfect_generator(name: str) -> None:
    """As in a sample of next-to-leading order: wrong events of weight 1, and as many others of weight -1."""
    metric = METRICS[name]
    truth, generated, training = parts(metric)
    wrong = [events(kind_of(metric), part, 100).samples.flip(1) for part in (20, 21)]
    conditions = [events(kind_of(metric), part, 100).conditions for part in (20, 21)]
    signed = replace(
        generated.with_samples(torch.cat([generated.samples, *wrong]), torch.cat([generated.conditions, *conditions])),
        weights=torch.tensor([1.0, -1.0]).double().repeat_interleave(torch.tensor([N + 100, 100])),
    )
    row = evaluate(truth, signed, reference=events(kind_of(metric), 3, N), training=training, metrics=[name])[name]
    assert abs(row.value.value - row.floor.value) < 4 * (row.value.uncertainty + row.floor.uncertainty)


def test_options_have_defaults_and_mistakes_are_one_line(metric: Metric) -> None:
    metric.check_options(metric.options)
    with pytest.raises(ValueError, match=f"{metric.name}.*'no_such_option'"):
        metric.check_options({"no_such_option": 1})
    for name, default in metric.options.items():
        if type(default) in (bool, int, float, str, tuple):
            with pytest.raises(ValueError, match=f"option {name} of {metric.name} is {{}}; .* is expected"):
                metric.check_options({name: {}})


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_taken_as_far_as_it_is_defined_for_any_events(kind: str, group: str) -> None:
    """A noisy generator, with energies below 0, and fewer events than bins of the condition would need."""
    truth, generated, reference, training = (events(kind, part, 60) for part in range(4))
    noisy = generated.with_samples(generated.samples - 0.1 * truth.samples.std(0))
    assert_finite(evaluate(truth, noisy, reference=reference, training=training, metrics=[group], n_bootstrap=2))


@pytest.mark.parametrize("name", sorted(name for name, m in METRICS.items() if m.by_default))
def test_truth_against_truth_is_at_the_target_but_for_the_bias_that_is_stated(name: str) -> None:
    parts = [events("table", part, 4000) for part in range(3)]
    found = evaluate(parts[0], parts[1], reference=parts[2], metrics=[name])[name]
    assert abs(found.value.value - found.floor.value) < 4 * (found.value.uncertainty + found.floor.uncertainty)
    bias = abs(found.floor.value - found.target)
    if METRICS[name].bias:
        assert found.floor.extrapolated is not None
        assert abs(found.floor.extrapolated - found.target) < max(bias / 2, 5 * found.floor.uncertainty)
    else:
        assert bias < 4 * found.floor.uncertainty


@pytest.mark.parametrize("name", sorted(name for name, m in METRICS.items() if m.by_default))
def test_larger_is_worse(name: str) -> None:
    truth, other = events("table", 0), events("table", 1)
    wrong = other.with_samples(other.samples.flip(0) * torch.tensor([1.5, 2.0, 2.5]))  # in scale and in shape
    good, bad = (METRICS[name](truth, x, n_bootstrap=2).value for x in (other, wrong))
    assert bad > good
