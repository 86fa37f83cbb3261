from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.sweep.folder import read_setup
from experiments.sweep.grid import MOST_POINTS, count, joined, point_text, points, read_grids, read_values
from experiments.sweep.points import Base, job_id, planned

RAW: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"kind": "gaussian", "n": 300},
    "models": {
        "born 0.5": {"kind": "born_machine", "bits": 1, "layers": 1, "objective": {"kind": "mmd"}},
        "gan": {"kind": "gan", "hidden": [4], "objective": {"kind": "adversarial"}, "training": {"steps": 5}},
        "copula": {"kind": "copula"},
    },
}
ONE = {**RAW, "models": {"born 0.5": RAW["models"]["born 0.5"]}}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text("abcxyz_- ", min_size=1).map(str.strip).filter(bool),
    st.lists(st.integers(0, 9), max_size=3),
)


def mistake(raw: dict[str, Any], grid: Any) -> str:
    """The line about a grid that cannot be."""
    with pytest.raises(ValueError, match=r"\A.*\Z") as info:  # no second line
        list(planned(Base(raw), read_grids(grid)))
    return str(info.value)


def is_one_line(error: ValueError) -> bool:
    return "\n" not in str(error) and bool(str(error))


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=6))
def test_values_are_read_as_they_were_written(values: list[Any]) -> None:
    assert read_values(", ".join(json.dumps(value) for value in values), "x") == values


@settings(max_examples=60, deadline=None)
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-7, 7))
def test_a_range_is_that_of_python(a: int, b: int, step: int) -> None:
    if step == 0 or not range(a, b, step):
        with pytest.raises(ValueError, match="step not 0|is empty"):
            read_values(f"{a}:{b}:{step}", "x")
    else:
        assert read_values(f"{a}:{b}:{step}", "x") == list(range(a, b, step))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="model.seed=0123456789:,[]{}'\"-+e# \n&*!|>%@`\x00é", max_size=30))
def test_any_text_is_a_grid_or_one_line(text: str) -> None:
    try:
        grids = read_grids([text])
        right = count(grids) == sum(1 for _ in points(grids[0])) > 0
    except ValueError as error:
        right = is_one_line(error)
    assert right


JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))


@settings(max_examples=80, deadline=None)
@given(JSON, JSON, JSON)
def test_any_file_is_a_sweep_or_one_line(grid: Any, overrides: Any, farm: Any) -> None:
    for written in ({"grid": grid}, {"grid": {"seed": [0]}, "set": overrides}, {"grid": {"seed": [0]}, "farm": farm}):
        try:
            setup = read_setup({"config": ONE, **written})
            right = bool(list(planned(setup.base, setup.grids)))
        except ValueError as error:
            right = is_one_line(error)
        assert right


def test_a_grid_of_any_size_is_counted_before_it_is_made() -> None:
    for grid in (["seed=0:1000000000000"], ["a=0:1000", "b=0:1000"], {"seed": range(10**9)}):
        with pytest.raises(ValueError, match=rf"(values|points); at most {MOST_POINTS}"):
            read_grids(grid)
    with pytest.raises(ValueError, match="200000 points; at most"):
        read_grids([{"a": range(100_000)}, {"b": range(100_000)}])
    assert len(read_values("0:100000", "x")) == MOST_POINTS
    with pytest.raises(ValueError, match=f"more than {MOST_POINTS} values"):
        read_values("0:60000,60000:120000", "x")


def test_grids_that_lie_within_others_are_left_out() -> None:
    first, more = read_grids(["a=1,2", "b=1"]), read_grids(["b=1,2", "a=2,1,3"])
    assert joined(first, more) == more
    assert joined(more, first) == more
    assert count(joined(first, read_grids(["a=4", "b=1"]))) == 3


@pytest.mark.parametrize(
    ("grid", "line"),
    [
        (["model.layer=1"], "model.layer: none of the models born 0.5, gan, copula has it; name one: models.NAME.key"),
        (["models.gan.hiden=[4]"], "grid at models.gan.hiden=[4]: models.gan.hiden: key 'hiden' is unknown"),
        (["model.kind=gan,flow"], "model.kind: which of the models born 0.5, gan, copula? Name it: models.NAME.kind"),
        (["model=1"], "model: expected what of the model is varied"),
        (["dataset.n=300,-1"], "grid at dataset.n=-1: dataset.n: input should be"),
        (["dataset.m=3"], "grid at dataset.m=3: dataset.m: key 'm' is unknown"),
        (["dataset.n.x=3"], "grid at dataset.n.x=3: dataset.n is 300, it has no keys"),
        (["models.born.layers=2"], "models.born.kind: missing"),
        (["seed=0,-1"], "grid at seed=-1: seed: found -1; expected an integer, 0 or above"),
        (["seed=0.5"], "seed: found 0.5; expected an integer"),
        (["seed=true"], "seed: found True; expected an integer"),
        (["seed=0", "seeds=[0]"], "grid: seed and seeds are the same place"),
        (["model.layers=1", "models.born 0.5.layers=2"], "are the same place"),
        (["models.gan.objective={kind: nll}", "models.gan.objective.kind=nll"], "or one is within the other"),
        (["name=a,b"], "grid name: changes no result"),
        (["model.layers=2,2"], "grid model.layers: 2 is given twice"),
        (["model.layers=2,2.0"], "model.layers=2 and model.layers=2.0 are the same job"),
        (["model.layers=1", "model.layers=2"], "grid model.layers: given twice"),
        (["model.layers"], "expected a path and its values, model.layers=2,4,8"),
        (["model..layers=1"], "'model..layers' is no path"),
        (["seed="], "grid seed: no values"),
        (["seed=3:3"], "grid seed: the range '3:3' is empty"),
        (["seed=0:3:0"], "the step not 0"),
        (["seed=[1"], "grid seed: found '[1'; expected values between commas, or a:b"),
        (["seed=2020-01-01"], "expected numbers, words, lists"),
        ({"seed": 65}, "grid seed: found 65; expected a list of values, or a range in quotes, '0:10'"),
        ({}, "grid: nothing is varied"),
        ([], "expected paths, each with its values"),
        ("seed=0", "expected paths, each with its values"),
    ],
)
def test_a_mistake_is_one_line(grid: Any, line: str) -> None:
    assert line in mistake(RAW, grid)


def test_a_path_over_the_models_leads_to_those_that_have_it() -> None:
    base = Base(RAW)
    assert base.places("model.layers") == [["models", "born 0", "5", "layers"]]
    assert base.places("model.training.steps") == [
        ["models", n, *r, "training", "steps"] for n, *r in (("born 0", "5"), ("gan",))
    ]
    assert base.places("model.backend") == [["models", "born 0", "5", "backend"]]
    pairs = [("model.layers", "born 0.5"), ("model.layers", "gan"), ("dataset.n", "gan"), ("seed", "copula")]
    assert [base.concerns(path, model) for path, model in pairs] == [True, False, True, True]
    found = base.at({"model.training.steps": 7, "seed": 3})
    assert found.seeds == [3]
    assert [m.training["steps"] for m in found.models.values() if m.training] == [7, 7]
    assert Base(ONE).places("model.anything") == [["models", "born 0", "5", "anything"]]


def test_the_base_stays_as_it_is() -> None:
    before = json.dumps(RAW)
    list(planned(Base(RAW), read_grids(["models.gan.training.steps=1,2", "dataset.n=100,200", "seed=0:2"])))
    assert json.dumps(RAW) == before


def test_a_kind_may_be_varied_where_its_options_are_left_to_it() -> None:
    grid = ["model.objective.kind=mmd,nll", "model.backend=statevector,density_matrix"]
    assert len(list(planned(Base(ONE), read_grids(grid)))) == 4


def test_a_job_is_named_by_its_content_alone() -> None:
    few = dict(planned(Base(ONE), read_grids(["seed=0:3"])))
    more = dict(planned(Base(ONE), read_grids(["dataset.n=300,400", "seed=2,0,1,7"])))
    assert few.keys() <= more.keys()
    assert job_id(Base(ONE).at({"seed": 1})) in few
    both = list(planned(Base(ONE), [*read_grids(["seed=0:3"]), *read_grids(["dataset.n=300", "seed=0:4"])]))
    assert len(both) == 4


def test_points_are_told_in_a_line() -> None:
    assert point_text({"a.b": [1, 2], "c": "gray", "d": 1e-3}) == "a.b=[1, 2], c=gray, d=0.001"
