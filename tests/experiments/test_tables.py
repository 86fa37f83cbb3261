from __future__ import annotations

import io
import math
from typing import Annotated

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from experiments.catalogue import CATALOGUES, catalogue, options_of
from experiments.metric_table import metric_table
from experiments.scores import Score, measured, read_results
from experiments.tables import results_table
from qgen.metrics import METRICS, MetricResult, MetricRow, MetricTable, evaluate


def text_of(renderable: RenderableType, width: int = 140) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(renderable)
    return stream.getvalue()


def score(value: float, floor: float = 0.05, **more: float) -> dict[str, float]:
    return {"value": value, "uncertainty": 0.012, "floor": floor, "floor_uncertainty": 0.005, **more}


def model(value: float, kind: str = "flow", status: str = "completed", **more: float) -> dict:
    metrics = {"wasserstein/pt": score(value), "wasserstein": score(value, **more), "classifier_auc": score(0.6, 0.51)}
    return {
        "kind": kind,
        "n_parameters": 321,
        "train_seconds": 12.34,
        "sample_seconds": 0.5,
        "status": status,
        "metrics": metrics,
        "seeds": {},
    }


def results(**models: dict) -> dict:
    return {"name": "toy", "seeds": [0], "models": models}


def test_floor_stands_first_then_models_as_configured():
    text = text_of(results_table(results(zebra=model(0.3), apple=model(0.2), cells=model(0.1, "discretised truth"))))
    places = [text.index(name) for name in ("truth vs truth", "cells", "zebra", "apple")]
    assert places == sorted(places)
    assert "0.30" in text
    assert "±0.01" in text
    assert "321" in text
    assert "12.3" in text
    assert "wasserstein/pt" not in text


def test_best_is_nearest_to_the_target_and_no_pseudo_model():
    table = results(near=model(0.06), far=model(0.4), cells=model(0.0, "discretised truth"))
    table["models"]["far"]["metrics"]["classifier_auc"] = score(0.45)
    checked = read_results(table)
    assert checked.best("wasserstein") == "near"
    assert checked.best("classifier_auc") == "far"  # 0.45 is nearer to 0.5 than 0.6
    assert checked.best("ks") is None


def test_seeds_are_shown_as_mean_and_spread():
    table = results(flow=model(0.3, spread=0.08))
    table["seeds"] = [0, 1, 2]
    text = text_of(results_table(table))
    assert "3 seeds" in text
    assert "±0.08" in text


def test_divergence_is_said_in_words():
    status = "completed; training diverged at step 7: the loss is nan; kept the state of step 5"
    text = text_of(results_table(results(gan=model(0.3, status=status))))
    assert "(diverged)" in text
    assert "gan: training diverged at step 7" in text
    assert "diverged" not in text_of(results_table(results(gan=model(0.3))))


def test_a_collapse_is_not_called_a_divergence():
    status = "completed; seed 1: collapsed: generated events spread over 3 % of the true spread from step 100"
    text = text_of(results_table(results(gan=model(0.3, status=status))))
    assert "(collapsed)" in text
    assert "diverged" not in text


def test_markup_in_names_is_no_markup():
    text = text_of(results_table(results(**{"[red]x[/red]": model(0.3)})))
    assert "[red]x[/red]" in text


def full(n_metrics: int) -> dict:
    names = ["jensen_shannon", "total_variation", "separation", "classifier_auc", "wasserstein", "ks", "correlation"]
    one = model(0.3)
    one["metrics"] = {name: score(0.3) for name in [*names, *(f"metric_{i}" for i in range(20))][:n_metrics]}
    return results(**dict.fromkeys(("born_machine", "gan", "flow", "histogram", "marginals", "copula"), one))


@pytest.mark.parametrize("width", [60, 80, 120, 140])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width):
    text = text_of(results_table(full(8)), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("±0.01") == 6 * 8
    assert text.count("±0.005") == 8
    assert "…" not in text


def test_eight_metrics_fit_in_120_columns_at_once():
    assert text_of(results_table(full(8)), 120).count("truth vs truth") == 1
    assert text_of(results_table(full(8)), 80).count("truth vs truth") == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop("models"), r"results.json: models: field required"),
        (lambda r: r.update(models={}), r"models: .*at least 1 item"),
        (lambda r: r.update(seeds="many"), r"seeds: .*\(found many\)"),
        (lambda r: r["models"]["a"]["metrics"]["wasserstein"].pop("floor"), r"models.a.metrics.wasserstein.floor"),
        (
            lambda r: r["models"]["a"]["metrics"].update(ks=score(1) | {"uncertainty": -1}),
            r"ks.uncertainty: .*found -1",
        ),
    ],
)
def test_damaged_results_are_named(damage, message):
    table = results(a=model(0.3))
    damage(table)
    with pytest.raises(ValueError, match=message) as caught:
        read_results(table)
    assert "\n" not in str(caught.value)


json_values = st.deferred(
    lambda: (
        st.none()
        | st.booleans()
        | st.floats()
        | st.integers()
        | st.text(max_size=8)
        | st.lists(json_values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "seeds", "models", "metrics", "kind", "value", "status"]), json_values, max_size=4
        )
    )
)


@given(json_values)
@settings(max_examples=60, deadline=None)
def test_any_json_is_read_or_refused_in_one_line(value):
    message = "results.json: "
    try:
        text_of(results_table(value))
    except ValueError as error:
        message = str(error)
    assert message.startswith("results.json: ")


@given(st.floats(-1e290, 1e290), st.just(0.0) | st.floats(1e-5, 1e9), st.sampled_from([1, 2, 3]))
@settings(max_examples=200, deadline=None)
def test_rounding_keeps_the_number_within_its_uncertainty(value, relative, digits):
    uncertainty = relative * abs(value)
    text = measured(value, uncertainty, digits)
    allowed = 0.51 * uncertainty + float(f"1e{text.exponent - 6}") if uncertainty else 0.005 * abs(value)
    assert abs(float(f"{text.value}e{text.exponent}") - value) <= allowed + 1e-300
    assert len(text.value) < 16


def test_rounding():
    assert str(measured(0.0517, 0.00097)) == "0.05170 ± 0.00097"
    assert str(measured(0.0517, 0.00097, digits=1)) == "0.052 ± 0.001"
    assert str(measured(1234.5, 12.3)) == "1234 ± 12"
    assert str(measured(5.1e-7, 2e-8)) == "(5.10 ± 0.20)×10⁻⁷"
    assert str(measured(0.0, 0.0)) == "0.000 ± 0.000"
    assert str(measured(1.0, 3e-16)) == "1.000 ± 0.000"
    assert "nan" in str(measured(math.nan, 0.1))


def test_pull():
    one = Score(value=0.5, uncertainty=0.3, floor=0.1, floor_uncertainty=0.4)
    assert one.pull == pytest.approx(0.8)
    assert one.excess(0.0) == pytest.approx(0.8)
    below = Score(value=0.4, uncertainty=0.03, floor=0.5, floor_uncertainty=0.04)
    assert below.pull == pytest.approx(-2.0)
    assert below.excess(0.5) == pytest.approx(2.0)  # away from the optimum on its other side
    assert Score(value=1, uncertainty=0, floor=0, floor_uncertainty=0).pull is None


def test_the_spread_between_seeds_enters_the_pull():
    table = results(flow=model(0.3, spread=0.08))
    alone = read_results(table).models["flow"].metrics
    assert alone["wasserstein/pt"].pull == pytest.approx(0.25 / math.hypot(0.012, 0.005))
    table["seeds"] = [0, 1, 2, 3]
    several = read_results(table).models["flow"].metrics["wasserstein"]
    assert several.sigma == pytest.approx(math.hypot(0.012, 0.08 / 2))
    assert several.pull == pytest.approx(0.25 / math.sqrt(0.012**2 + 0.08**2 / 4 + 0.005**2))


def test_metric_table_has_every_row_with_pull():
    truth, generated = torch.randn(2, 400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = evaluate(truth, generated + 0.5, metrics=["wasserstein", "correlation"], n_bootstrap=4)
    text = text_of(metric_table(table), 120)
    lines = text.splitlines()
    assert sum("x0" in line or "x1" in line for line in lines) == 2
    whole = next(line for line in lines if line.strip().startswith("wasserstein"))
    row = table["wasserstein"]
    sigma = math.hypot(row.value.uncertainty, row.floor.uncertainty)
    assert f"{(row.value.value - row.floor.value) / sigma:+.1f}" in whole
    assert "200" in whole


def metric_row(generator: str, metric: str, feature: str = "", *, part: str = "", **more: float) -> MetricRow:
    value = MetricResult(-0.00034, 0.00021, **more)
    return MetricRow(generator, metric, feature, value, MetricResult(0.123, 0.011), 0.0, 100, part)


def test_generators_stand_below_each_other_metric_by_metric():
    rows = [metric_row(name, metric) for name in ("one", "two") for metric in ("ks", "mmd")]
    rows += [metric_row(name, "ks", part="beam_energy 50 to 100 GeV") for name in ("one", "two")]
    lines = [line.split()[:2] for line in text_of(metric_table(MetricTable(tuple(rows)))).splitlines() if "±" in line]
    assert [line[0] for line in lines] == ["ks", "two", "mmd", "two", "ks", "two"]
    assert [line[1] for line in lines[::2]] == ["one"] * 3


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("generators", [("",), ("flow matching", "gan")])
def test_metric_table_keeps_what_matters_at_every_width(width, generators):
    names = [*METRICS]
    more = {"p_value": 0.0, "extrapolated": -0.00012}
    rows = [metric_row(name, metric, **more) for name in generators for metric in names]
    lines = text_of(metric_table(MetricTable(tuple(rows))), width).splitlines()
    numbers = [line for line in lines if "±" in line]
    assert len(numbers) == len(rows)  # none is folded
    assert all("-11.2" in line and line.count("±") == 2 for line in numbers)
    words = "".join("".join(line.split()[:1]) for line in lines)
    assert all(name in words for name in names if width == 140)
    assert all(name.split("_")[0] in words for name in names)
    left_out = "".join(line for line in lines if line.startswith("no room for"))
    assert all((word in left_out) != any(word in line for line in lines[:4]) for word in ("unit", "events", "N → ∞"))
    assert ("<1e-300" in numbers[0]) == ("p," not in left_out)


def test_single_features_are_left_out_of_a_long_table():
    rows = [metric_row("", "ks", feature) for feature in ("", *map(str, range(100)))]
    text = text_of(metric_table(MetricTable(tuple(rows))))
    assert text.count("±") == 2
    assert "100 rows of single features are left out" in text
    assert text_of(metric_table(MetricTable(tuple(rows[:50])))).count("±") == 100


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("models", ["born_machine", "flow", "copula"]),
        ("ansatze", ["strongly_entangling_layers"]),
        ("datasets", ["calorimeter", "muon", "grid: list of int > 0 or none = [8]"]),
        ("metrics", ["classifier_auc", "wasserstein"]),
        ("backends", ["statevector"]),
        ("objectives", ["mmd", "nll", "least-squares", "discriminator_rate"]),
        ("discriminators", ["mlp", "minibatch", "hidden: list of int ≥ 1 = [64, 64]"]),
        ("experiments", []),
    ],
)
def test_catalogue(what, names):
    text = text_of(catalogue(what))
    for name in names:
        assert name in text


def test_catalogue_of_something_else():
    with pytest.raises(ValueError, match="list 'modles' is unknown; did you mean 'models'"):
        catalogue("modles")
    assert {"models", "ansatze", "datasets", "metrics", "backends", "experiments", "objectives"} < set(CATALOGUES)


def test_options_without_types_or_defaults():
    def build(plain, *args: int, sizes: Annotated[list[int], "any"] = (), **rest: str): ...

    assert options_of(build) == ["plain", "sizes: list of int = []"]
