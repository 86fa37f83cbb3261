from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data.dataset import Dataset, Feature
from qgen.metrics import METRICS, Metric, MetricResult, evaluate, ks, metric, wasserstein

DEFAULT = {name for name, m in METRICS.items() if m.by_default}
FAST = ["wasserstein", "ks", "correlation"]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def conditional(seed: int, n: int = 400, unit: str = "GeV") -> Dataset:
    energy = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    features = (Feature("pt", unit), Feature("eta"))
    return Dataset(normal(seed, n, 2) + 3 * energy, features, energy, (Feature("energy", "GeV"),))


def test_without_reference_truth_is_halved_and_all_samples_have_the_same_size(monkeypatch):
    sizes = []
    results = Metric.results

    def spy(self, truth, generated, **options):
        sizes.append((len(truth.values), len(generated.values)))
        return results(self, truth, generated, **options)

    monkeypatch.setattr(Metric, "results", spy)
    table = evaluate(normal(0, 1001, 2), normal(1, 900, 2), metrics=["ks"])
    assert sizes == [(500, 500)] * 2
    assert {row.n_events for row in table} == {500}


def test_halves_share_no_event(monkeypatch):
    seen = []
    results = Metric.results

    def spy(self, truth, generated, **options):
        seen.append([sorted(columns.events.samples[:, 0].tolist()) for columns in (truth, generated)])
        return results(self, truth, generated, **options)

    monkeypatch.setattr(Metric, "results", spy)
    truth = torch.arange(201.0)[:, None]
    evaluate(truth, truth + 1000, metrics=["separation", "ks"], seed=3)
    floor, value = seen[:2]
    assert floor[0] == value[0]
    assert set(floor[0]).isdisjoint(floor[1])
    assert set(floor[0]) | set(floor[1]) < set(range(201))
    assert seen[2:] == [floor, value]  # every metric sees the same events


def test_floor_is_the_metric_between_truth_and_reference():
    truth, reference, generated = normal(0, 300, 2), normal(1, 300, 2), normal(2, 300, 2) + 1
    table = evaluate(truth, generated, reference=reference, metrics=["ks", "wasserstein"])
    assert table["ks"].value.value == pytest.approx(ks(truth, generated).value)
    assert table["ks"].floor.value == pytest.approx(ks(truth, reference).value)
    assert table["wasserstein"].value.value == pytest.approx(wasserstein(truth, generated).value)


def test_generators_share_floors_of_the_same_size(monkeypatch):
    calls = []
    results = Metric.results
    monkeypatch.setattr(Metric, "results", lambda self, *a, **k: calls.append(self.name) or results(self, *a, **k))
    samples = {"a": normal(1, 500, 2), "b": normal(2, 500, 2), "small": normal(3, 40, 2)}
    table = evaluate(normal(0, 1000, 2), samples, metrics=["ks"])
    assert len(calls) == 5  # three values, two floors
    assert table.of("a")["ks"].floor == table.of("b")["ks"].floor != table.of("small")["ks"].floor
    assert [table.of(name)["ks"].n_events for name in samples] == [500, 500, 40]


def test_a_generators_row_does_not_depend_on_its_company():
    truth, a, b = normal(0, 400, 2), normal(1, 200, 2), normal(2, 200, 2)
    together = evaluate(truth, {"b": b, "a": a}, metrics=FAST).of("a").to_dict()["a"]
    assert together == evaluate(truth, a, metrics=FAST).to_dict()


def test_seed_fixes_everything():
    truth, generated = normal(0, 300, 2), normal(1, 300, 2)
    first, again, other = (evaluate(truth, generated, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.to_dict() != other.to_dict()


def test_per_feature_rows_are_named_and_followed_by_their_mean():
    table = evaluate(conditional(0), conditional(1), metrics=["wasserstein", "correlation"])
    assert [row.name for row in table] == ["wasserstein/pt", "wasserstein/eta", "wasserstein", "correlation"]
    mean = (table["wasserstein/pt"].value.value + table["wasserstein/eta"].value.value) / 2
    assert table["wasserstein"].value.value == pytest.approx(mean)
    assert [row.name for row in table.summary()] == ["wasserstein", "correlation"]


def test_joint_metrics_include_the_conditions():
    truth, generated = conditional(0, 2000), conditional(1, 2000)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    ignoring = generated.with_samples(generated.samples, generated.conditions[order])
    table = evaluate(truth, {"good": generated, "ignores": ignoring})
    for name in ("correlation", "mmd", "classifier_auc", "total_variation", "jensen_shannon"):
        good, bad = (table.of(which)[name].value for which in ("good", "ignores"))
        assert bad.value > good.value + 4 * bad.uncertainty, name
    assert table.of("good")["ks"].value == table.of("ignores")["ks"].value


def test_physics_metrics_look_at_observables():
    class Doubled(Dataset):
        def observables(self):
            return Dataset(2 * self.samples[:, :1], (Feature("total", "MeV"),))

    truth, generated = (Doubled(normal(k, 100, 2), (Feature("a"), Feature("b"))) for k in (0, 1))
    table = evaluate(truth, generated.samples, metrics=["separation", "ks"])
    assert [row.name for row in table] == ["separation/total", "separation", "ks/a", "ks/b", "ks"]


def test_to_dict_is_json_with_values_uncertainties_and_floors():
    single = evaluate(normal(0, 100, 2), normal(1, 100, 2), metrics="ks").to_dict()
    assert list(single) == ["ks/x0", "ks/x1", "ks"]
    assert set(single["ks"]) == {"value", "uncertainty", "floor", "floor_uncertainty", "extrapolated"}
    named = evaluate(normal(0, 100, 2), {"flow": normal(1, 100, 2)}, metrics="ks").to_dict()
    assert json.loads(json.dumps(named)) == {"flow": single}


def test_text_shows_value_and_floor():
    text = str(evaluate(normal(0, 100, 1), {"flow": normal(1, 100, 1)}, metrics=["ks"]))
    header, *rows = text.splitlines()
    assert header.split()[:3] == ["generator", "metric", "value"]
    assert all(row.startswith("flow") and row.count("±") == 2 for row in rows)
    assert "generator" not in str(evaluate(normal(0, 100, 1), normal(1, 100, 1), metrics=["ks"]))


def test_all_metrics_that_are_defined_are_the_default():
    assert "correlation" not in evaluate(normal(0, 100, 1), normal(1, 100, 1), n_bootstrap=2).to_dict()
    taken = evaluate(normal(0, 100, 2), normal(1, 100, 2), n_bootstrap=2).to_dict()
    assert {name.split("/")[0] for name in taken} == DEFAULT


def test_a_new_metric_takes_a_few_lines(monkeypatch):
    monkeypatch.setattr("qgen.metrics.base.METRICS", dict(METRICS))

    @metric(view="samples", per_feature=True)
    def mean_shift(truth, generated, seed):
        """Difference of means."""
        return lambda w, v: (w @ truth / w.sum() - v @ generated / v.sum()).abs()

    assert mean_shift.description == "Difference of means."
    row = evaluate(normal(0, 4000, 2), normal(1, 4000, 2) + 1, metrics=["mean_shift"])["mean_shift"]
    assert row.value.value == pytest.approx(1, abs=0.1)
    assert row.value.uncertainty == pytest.approx(math.sqrt(2 / 2000 / 2), rel=0.6)


TRUTH = conditional(0)
MISTAKES = {
    "unknown metric": (lambda: evaluate(TRUTH, TRUTH, metrics=["waserstein"]), "did you mean 'wasserstein'"),
    "no metric": (lambda: evaluate(TRUTH, TRUTH, metrics=[]), "metrics is empty; known: "),
    "no generator": (lambda: evaluate(TRUTH, {}), "empty mapping"),
    "few events": (lambda: evaluate(TRUTH, {"flow": conditional(1, 19)}), "generated 'flow': 19 events; at least 20"),
    "few true events": (lambda: evaluate(conditional(1, 39), TRUTH), "truth's other half: 19 events"),
    "few reference events": (lambda: evaluate(TRUTH, TRUTH, reference=conditional(1, 5)), "reference: 5 events"),
    "few events, called": (lambda: ks(normal(0, 50, 1), normal(1, 3, 1)), "generated has 3 events; at least 20"),
    "unit": (
        lambda: evaluate(TRUTH, conditional(1, unit="MeV")),
        r"truth has pt \[GeV\], eta.*; generated has pt \[MeV\], eta",
    ),
    "column": (
        lambda: evaluate(TRUTH, {"gan": TRUTH.select("pt")}),
        r"generated 'gan' has pt \[GeV\], energy \[GeV\]$",
    ),
    "column, called": (lambda: ks(TRUTH, TRUTH.select("eta")), r"truth has pt \[GeV\], eta; generated has eta$"),
    "reference's column": (lambda: evaluate(TRUTH, TRUTH, reference=TRUTH.select("pt")), "reference has pt"),
    "missing condition": (lambda: evaluate(TRUTH, TRUTH.samples), "generated: a plain table has no conditions.*energy"),
    "width": (lambda: evaluate(normal(0, 50, 2), normal(1, 50, 3)), "generated: samples have shape"),
    "shape": (lambda: evaluate(normal(0, 50), normal(1, 50, 3)), r"truth has shape \(50,\); expected \(N, d\)"),
    "NaN": (lambda: evaluate(normal(0, 50, 1), normal(1, 50, 1).sqrt()), "generated: samples row .* nan is not finite"),
    "huge": (lambda: evaluate(normal(0, 50, 1), normal(1, 50, 1) * 1e200), "generated has a value of magnitude"),
    "no replicas": (lambda: evaluate(TRUTH, TRUTH, n_bootstrap=1), "n_bootstrap is 1; at least 2"),
    "one column": (
        lambda: evaluate(normal(0, 50, 1), normal(1, 50, 1), metrics=["correlation"]),
        "correlation needs at least 2 and at most 1000 columns, found 1",
    ),
    "other generator": (lambda: evaluate(TRUTH, {"a": TRUTH}, metrics="ks").of("b"), "no generator 'b'.*are a$"),
    "several": (lambda: evaluate(TRUTH, {"a": TRUTH, "b": TRUTH}, metrics="ks")["ks"], r"choose one with .of\(name\)"),
    "no row": (lambda: evaluate(TRUTH, TRUTH, metrics="ks")["mmd"], "row 'mmd' is unknown; Known: ks/pt, ks/eta, ks"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_line(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_same_columns_in_another_order_are_refused():
    with pytest.raises(ValueError, match="columns differ"):
        evaluate(TRUTH, replace(TRUTH.select("eta", "pt")))


def test_of_many_columns_the_first_that_differs_is_named():
    many = torch.rand(60, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = Dataset(many, tuple(Feature(f"x{i}", "GeV") for i in range(30)))
    other = replace(wide, features=(*wide.features[:20], Feature("x20", "MeV"), *wide.features[21:]))
    with pytest.raises(
        ValueError, match=r"truth has 30, .* has 30; number 21 is x20 \[GeV\] in the one and x20 \[MeV\]"
    ):
        evaluate(wide, other)
    with pytest.raises(ValueError, match="truth has 30, .* has 29; number 30 is .* and none in the other"):
        evaluate(wide, replace(wide, samples=many[:, :29], features=wide.features[:29]))


values = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e-300, 5e-324, 1e99, -1e99]),
    st.floats(allow_nan=True, allow_infinity=True),
)


@given(
    st.sampled_from(sorted(METRICS)), st.lists(st.tuples(values, values), min_size=20, max_size=40), st.integers(0, 9)
)
@settings(max_examples=150, deadline=None)
def test_any_generated_numbers_are_scored_or_refused_in_one_line(name, rows, seed):
    generated = torch.tensor(rows, dtype=torch.float64)
    for truth, other in ((normal(seed, 60, 2), generated), (generated.repeat(2, 1), normal(seed, 60, 2))):
        message = "one line"
        try:
            assert_finite(evaluate(truth, other, training=normal(seed + 1, 60, 2), metrics=[name], n_bootstrap=2))
        except ValueError as refused:
            message = str(refused)
        assert len(message.splitlines()) == 1


def assert_finite(table):
    for row in table:
        for result in (row.value, row.floor):
            assert isinstance(result, MetricResult)
            assert math.isfinite(result.value)
            assert result.uncertainty >= 0


def test_metrics_that_are_not_for_so_many_columns_are_left_out_or_refused() -> None:
    wide = torch.rand(60, 1200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = {row.metric for row in evaluate(wide, wide, n_bootstrap=2)}
    assert chosen == DEFAULT - {"correlation", "classifier_auc"}
    with pytest.raises(ValueError, match=r"at most 1000 columns, found 1200 \(x0, .*x1199 \(1200 in all\)\)"):
        evaluate(wide, wide, metrics=["correlation"])


def test_groups_are_taken_as_far_as_they_are_defined():
    table = evaluate(normal(0, 60, 1), normal(1, 60, 1), metrics=["distributions"], n_bootstrap=2)
    found = {row.metric for row in table}
    assert {"ks", "wasserstein", "mmd"} < found
    assert "correlation" not in found
    assert {METRICS[name].group for name in found} == {"distributions"}
    assert {row.metric for row in evaluate(normal(0, 60, 1), normal(1, 60, 1), metrics=["ks", "ks"])} == {"ks"}


def test_options_reach_the_metric_and_mistakes_are_told_before_the_work(monkeypatch):
    monkeypatch.setattr("qgen.metrics.base.METRICS", found := dict(METRICS))
    monkeypatch.setattr("qgen.metrics.suite.METRICS", found)

    @metric(view="samples")
    def shift(truth, generated, seed, power: float = 1.0, kind: str = "mean", columns: tuple[int, ...] = ()):
        """Difference of means."""
        return lambda w, v: (v @ generated / v.sum() - w @ truth / w.sum()).abs().mean() ** power

    a, b = normal(0, 100, 1), normal(1, 100, 1) + 3
    once, twice = (
        evaluate(a, b, reference=a, metrics=["shift"], options={"shift": options})["shift"].value.value
        for options in ({}, {"power": 2})
    )
    assert twice == pytest.approx(once**2)
    assert shift(a, b, power=2).value == pytest.approx(shift(a, b).value ** 2)
    mistakes = {
        "option of shift 'powers' is unknown; did you mean 'power'": {"powers": 2},
        "option power of shift is '2'; a number is expected": {"power": "2"},
        "option power of shift is True; a number": {"power": True},
        "option kind of shift is 3; a text": {"kind": 3},
        "option columns of shift is 1; a list": {"columns": 1},
    }
    for message, options in mistakes.items():
        with pytest.raises(ValueError, match=message):
            evaluate(a, b[:3], metrics=["shift"], options={"shift": options})
    with pytest.raises(ValueError, match="options of ks are given, but ks is not among the metrics"):
        evaluate(a, b, metrics=["shift"], options={"ks": {}})


def test_a_metric_of_training_events_has_its_floor_from_the_halves_of_truth(monkeypatch):
    monkeypatch.setattr("qgen.metrics.base.METRICS", dict(METRICS))
    seen = []

    @metric(view="samples")
    def copies(truth, generated, seed, training):
        """Share of generated events that are training events."""
        seen.append((truth, generated))
        share = (generated[:, :1] == training[:, 0]).any(1).double()
        return lambda w, v: v @ share / v.sum()

    truth, training = normal(0, 200, 1), normal(1, 150, 1)
    table = evaluate(truth, training[:100], reference=training, training=training, metrics=["copies", "ks"])
    assert table["copies"].value.value == 1
    assert table["copies"].floor.value == 0  # though the reference is what was learned
    assert [len(x) for pair in seen for x in pair] == [100, 100, 100, 100]
    with pytest.raises(ValueError, match="copies needs the events that the generator was trained on"):
        evaluate(truth, training, metrics=["copies"])


@given(st.integers(0, 2**20), st.sampled_from(["wasserstein", "ks", "total_variation", "separation", "correlation"]))
@settings(max_examples=20, deadline=None)
def test_whole_weights_are_repeated_events(seed, name):
    truth, generated = (Dataset(normal(seed + k, 60, 2), (Feature("a"), Feature("b"))) for k in range(2))
    weights = torch.randint(1, 4, (60,), generator=torch.Generator().manual_seed(seed)).double()
    counted = METRICS[name](truth, replace(generated, weights=weights), n_bootstrap=2).value
    repeated = METRICS[name](truth, generated.take(torch.arange(60).repeat_interleave(weights.long())), n_bootstrap=2)
    assert counted == pytest.approx(repeated.value, abs=1e-9)


def test_negative_weights_subtract_events():
    """Events that were added and are taken away again by weight -1 leave the value as it was."""
    truth, generated, added = normal(0, 300, 1), normal(1, 300, 1), normal(2, 100, 1) + 5
    features = (Feature("x"),)
    events = Dataset(
        torch.cat([generated, added, added]), features, weights=torch.cat([torch.ones(400), -torch.ones(100)])
    )
    plain = wasserstein(truth, generated)
    assert wasserstein(Dataset(truth, features), events).value == pytest.approx(plain.value, abs=1e-12)


def test_weights_that_leave_too_little_are_refused():
    truth = Dataset(normal(0, 100, 1), (Feature("x"),))
    spiky = torch.full((100,), 1e-3)
    spiky[0] = 1.0
    cases = {
        r"generated 'gan': weights sum to -100; a positive sum": -torch.ones(100),
        r"generated 'gan': 100 weighted events count as 1\.2": spiky,
        r"generated 'gan': weights sum to 0; a positive sum": torch.zeros(100),
    }
    for message, weights in cases.items():
        with pytest.raises(ValueError, match=message):
            evaluate(truth, {"gan": replace(truth, weights=weights)}, reference=truth, metrics=["ks"])


def test_bins_of_a_condition_have_floors_of_their_own():
    truth, generated = conditional(0, 1000), conditional(1, 1000)
    shifted = generated.with_samples(generated.samples + (generated.conditions > 0.5))
    table = evaluate(truth, shifted, reference=conditional(2, 1000), metrics=["ks"], bins={"energy": [0.0, 0.5, 1.0]})
    low, high = (table[f"ks @ energy {edges} GeV"] for edges in ("0 to 0.5", "0.5 to 1"))
    assert abs(low.pull) < 3 < 8 < high.pull
    assert low.floor != high.floor != table["ks"].floor
    held = [int(((d.conditions >= 0.5) & (d.conditions <= 1)).sum()) for d in (truth, conditional(2, 1000), shifted)]
    assert high.n_events == min(held)
    assert list(dict.fromkeys(row.bin for row in table)) == ["", low.bin, high.bin]
    assert len({row.name for row in table}) == len(table)


BAD_BINS = {
    "few": ({"energy": [0.0, 0.01, 1.0]}, "in energy 0 to 0.01 GeV: .* events; at least 20"),
    "unknown": ({"enrgy": 2}, "condition 'enrgy' is unknown; did you mean 'energy'"),
    "none": ({"energy": 0}, "bins of 'energy': 0; at least 1"),
    "edges": ({"energy": [1.0, 0.5]}, r"bins of 'energy': \[1.0, 0.5\]; at least two finite, increasing"),
    "one edge": ({"energy": [1.0]}, "at least two finite, increasing"),
    "nan": ({"energy": [0.0, math.nan]}, "at least two finite, increasing"),
}


@pytest.mark.parametrize("mistake", BAD_BINS)
def test_mistaken_bins_get_one_line(mistake):
    bins, message = BAD_BINS[mistake]
    with pytest.raises(ValueError, match=message):
        evaluate(TRUTH, conditional(1), metrics=["ks"], bins=bins)


def test_a_metric_of_a_group_that_cannot_judge_is_told_and_one_that_is_asked_for_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def picky(truth: torch.Tensor, generated: torch.Tensor, seed: int) -> MetricResult:
        """Refuses what is not near."""
        if generated.mean() > 1:
            raise ValueError("picky takes small values only")
        return MetricResult(0.0, 1.0)

    monkeypatch.setattr("qgen.metrics.base.METRICS", dict(METRICS))
    monkeypatch.setattr("qgen.metrics.suite.METRICS", dict(METRICS))
    metric(view="samples", group="tests", reference="ours")(picky)
    truth = normal(0, 200, 2)
    generated = {"good": normal(1, 100, 2), "bad": 5 + normal(2, 100, 2)}
    table = evaluate(truth, generated, metrics=["ks", "tests"])
    assert [str(one) for one in table.refused] == ["bad: picky takes small values only"]
    assert [one.metric for one in table.of("bad").refused] == ["picky"]
    assert table.of("good").refused == ()
    assert {row.metric for row in table.of("good")} - {row.metric for row in table.of("bad")} == {"picky"}
    with pytest.raises(ValueError, match=r"^picky takes small values only$"):
        evaluate(truth, generated, metrics=["picky"])
