from __future__ import annotations

import pytest
import torch
from scipy import stats

from qgen.metrics import Calibration, MetricResult, calibration, combine_seeds, ks, wasserstein
from qgen.metrics.base import Metric


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shifted(k: int) -> tuple[torch.Tensor, torch.Tensor]:
    return normal(2 * k, 200, 2), normal(2 * k + 1, 200, 2) + 0.7


def stated(factor: float) -> Metric:
    """A difference of means whose stated uncertainty is off by a factor."""

    def difference(truth: torch.Tensor, generated: torch.Tensor, seed: int) -> MetricResult:
        """Difference of means."""
        sigma = (truth.var() / len(truth) + generated.var() / len(generated)).sqrt()
        return MetricResult((generated.mean() - truth.mean()).item(), factor * sigma.item())

    return Metric("difference", difference, "samples")


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_an_uncertainty_that_is_off_by_a_factor_is_found_out(factor):
    found = calibration(stated(factor), lambda k: (normal(2 * k, 50, 1), normal(2 * k + 1, 50, 1)), repeats=400)
    assert found.coverage == pytest.approx(2 * stats.norm.cdf(factor) - 1, abs=0.06)
    assert found.interval[0] < found.coverage < found.interval[1]
    assert found.ratio == pytest.approx(factor, rel=0.15)
    assert found.pull == pytest.approx(1 / factor, rel=0.15)


def test_uncertainties_of_an_imperfect_generator_cover():
    for one in (wasserstein, ks):
        found = calibration(one, shifted, repeats=60)
        assert 0.5 < found.coverage < 0.85
        assert found.mean > 0.25


def test_a_value_that_never_changes_is_covered():
    constant = Metric("constant", lambda truth, generated, seed: MetricResult(1.0, 0.0), "samples")
    found = calibration(constant, shifted, repeats=10)
    assert found.coverage == 1
    assert found.ratio != found.ratio  # nan: nothing to compare
    assert "coverage 1.00" in str(found)
    assert isinstance(found, Calibration)


def test_seeds_and_finite_samples_are_told_apart():
    """Values with known variances: of truth, common to all trainings, of generated events and of the training."""
    u, s = 0.1, 0.2
    found, means = [], []
    for k in range(400):
        rng = torch.Generator().manual_seed(k)
        common = u / 2**0.5 * torch.randn((), generator=rng)
        values = 1 + common + (u**2 / 2 + s**2) ** 0.5 * torch.randn(5, generator=rng)
        found.append(combine_seeds([MetricResult(v, u) for v in values.tolist()]))
        means.append(found[-1].value)
    average = {name: sum(getattr(f, name) ** 2 for f in found) / 400 for name in ("uncertainty", "training", "single")}
    assert average["uncertainty"] ** 0.5 == pytest.approx(torch.tensor(means).std().item(), rel=0.1)
    assert average["training"] ** 0.5 == pytest.approx(s, rel=0.1)
    assert average["single"] == pytest.approx(u**2 + s**2, rel=0.1)
    assert found[0].finite_sample == pytest.approx(u)
    assert found[0].trainings == 5


def test_trainings_that_agree_have_no_spread_of_their_own():
    found = combine_seeds([MetricResult(0.3, 0.1)] * 3)
    assert found.training == 0
    assert found.uncertainty == pytest.approx(0.1 / 2**0.5)


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="1 results; at least 2 trainings are needed for a spread"):
        combine_seeds([MetricResult(0.1, 0.1)])
    with pytest.raises(ValueError, match="repeats is 3; at least 10 are needed"):
        calibration(ks, shifted, repeats=3)
