from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qgen import fit
from qgen.training import NLL
from qgen_toys import Affine, linear_events


def ticking(per_call: float) -> Callable[[], float]:
    """A clock that goes on by the same time whenever it is looked at."""
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        return 100.0 + calls * per_call

    return clock


def test_a_training_ends_with_the_step_that_uses_up_its_seconds() -> None:
    data = linear_events()
    # a step looks at the clock before and after itself: 0.5 s between looks are 1 s a step
    result = fit(Affine.for_dataset(data), data, NLL(), steps=10_000, seconds=20, clock=ticking(0.5))
    assert 18 <= result.steps <= 20
    assert result.cpu_seconds == pytest.approx(20, abs=1.5)
    assert result.history[-1]["step"] == result.steps
    assert "validation" in result.history[-1]


def test_steps_stay_the_upper_bound() -> None:
    data = linear_events()
    assert fit(Affine.for_dataset(data), data, NLL(), steps=7, seconds=1000, clock=ticking(0.5)).steps == 7


def test_one_step_is_taken_however_short_the_time() -> None:
    data = linear_events()
    assert fit(Affine.for_dataset(data), data, NLL(), steps=7, seconds=0.001, clock=ticking(0.5)).steps == 1


def test_the_schedule_follows_the_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[fit.__module__]
    shares: list[float] = []
    original = module.set_rates
    monkeypatch.setattr(module, "set_rates", lambda o, s, done: (shares.append(done), original(o, s, done)))
    data = linear_events()
    result = fit(Affine.for_dataset(data), data, NLL(), steps=10_000, seconds=40, clock=ticking(1.0))
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] > 0.9
    middle = shares[result.steps // 2]
    assert middle == pytest.approx(0.5, abs=0.1)


def test_time_used_before_an_interruption_counts(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(record: dict[str, float]) -> None:
        if record["step"] >= 15:
            raise Killed

    data, path = linear_events(), tmp_path / "state.safetensors"
    settings = {"steps": 10_000, "seconds": 20.0, "checkpoint": path, "checkpoint_every": 5, "log_every": 1}
    with pytest.raises(Killed):
        fit(Affine.for_dataset(data), data, NLL(), **settings, clock=ticking(0.4), callback=kill)
    went_on = fit(Affine.for_dataset(data), data, NLL(), **settings, clock=ticking(0.4))
    whole = fit(Affine.for_dataset(data), data, NLL(), **{**settings, "checkpoint": None}, clock=ticking(0.4))
    assert abs(went_on.steps - whole.steps) <= 1
    assert went_on.cpu_seconds == pytest.approx(20, abs=1.5)
    again = fit(Affine.for_dataset(data), data, NLL(), **settings, clock=ticking(0.4))
    assert again.steps == went_on.steps


def test_real_processor_time_is_spent_and_told() -> None:
    data = linear_events()
    started = time.process_time()
    result = fit(Affine.for_dataset(data), data, NLL(), steps=10**6, seconds=0.3)
    assert 0.25 < time.process_time() - started < 0.8
    assert result.cpu_seconds == pytest.approx(0.3, abs=0.15)
    assert 10 < result.steps < 10**6


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"seconds": 0}, "seconds is 0; it must be positive and finite"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"seconds": 1.0, "layerwise": 3}, "seconds and layerwise are both given"),
    ],
)
def test_an_impossible_budget_is_one_line(changes: dict[str, float], line: str) -> None:
    data = linear_events()
    with pytest.raises(ValueError, match=line):
        fit(Affine.for_dataset(data), data, NLL(), **changes)


def test_without_seconds_a_training_does_not_depend_on_the_clock() -> None:
    data = linear_events()
    found = []
    for clock in (ticking(0.1), ticking(1e6)):
        model = Affine.for_dataset(data)
        fit(model, data, NLL(), steps=20, clock=clock)
        found.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
