from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data.transforms import (
    Columns,
    Compose,
    EnergyFraction,
    Identity,
    Log,
    Logit,
    MinMax,
    Standardise,
    Transform,
)

TRANSFORMS = [
    Identity(),
    Standardise([1.0, -2.0, 0.5], [2.0, 0.1, 3.0]),
    MinMax([0.0, -1.0, 0.0], [1.5, 4.0, 9.0]),
    Log([0.0, 0.5, 2.0]),
    Logit([0.0, -1.0, 0.0], [2.0, 1.5, 5.0]),
    EnergyFraction(1),
    Columns([EnergyFraction(0), Logit([0.0], [2.0]), Log([0.0])]),
    Compose([EnergyFraction(0), Log([0.0, 0.1, 0.2]), Standardise([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])]),
    Compose([Columns([Compose([EnergyFraction(1), Logit([0.0], [1.0])]), Log([0.1]), Identity()]), Identity()]),
]
IDS = [f"{i}-{type(t).__name__}" for i, t in enumerate(TRANSFORMS)]

rows = st.lists(st.tuples(*[st.floats(0.01, 0.99)] * 3), min_size=1, max_size=5)


def condition_for(samples: torch.Tensor) -> torch.Tensor:
    return torch.stack([2.0 + samples[:, 0], 5.0 + samples[:, 1]], dim=1).detach()


@pytest.mark.parametrize("transform", TRANSFORMS, ids=IDS)
@given(values=rows)
@settings(max_examples=20, deadline=None)
def test_inverse_brings_back(transform: Transform, values: list[tuple[float, ...]]) -> None:
    samples = torch.tensor(values, dtype=torch.float64)
    condition = condition_for(samples)
    there = transform(samples, condition)
    assert there.shape == samples.shape
    torch.testing.assert_close(transform.inverse(there, condition), samples, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=IDS)
@given(values=rows)
@settings(max_examples=5, deadline=None)
def test_log_abs_det_is_that_of_the_jacobian(transform: Transform, values: list[tuple[float, ...]]) -> None:
    samples = torch.tensor(values, dtype=torch.float64)
    condition = condition_for(samples)
    found = transform.log_abs_det(samples, condition)
    for i in range(len(samples)):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: transform(row.unsqueeze(0), condition[i : i + 1]).squeeze(0), samples[i]
        )
        assert found[i].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-9)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=IDS)
def test_restored_from_its_spec(transform: Transform) -> None:
    samples = torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.9 + 0.05
    condition = condition_for(samples)
    restored = Transform.from_spec(json.loads(json.dumps(transform.spec())))
    assert type(restored) is type(transform)
    assert torch.equal(restored(samples, condition), transform(samples, condition))
    assert list(restored.state_dict()) == list(transform.state_dict())


def test_fitted_ranges() -> None:
    samples = torch.tensor([[1.0, 5.0], [3.0, 5.0]], dtype=torch.float64)
    assert MinMax.fit(samples)(samples).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    standard = Standardise.fit(samples)(samples)
    assert standard.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_energies_are_never_negative() -> None:
    condition = torch.tensor([[10.0]], dtype=torch.float64)
    assert EnergyFraction().inverse(torch.tensor([[-0.5, 0.5]]).double(), condition).tolist() == [[0.0, 5.0]]
    assert Log([2.0]).inverse(torch.tensor([[-1.0]]).double()).item() == 0.0
    assert math.isclose(Log([0.0]).inverse(torch.tensor([[-1.0]]).double()).item(), math.exp(-1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Log([-1.0]), r"offset of feature 0 is -1.0"),
        (lambda: MinMax([0.0, 1.0], [1.0, 1.0]), r"bounds of feature 1 are 1.0 and 1.0"),
        (lambda: Logit([0.0], [math.nan]), r"bounds of feature 0"),
        (lambda: Logit([0.0], [1.0, 2.0]), r"low has 1 values, high has 2"),
        (lambda: EnergyFraction(-1), r"column is -1"),
        (lambda: EnergyFraction()(torch.ones(1, 1)), r"needs a condition with a column 0, found none"),
        (lambda: EnergyFraction(2)(torch.ones(1, 1), torch.ones(1, 2)), r"found shape \(1, 2\)"),
        (lambda: Columns([Identity()])(torch.ones(1, 2)), r"values have 2 columns, the transform has 1"),
        (lambda: Transform.from_spec({"kind": "Nothing", "arguments": {}}), r"'Nothing' is unknown"),
    ],
)
def test_misuse_is_one_clear_line(make, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
