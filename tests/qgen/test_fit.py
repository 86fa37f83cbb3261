from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from qgen import TrainingDivergedError, fit
from qgen.statefile import load_state
from qgen.training import MMD, NLL, Adversarial, Mixture, Objective
from qgen.training.objectives import Batch
from qgen_toys import Affine, linear_events

SMALL = {"kind": "mlp", "hidden": [8]}
GAME = {
    "kind": "adversarial",
    "discriminator": {"kind": "minibatch", "hidden": [8]},
    "discriminator_optimiser": "adadelta",
    "discriminator_rate": 0.1,
    "discriminator_schedule": "constant",
}


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    "objective",
    [
        NLL(),
        MMD(),
        Adversarial(discriminator={"kind": "mlp", "hidden": (32,)}, discriminator_rate=0.02),
        Adversarial("wasserstein-gp", {"kind": "mlp", "hidden": (32,)}, discriminator_rate=0.02),
        Adversarial("least-squares", {"kind": "mlp", "hidden": (32,)}, discriminator_rate=0.02),
        Mixture([{"kind": "mmd"}, {"kind": "correlation", "weight": 0.1}]),
    ],
    ids=["nll", "mmd", "gan", "wgan-gp", "least-squares", "mixture"],
)
def test_every_objective_finds_the_mean_and_its_slope(objective: Objective) -> None:
    data = linear_events(2000)
    model = Affine.for_dataset(data)
    with torch.no_grad():
        model.mean += 1.0
    result = fit(model, data, objective, steps=400, batch_size=256, learning_rate=0.01, seed=1)
    inner = data.train
    values = data.transform(inner.samples)
    condition = data.condition_transform(inner.conditions)
    slope = torch.linalg.lstsq(condition, values).solution
    assert torch.allclose(model.mean, torch.zeros(2, dtype=torch.float64), atol=0.2)
    assert torch.allclose(model.slope, slope, atol=0.2)
    assert result.steps == 400
    assert result.history[-1]["step"] == 400
    assert all(math.isfinite(record["loss"]) for record in result.history)


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    data = linear_events()
    found = []
    for seed in (0, 0, 1):
        model = Affine.for_dataset(data)
        fit(model, data, MMD(), steps=20, batch_size=32, seed=seed)
        found.append(weights(model))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_the_global_generator_is_left_alone() -> None:
    data = linear_events()
    before = torch.get_rng_state()
    fit(Affine.for_dataset(data), data, Adversarial(discriminator=SMALL), steps=5)
    assert torch.equal(before, torch.get_rng_state())


def test_every_event_is_seen_once_an_epoch() -> None:
    data = linear_events(100)
    seen: list[torch.Tensor] = []

    class Watching(NLL):
        def loss(self, generator: Affine, batch: Batch, rng: torch.Generator) -> torch.Tensor:
            if torch.is_grad_enabled():
                seen.append(batch.values)
            return super().loss(generator, batch, rng)

    fit(Affine.for_dataset(data), data, Watching(), steps=8, batch_size=15)
    train = data.transform(data.train.samples)
    for epoch in (seen[:4], seen[4:]):
        rows = torch.cat(epoch)
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, train.tolist()))
    assert not torch.equal(seen[0], seen[4])


def test_best_state_is_kept() -> None:
    data = linear_events(200)
    model, last = Affine.for_dataset(data), Affine.for_dataset(data)
    settings = {"steps": 60, "learning_rate": 3.0, "schedule": "constant", "validate_every": 1}
    result = fit(model, data, NLL(), keep="best", **settings)
    fit(last, data, NLL(), keep="last", **settings)
    losses = [record["validation"] for record in result.history]
    assert result.history[result.best_step - 1]["validation"] == min(losses)
    validation = Batch(data.transform(data.validation.samples), data.condition_transform(data.validation.conditions))
    assert NLL().loss(model, validation, torch.Generator()).item() == pytest.approx(min(losses))
    assert NLL().loss(last, validation, torch.Generator()).item() == pytest.approx(losses[-1])


class Poisoned(NLL):
    """A likelihood that is NaN from a given step on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def loss(self, generator: Affine, batch: Batch, rng: torch.Generator) -> torch.Tensor:
        loss = super().loss(generator, batch, rng)
        if torch.is_grad_enabled():
            self.calls += 1
        return loss * torch.nan if self.calls >= self.at else loss


def test_nan_stops_says_so_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    data = linear_events()
    model, reference = Affine.for_dataset(data), Affine.for_dataset(data)
    path = tmp_path / "state.safetensors"
    with pytest.raises(
        TrainingDivergedError, match="diverged at step 38: the loss is nan; kept the state of step 30"
    ) as info:
        fit(model, data, Poisoned(38), steps=50, schedule="constant", checkpoint=path, checkpoint_every=10, keep="last")
    fit(reference, data, NLL(), steps=30, schedule="constant", keep="last")
    assert same(weights(model), weights(reference))
    assert info.value.result.steps == 30
    assert load_state(path)["state"]["step"] == 30


@pytest.mark.parametrize(
    "objective",
    [
        MMD(),
        Adversarial("wasserstein-gp", SMALL),
        Mixture([{"kind": "correlation"}, {**GAME, "weight": 0.3}]),
    ],
    ids=["mmd", "wgan-gp", "mixture with a game"],
)
def test_resume_is_bit_identical(objective: Objective, tmp_path: Path) -> None:
    data = linear_events()
    whole, broken = Affine.for_dataset(data), Affine.for_dataset(data)
    settings = {"steps": 40, "batch_size": 32, "seed": 3, "validate_every": 7}
    expected = fit(whole, data, objective, **settings)

    class Killed(Exception):
        pass

    def kill(record: dict[str, float]) -> None:
        if record["step"] >= 30:
            raise Killed

    path = tmp_path / "state.safetensors"
    with pytest.raises(Killed):
        fit(broken, data, objective, **settings, checkpoint=path, checkpoint_every=12, callback=kill)
    fresh = Affine.for_dataset(data)
    found = fit(fresh, data, objective, **settings, checkpoint=path, checkpoint_every=12)
    assert same(weights(whole), weights(fresh))

    def numbers(history: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{k: v for k, v in record.items() if k != "seconds"} for record in history]

    assert numbers(found.history) == numbers(expected.history)


KILLED = """
    import os, signal, sys, time
    import torch
    import torch._dynamo  # which optimisers import: here, so that no time to die passes with it
    from qgen import fit
    from qgen.training import Adversarial
    from qgen_toys import Affine, linear_events

    torch.set_num_threads(1)
    data = linear_events()

    def train(checkpoint, weights):
        model = Affine.for_dataset(data)
        objective = Adversarial(discriminator={"kind": "mlp", "hidden": [8]})
        fit(model, data, objective, steps=300, batch_size=32, checkpoint=checkpoint, checkpoint_every=3)
        torch.save([p.detach() for p in model.parameters()], weights)

    folder, *delays = sys.argv[1:]
    for delay in delays:
        process = os.fork()
        if not process:
            train(f"{folder}/killed", f"{folder}/killed.pt")
            os._exit(0)
        time.sleep(float(delay))
        os.kill(process, signal.SIGKILL)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    train(f"{folder}/killed", f"{folder}/killed.pt")
    train(f"{folder}/quiet", f"{folder}/quiet.pt")
"""


def test_sigkill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Killed again and again in the middle of steps and of checkpoints, it ends with the weights of a quiet run."""
    delays = torch.empty(4).exponential_(12.0, generator=torch.Generator().manual_seed(1)).add(0.05).tolist()
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), *map(str, delays)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert str(-signal.SIGKILL) in done.stdout.split()
    expected, found = torch.load(tmp_path / "quiet.pt"), torch.load(tmp_path / "killed.pt")
    assert same(expected, found)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    data = linear_events()
    path = tmp_path / "state.safetensors"
    fit(Affine.for_dataset(data), data, NLL(), steps=10, schedule="constant", checkpoint=path, log_every=1)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        model = Affine.for_dataset(data)
        with pytest.raises(OSError, match="too large.*what stood there is untouched"):
            fit(model, data, NLL(), steps=20, schedule="constant", checkpoint=tmp_path / "other", checkpoint_every=5)
        from qgen.statefile import save_state

        with pytest.raises(OSError, match="too large.*what stood there is untouched"):
            save_state(path, {"much": torch.zeros(len(before))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["state.safetensors"]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    data, path = linear_events(), tmp_path / "state.safetensors"
    fit(Affine.for_dataset(data), data, NLL(), steps=4, checkpoint=path)
    with pytest.raises(ValueError, match="was trained with learning_rate 0.01, now it is 0.1"):
        fit(Affine.for_dataset(data), data, NLL(), steps=4, learning_rate=0.1, checkpoint=path)
    for other, name in ((Adversarial(), "Adversarial"), (MMD(bandwidths=[1.0]), "MMD")):
        with pytest.raises(ValueError, match=f"was trained with objective {{'kind': 'NLL'}}, now it is .*{name}"):
            fit(Affine.for_dataset(data), data, other, steps=4, checkpoint=path)
    fewer = data.take(range(200))
    with pytest.raises(ValueError, match="was trained with events 400, now it is 200"):
        fit(Affine.for_dataset(fewer), fewer, NLL(), steps=4, checkpoint=path)
    model = Affine(2, 1, data.transform, data.condition_transform)
    model.extra = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="of another model, objective or optimiser") as caught:
        fit(model, data, NLL(), steps=4, checkpoint=path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"steps": 0}, "steps is 0; it must be positive"),
        ({"batch_size": -1}, "batch_size is -1; at least 2 is needed"),
        ({"batch_size": 1}, "batch_size is 1; at least 2 is needed"),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be positive and finite"),
        ({"optimiser": "adan"}, "optimiser is 'adan'; allowed are adam"),
        ({"keep": "first"}, "keep is 'first'; allowed are best, last"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], line: str) -> None:
    data = linear_events()
    with pytest.raises(ValueError, match=line):
        fit(Affine.for_dataset(data), data, NLL(), **settings)


def test_data_that_do_not_fit_the_model_are_named() -> None:
    data = linear_events()
    with pytest.raises(ValueError, match=r"the model has 3 features and 0 conditions, the dataset 2 \(a, b\) and 1"):
        fit(Affine(3), data, NLL())
    with pytest.raises(ValueError, match="9 events; at least 10"):
        fit(Affine.for_dataset(data), data.take(range(9)), NLL())
    few = data.take(range(10))
    assert fit(Affine.for_dataset(few), few, MMD(), steps=2).steps == 2
