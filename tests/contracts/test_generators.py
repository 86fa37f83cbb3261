"""What every registered generator must do, unconditional and conditional."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from pydantic import ConfigDict, create_model

from circuits.cv import TruncationWarning
from qgen import Generator, fit, load_generator, save_generator
from qgen.data import Dataset, Feature
from qgen.data.transforms import Transform
from qgen.random import new_generator, normal, uniform
from qgen.registry import from_spec, generator_class, generators, kind_of, to_spec
from qgen.training import MMD, NLL, Objective, Own

KINDS = generators()

SINGLE_FEATURE_REFUSED = {"dual_pqc": "power of two"}
"""Models that no single feature makes sense for, and what they say of it."""


def events(n_conditions: int, n_features: int = 2, n: int = 600) -> Dataset:
    """Correlated features far from zero, some of their width, whose mean follows the first condition."""
    rng = new_generator(0)
    conditions = 50 + 10 * uniform((n, n_conditions), rng, dtype=torch.float64)
    z = normal((n, n_features), rng, dtype=torch.float64).cumsum(1)
    samples = 100 + 5 * z + (conditions[:, :1] if n_conditions else 0)
    return Dataset(
        samples,
        tuple(Feature(f"x{i}", "GeV") for i in range(n_features)),
        conditions,
        tuple(Feature(f"c{i}", "GeV") for i in range(n_conditions)),
    )


DATASETS = {n: events(n) for n in (0, 1, 2)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[0, 1, 2], ids=["unconditional", "one condition", "two conditions"])
def data(request: pytest.FixtureRequest) -> Dataset:
    return DATASETS[request.param]


@pytest.fixture
def model(kind: str, data: Dataset) -> Generator:
    return generator_class(kind).for_dataset(data, seed=1)


def conditions(data: Dataset, n: int) -> torch.Tensor | None:
    return data.test.conditions[:n] if data.n_conditions else None


def inner(data: Dataset) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Training events as a model sees them."""
    train = data.train
    values = data.transform(train.samples, train.conditions)
    return values, data.condition_transform(train.conditions) if data.n_conditions else None


def objective(model: Generator) -> Objective:
    return Own() if model.has_own_loss else NLL() if model.has_log_prob else MMD()


def test_samples_have_shape_dtype_and_units(model: Generator, data: Dataset) -> None:
    samples = model.sample(100, conditions(data, 100), new_generator(0))
    assert samples.shape == (100, 2)
    assert samples.dtype == torch.float64
    assert not samples.requires_grad
    assert samples.isfinite().all()
    # a fresh model that divides a total energy among features is right in the total only
    near = torch.maximum(3 * data.samples.std(0), 0.4 * data.samples.mean(0))
    assert ((samples.median(0).values - data.samples.mean(0)).abs() < near).all()


def test_samples_are_reproducible_from_the_generator_alone(model: Generator, data: Dataset) -> None:
    c = conditions(data, 50)
    state = torch.get_rng_state()
    first = model.sample(50, c, new_generator(3))
    torch.manual_seed(5)
    assert torch.equal(model.sample(50, c, new_generator(3)), first)
    assert not torch.equal(model.sample(50, c, new_generator(4)), first)
    with warnings.catch_warnings():  # of draws without a seed some may go beyond the cutoff, which is said
        warnings.simplefilter("ignore", TruncationWarning)
        assert not torch.equal(model.sample(50, c), model.sample(50, c))
    torch.set_rng_state(state)
    model.sample(50, c, new_generator(3))
    assert torch.equal(torch.get_rng_state(), state)


def test_one_condition_serves_all_events(model: Generator, data: Dataset) -> None:
    if data.n_conditions == 0:
        assert torch.equal(
            model.sample(5, torch.empty(5, 0), new_generator(0)), model.sample(5, None, new_generator(0))
        )
        return
    c = data.conditions[0]
    samples = model.sample(20, c, new_generator(0))
    assert torch.equal(samples, model.sample(20, c.expand(20, -1), new_generator(0)))
    if model.has_log_prob:
        assert torch.equal(model.log_prob(samples, c), model.log_prob(samples, c.expand(20, -1)))


def test_the_seed_fixes_the_model(kind: str, data: Dataset) -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        return dict(generator_class(kind).for_dataset(data, seed=seed).named_parameters())

    state = torch.get_rng_state()
    first, second, third = build(1), build(1), build(2)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not first or any(not torch.equal(first[name], third[name]) for name in first)


def test_gradient_reaches_every_parameter(model: Generator, data: Dataset) -> None:
    values, condition = inner(data)
    parameters = dict(model.named_parameters())
    assert bool(parameters) == model.trains
    if not model.trains:
        return
    if model.has_own_loss:
        model._own_loss(values, condition, new_generator(0)).backward()
    elif model.has_log_prob:
        model._log_prob(values, condition).sum().backward()
    else:
        events = model._weighted(len(values), condition, new_generator(0))
        (events.weights * events.values.square().sum(1)).sum().backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_training_moves_the_weights_or_is_refused(model: Generator, data: Dataset) -> None:
    if not model.trains:
        with pytest.raises(ValueError, match="no trainable parameters"):
            fit(model, data, objective(model), steps=1)
        return
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    result = fit(model, data, objective(model), steps=3, batch_size=64, learning_rate=0.01, keep="last")
    assert result.steps == 3
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_number_of_parameters(model: Generator) -> None:
    assert isinstance(model.n_parameters, int)
    assert model.n_parameters > 0
    if model.trains:
        assert model.n_parameters <= sum(p.numel() for p in model.parameters())


def test_save_and_load(model: Generator, kind: str, data: Dataset, tmp_path: Path) -> None:
    assert kind_of(model) == kind
    spec = json.loads(json.dumps(to_spec(model), allow_nan=False))
    rebuilt = from_spec(spec)
    rebuilt.load_state_dict(model.state_dict())
    save_generator(tmp_path / "model.safetensors", model)
    loaded = load_generator(tmp_path / "model.safetensors")
    c = conditions(data, 30)
    samples = model.sample(30, c, new_generator(0))
    for other in (rebuilt, loaded):
        assert type(other) is type(model)
        assert other.n_parameters == model.n_parameters
        assert other.arguments() == model.arguments()
        assert torch.equal(other.sample(30, c, new_generator(0)), samples)
        if model.has_log_prob:
            assert torch.equal(other.log_prob(samples, c), model.log_prob(samples, c))


def test_log_prob_is_a_density_or_is_refused(model: Generator, data: Dataset) -> None:
    c = conditions(data, 40)
    samples = model.sample(40, c, new_generator(0))
    if not model.has_log_prob:
        with pytest.raises(TypeError, match=f"^{type(model).__name__} has no tractable density"):
            model.log_prob(samples, c)
        return
    log_prob = model.log_prob(samples, c)
    assert log_prob.shape == (40,)
    assert log_prob.dtype == torch.float64
    assert log_prob.isfinite().all()
    assert not log_prob.requires_grad


def test_samples_fill_a_region_as_the_density_says(model: Generator, data: Dataset) -> None:
    if not model.has_log_prob:
        return
    corners = torch.quantile(data.train.samples, torch.tensor([0.05, 0.8], dtype=torch.float64), dim=0)
    condition = data.conditions[0] if data.n_conditions else None
    rng = new_generator(7)
    probe = torch.lerp(corners[0], corners[1], uniform((40_000, 2), rng, dtype=torch.float64))
    density = model.log_prob(probe, condition).exp()
    volume = (corners[1] - corners[0]).prod().item()
    samples = model.sample(40_000, condition, rng)
    inside = ((samples >= corners[0]) & (samples <= corners[1])).all(1).double()
    integral, fraction = volume * density.mean().item(), inside.mean().item()
    error = (volume**2 * density.var() / len(probe) + inside.var() / len(samples)).sqrt().item()
    assert 0.05 < fraction < 0.95
    assert abs(integral - fraction) < 5 * error


def test_a_single_feature(kind: str) -> None:
    for n_conditions in (0, 1):
        data = events(n_conditions, n_features=1, n=100)
        if kind in SINGLE_FEATURE_REFUSED:
            with pytest.raises(ValueError, match=SINGLE_FEATURE_REFUSED[kind]):
                generator_class(kind).for_dataset(data)
            continue
        model = generator_class(kind).for_dataset(data)
        assert model.sample(7, conditions(data, 7), new_generator(0)).shape == (7, 1)


def test_error_lines(model: Generator, data: Dataset) -> None:
    name, k = type(model).__name__, data.n_conditions
    good = conditions(data, 4)
    with pytest.raises(ValueError, match=r"^n is 0; at least 1 event must be asked for$"):
        model.sample(0, good)
    if k:
        with pytest.raises(ValueError, match=rf"^{name} needs a condition of shape \(4, {k}\)$"):
            model.sample(4)
        with pytest.raises(ValueError, match=rf"^condition has shape \(3, {k}\); expected \(4, {k}\)$"):
            model.sample(4, good[:3])
        with pytest.raises(ValueError, match=rf"^condition has shape \(4, {k + 1}\); expected \(4, {k}\)$"):
            model.sample(4, torch.ones(4, k + 1))
        wrong = good.clone()
        wrong[2, 0] = torch.nan
        with pytest.raises(ValueError, match=r"^condition row 2 is \[nan.*\], which is impossible"):
            model.sample(4, wrong)
    else:
        with pytest.raises(ValueError, match=rf"^{name} takes no condition, one of shape \(4, 1\) was given$"):
            model.sample(4, torch.ones(4, 1))
    if model.has_log_prob:
        with pytest.raises(ValueError, match=r"^samples have shape \(4, 3\); expected \(N, 2\)$"):
            model.log_prob(torch.ones(4, 3), good)
        with pytest.raises(ValueError, match=r"^samples row 1, column 0: nan is not finite$"):
            model.log_prob(torch.tensor([[1.0, 1.0], [torch.nan, 1.0], [1.0, 1.0], [1.0, 1.0]]), good)
        assert model.log_prob(torch.ones(0, 2), None if good is None else good[:0]).shape == (0,)


def test_options_are_typed_and_documented(kind: str) -> None:
    """A configuration's model section is built from the signature of ``for_dataset``."""
    cls = generator_class(kind)
    hints = get_type_hints(cls.for_dataset, include_extras=True)
    documentation = inspect.getdoc(cls.for_dataset) or ""
    options = {}
    for name, parameter in inspect.signature(cls.for_dataset).parameters.items():
        if name in ("dataset", "args"):
            continue
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, name
        assert parameter.default is not inspect.Parameter.empty, name
        assert f"    {name}: " in documentation, name
        options[name] = (hints[name], parameter.default)
    assert "seed" in options
    section = create_model("Section", __config__=ConfigDict(extra="forbid"), **options)
    chosen = section.model_validate({"seed": 3}).model_dump()
    model = cls.for_dataset(DATASETS[1], **chosen)
    assert isinstance(model.transform, Transform)
