"""The power transform against scikit-learn's."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import PowerTransformer

from qgen.data.power import YeoJohnson
from qgen.data.transforms import Transform


def skewed(n: int = 500) -> torch.Tensor:
    rng = np.random.default_rng(0)
    columns = [rng.gamma(1.0, 1.0, n), -rng.gamma(2.0, 3.0, n), rng.normal(size=n), rng.normal(5, 2, n) ** 3]
    return torch.from_numpy(np.stack(columns, 1))


def test_powers_and_values_are_those_of_scikit_learn() -> None:
    samples = skewed()
    reference = PowerTransformer(method="yeo-johnson", standardize=False).fit(samples.numpy())
    transform = YeoJohnson.fit(samples)
    assert transform.power.tolist() == pytest.approx(reference.lambdas_.tolist(), rel=1e-4, abs=1e-5)
    same = YeoJohnson(reference.lambdas_.tolist())
    expected = torch.from_numpy(reference.transform(samples.numpy()))
    torch.testing.assert_close(same(samples), expected, rtol=1e-9, atol=1e-9)
    back = torch.from_numpy(reference.inverse_transform(expected.numpy()))
    torch.testing.assert_close(same.inverse(expected), back, rtol=1e-8, atol=1e-9)


def test_a_skewed_feature_becomes_symmetric() -> None:
    samples = skewed(5000)[:, :3]
    values = YeoJohnson.fit(samples)(samples)

    def skewness(x: torch.Tensor) -> torch.Tensor:
        z = (x - x.mean(0)) / x.std(0)
        return z.pow(3).mean(0).abs()

    assert skewness(samples)[0] > 1.5
    assert (skewness(values) < 0.2).all()


powers = st.sampled_from([-1.5, 0.0, 1e-9, 0.5, 1.0, 2.0, 2.0 + 1e-9, 3.0]) | st.floats(-3, 5)
values = st.floats(-20, 20)


@given(powers, st.lists(values, min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_inverse_brings_back_and_the_density_follows(power: float, numbers: list[float]) -> None:
    samples = torch.tensor(numbers, dtype=torch.float64)[:, None]
    transform = YeoJohnson([power])
    there = transform(samples)
    torch.testing.assert_close(transform.inverse(there), samples, rtol=1e-6, atol=1e-6)
    x = samples.clone().requires_grad_()
    (slope,) = torch.autograd.grad(transform(x).sum(), x)
    assert (slope > 0).all()
    torch.testing.assert_close(transform.log_abs_det(samples), slope.squeeze(1).log(), rtol=1e-9, atol=1e-9)


def test_values_without_an_origin_are_nan() -> None:
    found = YeoJohnson([-1.0]).inverse(torch.tensor([[0.5], [1.5]], dtype=torch.float64)).flatten()
    assert found[0].item() == pytest.approx(1.0)
    assert math.isnan(found[1])


def test_a_constant_feature_is_left_alone() -> None:
    assert YeoJohnson.fit(torch.full((10, 1), 3.0, dtype=torch.float64)).power.tolist() == [1.0]


def test_restored_from_its_spec() -> None:
    transform = YeoJohnson.fit(skewed())
    restored = Transform.from_spec(json.loads(json.dumps(transform.spec())))
    assert torch.equal(restored(skewed()), transform(skewed()))


def test_a_power_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^power of feature 1 is nan; it must be finite$"):
        YeoJohnson([1.0, math.nan])
