"""A generator warns where it is asked beyond the conditions that it was trained with, and only there."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from experiments.config import resolve
from experiments.run import run_experiment
from qgen import ExtrapolationWarning, Generator, fit, load_generator, load_run, save_generator
from qgen.data import Dataset, Feature, muon_events
from qgen.models import BornMachine
from qgen.random import new_generator, normal
from qgen.registry import generator_class
from qgen.training import NLL
from qgen_toys import Affine, linear_events

F64 = torch.float64


def trained(*energies: float) -> Affine:
    model = Affine(1, 1)
    model.saw(torch.tensor(energies, dtype=F64)[:, None])
    return model


def asked(model: Generator, *condition: float, n: int = 3) -> list[str]:
    """The warnings of a model that is asked under a condition."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.sample(n, torch.tensor(condition, dtype=F64), new_generator(0))
    assert all(warning.category is ExtrapolationWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def test_beyond_is_named_with_the_value_and_the_range() -> None:
    assert asked(trained(200.0, 50.0), 400.0) == [
        "condition row 0, column 0 is 400: Affine was trained from 50 to 200 and extrapolates"
    ]
    assert asked(trained(100.0, 100.0), 101.0) == [
        "condition row 0, column 0 is 101: Affine was trained at 100 and extrapolates"
    ]


@given(low=st.floats(1, 1e3), width=st.floats(1e-3, 1e3), place=st.floats(-2, 3))
def test_no_warning_inside_or_a_hundredth_of_the_range_beyond(low: float, width: float, place: float) -> None:
    found = asked(trained(low, low + width), low + place * width)
    beyond = max(-place, place - 1)
    if beyond < 0.0099:
        assert not found
    elif beyond > 0.0101:
        assert len(found) == 1


def test_one_row_beyond_is_enough_and_is_named() -> None:
    conditions = torch.tensor([[50.0], [75.0], [30.0], [500.0]], dtype=F64)
    with pytest.warns(ExtrapolationWarning, match="condition row 2, column 0 is 30") as caught:
        trained(50.0, 200.0).sample(4, conditions, new_generator(0))
    assert len(caught) == 1


def test_columns_have_ranges_of_their_own() -> None:
    model = Affine(1, 2)
    model.saw(torch.tensor([[1.0, 50.0], [3.0, 200.0]], dtype=F64))
    assert not asked(model, 2.0, 100.0)
    assert "column 1 is 2:" in asked(model, 2.0, 2.0)[0]


def test_the_warning_points_at_who_asked() -> None:
    with pytest.warns(ExtrapolationWarning) as caught:
        trained(50.0, 200.0).sample(1, torch.tensor([400.0]))
    assert caught[0].filename == __file__


def test_nothing_is_said_before_training_or_without_conditions() -> None:
    assert not asked(Affine(1, 1), 1e9)
    model = Affine(1)
    model.saw(torch.empty(5, 0))
    model.sample(3, generator=new_generator(0))


def test_an_impossible_condition_is_an_error_alone() -> None:
    data = muon_events(n=60, features=("pt",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = generator_class("marginals").for_dataset(data)
        for energy in (-5.0, 0.0, torch.inf, torch.nan):
            with pytest.raises(ValueError, match="condition row 0 .* impossible"):
                model.sample(2, torch.tensor([energy]))


def test_training_tells_the_range_of_its_own_events() -> None:
    data = linear_events()
    model = Affine(2, 1, data.transform, data.condition_transform)
    fit(model, data, NLL(), steps=1)
    seen = data.train.conditions
    assert model.condition_range.flatten().tolist() == [seen.min(), seen.max()]
    assert asked(model, 10.0)


@pytest.mark.parametrize("kind", ["histogram", "marginals", "copula"])
def test_models_in_closed_form_warn_as_well(kind: str) -> None:
    model = generator_class(kind).for_dataset(muon_events(n=200, features=("pt", "eta")))
    assert not asked(model, 75.0)
    assert "trained from 50 to 200" in asked(model, 400.0)[0]


def test_the_range_is_saved_with_the_model(affine: str, tmp_path: Path) -> None:
    model = trained(50.0, 200.0)
    save_generator(tmp_path / "model", model)
    again = load_generator(tmp_path / "model")
    assert torch.equal(again.condition_range, model.condition_range)
    assert len(asked(again, 400.0)) == 1


def test_a_training_that_goes_on_has_the_same_range_and_weights(affine: str, tmp_path: Path) -> None:
    data = linear_events()

    def model() -> Affine:
        return Affine(2, 1, data.transform, data.condition_transform)

    whole, broken, resumed = model(), model(), model()
    fit(whole, data, NLL(), steps=20, schedule="constant")
    with pytest.raises(KeyboardInterrupt):
        fit(
            broken,
            data,
            NLL(),
            steps=20,
            schedule="constant",
            checkpoint=tmp_path / "state",
            checkpoint_every=5,
            log_every=5,
            callback=stops_at(10),
        )
    fit(resumed, data, NLL(), steps=20, schedule="constant", checkpoint=tmp_path / "state", log_every=5)
    assert torch.equal(resumed.condition_range, whole.condition_range)
    assert torch.equal(resumed.mean, whole.mean)


def stops_at(step: int) -> Callable[[dict[str, float]], None]:
    def callback(record: dict[str, float]) -> None:
        if record["step"] == step:
            raise KeyboardInterrupt

    return callback


def born(data: Dataset) -> BornMachine:
    model = BornMachine.for_dataset(data, bits=2, layers=1)
    model.saw(data.train.conditions)
    return model


def test_a_density_warns_once() -> None:
    data = muon_events(n=200, features=("pt",))
    for model in (trained(50.0, 200.0), born(data)):
        with pytest.warns(ExtrapolationWarning, match="is 400") as caught:
            model.log_prob(torch.tensor([[0.1]], dtype=F64), torch.tensor([400.0]))
        assert len(caught) == 1


def at_trained_and_between(rate: float, seed: int) -> tuple[float, float]:
    """Mean total variation to the truth of a machine at its three conditions, and at the two in the middle.

    The truth is a normal distribution whose mean is the condition.
    """
    conditions = torch.tensor([-1.0, 0.0, 1.0], dtype=F64)
    rng = new_generator(0)
    condition = conditions.repeat(1000)[:, None]
    data = Dataset(condition + normal((3000, 1), rng, dtype=F64), (Feature("a"),), condition, (Feature("c"),))
    model = BornMachine.for_dataset(data, bits=3, layers=6, encoding_rate=rate, seed=seed)
    fit(model, data, NLL(), steps=200, batch_size=None, learning_rate=0.1)
    edges = data.transform.inverse(model.discretiser.get_buffer("edges_0")[:, None], None)[:, 0]
    edges[0], edges[-1] = -torch.inf, torch.inf
    middle = torch.tensor([-0.5, 0.5], dtype=F64)
    found = []
    for these in (conditions, middle):
        truth = torch.tensor(norm.cdf(edges[None], loc=these[:, None])).diff(dim=1)
        with torch.no_grad():
            p = model.probabilities(data.condition_transform(these[:, None]), new_generator(0))
        found.append(float(0.5 * (p - truth).abs().sum(1).mean()))
    return found[0], found[1]


def test_a_small_encoding_rate_interpolates() -> None:
    for seed in range(2):
        trained_at, middle = at_trained_and_between(0.1, seed)
        assert trained_at < 0.05
        assert middle < 0.08
        assert at_trained_and_between(1.0, seed)[1] > 2 * middle


CONFIG = """
name: tiny
dataset: {kind: muon, n: 200, beam_energies: [50, 100], features: [energy, pt]}
models:
  copula: {kind: copula}
evaluation: {bootstrap: 2, metrics: [ks]}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_experiment(resolve(yaml.safe_load(CONFIG)), folder / "run")
    return folder / "run"


def test_events_of_a_run_in_python_come_with_the_warning(run: Path) -> None:
    with pytest.warns(ExtrapolationWarning, match="is 400: GaussianCopula was trained from 50 to 100"):
        load_run(run).sample("copula", 10, condition=[400.0])
    load_run(run).sample("copula", 10, condition=[75.0])  # a warning here would be an error


def test_on_the_command_line_a_warning_is_one_line(run: Path) -> None:
    command = [sys.executable, "-m", "experiments.cli", "sample", str(run), "--model", "copula", "-n", "10"]
    command += ["--condition", "400", "--out", str(run.parent / "out.h5")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "10 events of copula" in done.stdout
    assert done.stderr.splitlines() == [
        "qgen: warning: condition row 0, column 0 is 400: GaussianCopula was trained from 50 to 100 and extrapolates"
    ]
