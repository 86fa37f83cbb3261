from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qgen import fit
from qgen.random import new_generator, normal
from qgen.training import MMD, NLL
from qgen.training.objectives import Batch, Objective
from qgen.training.remarks import collapsed, spread
from qgen_toys import Affine, linear_events

F64 = torch.float64


class Shrinking(Objective):
    """Pulls every event to the mean."""

    def loss(self, generator: Affine, batch: Batch, rng: torch.Generator) -> Tensor:
        return generator._sample(len(batch), batch.condition, rng).var(0).sum()

    def validation_loss(self, generator: Affine, batch: Batch, rng: torch.Generator) -> Tensor:
        return NLL().loss(generator, batch, rng)


def test_a_generator_that_collapses_is_remarked_and_one_that_does_not_is_not() -> None:
    data = linear_events()
    settings = {"steps": 60, "learning_rate": 0.3, "schedule": "constant", "validate_every": 10}
    model = Affine.for_dataset(data)
    result = fit(model, data, Shrinking(), keep="last", **settings)
    (remark,) = result.remarks
    spreads = {record["step"]: record["spread"] for record in result.history if "spread" in record}
    since = min(step for step in spreads if all(spreads[later] < 0.1 for later in spreads if later >= step))
    assert since > 10
    share = f"{100 * spreads[60]:.2g} %"
    assert remark == f"collapsed: generated events spread over {share} of the true spread from step {since}"
    best = fit(Affine.for_dataset(data), data, Shrinking(), keep="best", **settings)
    assert best.best_step < since
    assert best.remarks == (f"{remark}, the state kept is of step {best.best_step}",)
    healthy = fit(Affine.for_dataset(data), data, MMD(), **settings)
    assert healthy.remarks == ()
    assert all(0.5 < record["spread"] < 2 for record in healthy.history if "spread" in record)


@pytest.mark.parametrize("scale", [0.5, 1e-3])
def test_spread_is_the_ratio_of_widths_in_the_narrowest_feature(scale: float) -> None:
    truth = Batch(normal((4000, 2), new_generator(0), dtype=F64))
    model = Affine(2)
    with torch.no_grad():
        model.log_scale[1] = torch.tensor(scale, dtype=F64).log()
    assert spread(model, truth, new_generator(1)) == pytest.approx(scale, rel=0.06)


def test_a_generator_that_only_follows_its_condition_has_no_spread() -> None:
    condition = torch.tensor([-1.0, 0.0, 1.0], dtype=F64).repeat(300)[:, None]
    values = condition.exp() * 5 + normal((900, 1), new_generator(0), dtype=F64)
    model = Affine(1, 1)
    with torch.no_grad():
        model.slope += 5
        model.log_scale -= 7
    assert model._sample(900, condition, new_generator(0)).std() > 0.8 * values.std()
    assert spread(model, Batch(values, condition), new_generator(1)) == pytest.approx(0, abs=2e-3)
    with torch.no_grad():
        model.log_scale.zero_()
    assert spread(model, Batch(values, condition), new_generator(1)) == pytest.approx(1, abs=0.1)


def test_features_without_a_spread_are_left_out() -> None:
    values = normal((500, 2), new_generator(0), dtype=F64)
    values[:, 0] = 3.0
    assert spread(Affine(2), Batch(values), new_generator(1)) == pytest.approx(1, abs=0.15)
    assert spread(Affine(1), Batch(values[:, :1]), new_generator(1)) == 1.0


def test_a_collapse_that_passes_is_not_remarked() -> None:
    assert collapsed([{"step": 1, "spread": 0.01}, {"step": 2, "spread": 0.5}], best_step=2) == ()
    assert collapsed([{"step": 1, "loss": 0.1}], best_step=1) == ()
    (never,) = collapsed([{"step": 1, "spread": 0.01}, {"step": 2, "spread": 0.02}], best_step=2)
    assert never == "collapsed: generated events spread over 2 % of the true spread from the start"
