"""Trainings that two processes take together, compared with those of one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from circuits.backends import SPSA, Distributed, ParameterShift, Sampled, Statevector
from classical_baselines import ConditionalFlow, ConditionalGAN, ConditionalVAE, FlowMatching
from processes import together
from qgen import fit
from qgen.data import muon_events
from qgen.models import BornMachine, StyleGenerator
from qgen.random import new_generator
from qgen.statefile import load_state, save_state
from qgen.training import MMD, NLL, Adversarial, Own
from qgen.training.fit import _batch
from qgen.training.parallel import Ranks, joined

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

DATA = muon_events(n=120)
SMALL = {"kind": "mlp", "hidden": [8]}
NORMED = {"kind": "mlp", "hidden": [8], "spectral_norm": True}
HIDDEN: dict[str, Any] = {"hidden": [8]}


def flow() -> ConditionalFlow:
    return ConditionalFlow.for_dataset(DATA, transforms=1, **HIDDEN)


def gan() -> ConditionalGAN:
    return ConditionalGAN.for_dataset(DATA, **HIDDEN)


def style(backend: Any = None) -> StyleGenerator:
    model = StyleGenerator.for_dataset(DATA, layers=1)
    model.backend = backend
    return model


def born() -> BornMachine:
    return BornMachine.for_dataset(DATA, bits=1, layers=1, conditional=True)


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], int, bool]] = {
    "flow, nll": (flow, NLL, 15, True),
    "gan, adversarial": (gan, lambda: Adversarial(discriminator=SMALL), 16, True),
    "gan, wasserstein-gp": (gan, lambda: Adversarial("wasserstein-gp", SMALL), 16, True),
    "gan, spectral norm": (gan, lambda: Adversarial("least-squares", NORMED), 16, True),
    "gan, minibatch": (gan, lambda: Adversarial(discriminator={"kind": "minibatch", "hidden": [8]}), 16, True),
    "gan, mmd": (gan, MMD, 3, True),
    "flow matching, own": (lambda: FlowMatching.for_dataset(DATA, **HIDDEN), Own, 16, True),
    "vae, own": (lambda: ConditionalVAE.for_dataset(DATA, **HIDDEN), Own, 2, True),
    "born machine, mmd": (born, MMD, 16, True),
    "born machine, nll": (born, NLL, 15, True),
    "style, adversarial": (style, lambda: Adversarial(discriminator=SMALL), 16, True),
    "style, quantum discriminator": (
        style,
        lambda: Adversarial(discriminator={"kind": "quantum", "layers": 1}),
        16,
        True,
    ),
    "style with shots, mmd": (lambda: style(ParameterShift(Sampled(Statevector(), 20))), MMD, 4, False),
}
"""A model, an objective, the events of a batch, and whether rows are shared out (shots are drawn whole)."""


@contextmanager
def counting() -> Iterator[list[int]]:
    """The numbers of rows that layers and circuits are given."""
    seen: list[int] = []
    linear, probs, expval = functional.linear, Statevector.probs, Statevector.expval

    def note(rows: torch.Tensor) -> None:
        seen.append(rows.shape[:-1].numel())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "linear", lambda rows, *rest: (note(rows), linear(rows, *rest))[1])
        patch.setattr(Statevector, "probs", lambda self, c, rows: (note(rows), probs(self, c, rows))[1])
        patch.setattr(Statevector, "expval", lambda self, c, rows, o: (note(rows), expval(self, c, rows, o))[1])
        yield seen


def start(name: str, ranks: Ranks | None) -> dict[str, Any]:
    """Losses with their gradients before a training, and the most rows that were computed at once."""
    make, aim, size, _ = CASES[name]
    model, objective = make(), aim()
    train = _batch(model, DATA.train)
    objective.prepare(model, train, 0)
    some = train.take(torch.arange(size))
    found: list[torch.Tensor] = []
    with nullcontext() if ranks is None else ranks.sharing(model, objective), counting() as rows:
        found += slopes(objective.loss(model, some, new_generator(1)), model)
        if isinstance(objective, Adversarial):
            found += slopes(objective.discriminator_loss(model, some, new_generator(2))[0], objective.discriminator)
    return {"gradients": found, "rows": max(rows)}


def slopes(loss: torch.Tensor, module: torch.nn.Module) -> list[torch.Tensor]:
    weights = list(module.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [loss.detach(), *(torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True))]


def trained(name: str, ranks: Ranks | None, **settings: Any) -> dict[str, Any]:
    """Weights and records of a short training."""
    make, aim, size, _ = CASES[name]
    model = make()
    options = {"steps": 20, "batch_size": size, "validate_every": 50, "log_every": 5, "checkpoint_every": 8, "seed": 5}
    result = fit(model, DATA, aim(), **{**options, **settings}, ranks=ranks)
    history = [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]
    return {"weights": [w.detach() for w in model.parameters()], "history": history, "steps": result.steps}


def everything(ranks: Ranks | None, broken: Path) -> dict[str, Any]:
    """What every case gives; and trainings that go on with what one process left, and that end with a time."""
    found = {name: {**start(name, ranks), **trained(name, ranks)} for name in CASES}
    own = broken if ranks is None or ranks.rank == 0 else broken.with_name("not here")
    found["resumed"] = trained("gan, adversarial", ranks, checkpoint=own)
    ticks, late = iter(range(10**6)), 0 if ranks is None else ranks.rank

    def clock() -> float:  # of the second process: faster, and started long before
        return float(next(ticks) * (1 + 2 * late) + 1000 * late)

    found["in time"] = trained("gan, mmd", ranks, seconds=30.0, clock=clock, steps=10**4)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process found, and each of two."""
    folder = tmp_path_factory.mktemp("parallel")
    torch.set_num_threads(1)
    for name in ("alone", "both"):
        with pytest.raises(KeyboardInterrupt):
            trained("gan, adversarial", None, checkpoint=folder / name, callback=interrupt)

    def work() -> None:
        with joined() as ranks:
            assert ranks is not None
            save_state(folder / f"rank-{ranks.rank}", everything(ranks, folder / "both"))
            if ranks.rank == 0:
                ranks.send({"a": [1.5, None, "é"]})
            else:
                assert ranks.receive() == {"a": [1.5, None, "é"]}

    assert together(work) == [(0, ""), (0, "")]
    assert not (folder / "not here").exists()
    return [everything(None, folder / "alone"), *(load_state(folder / f"rank-{rank}") for rank in (0, 1))]


def interrupt(record: dict[str, float]) -> None:
    if record["step"] == 10:
        raise KeyboardInterrupt


def largest(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_gradients_of_one(name: str, found: list[dict[str, Any]]) -> None:
    one, *two = (each[name] for each in found)
    assert max(float(g.abs().max()) for g in one["gradients"]) > 1e-3
    for each in two:
        assert largest(one["gradients"], each["gradients"]) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_with_the_weights_of_one(name: str, found: list[dict[str, Any]]) -> None:
    one, *two = (each[name] for each in found)
    for each in two:
        assert largest(one["weights"], each["weights"]) < 1e-9
        assert [list(record) for record in each["history"]] == [list(record) for record in one["history"]]
        assert each["history"][-1]["loss"] == pytest.approx(one["history"][-1]["loss"], abs=1e-8)
    assert largest(two[0]["weights"], two[1]["weights"]) == 0


@pytest.mark.parametrize("name", CASES)
def test_each_process_computes_its_share(name: str, found: list[dict[str, Any]]) -> None:
    one, *two = (each[name]["rows"] for each in found)
    for each in two:
        assert each == (-(-one // 2) if CASES[name][3] else one)


def test_a_training_goes_on_with_another_number_of_processes(found: list[dict[str, Any]]) -> None:
    one, *two = (each["resumed"] for each in found)
    for each in two:
        assert each["steps"] == 20
        assert largest(one["weights"], each["weights"]) < 1e-9


def test_the_first_process_has_the_clock(found: list[dict[str, Any]]) -> None:
    one, *two = (each["in time"] for each in found)
    assert 10 < one["steps"] < 40
    for each in two:
        assert each["steps"] == one["steps"]


def test_what_one_process_cannot_do_ends_all_and_is_said_once() -> None:
    def work() -> None:
        with joined() as ranks:
            assert ranks is not None
            if ranks.rank == 1:
                raise ValueError("no such file")
            trained("gan, mmd", ranks)

    first, second = together(work)
    assert second == (1, "ValueError: no such file")
    assert first == (2, "")


def test_events_that_are_not_those_of_the_first_process_are_refused() -> None:
    def work() -> None:
        with joined() as ranks:
            assert ranks is not None
            fit(gan(), muon_events(n=120, seed=ranks.rank), MMD(), steps=2, ranks=ranks)

    first, second = together(work)
    assert first == (2, "")
    assert second[0] == 1
    assert "process 1 has other events than the first one" in second[1]


def test_a_mistake_of_the_first_process_is_said_once() -> None:
    def work() -> None:
        with joined() as ranks:
            assert ranks is not None
            if ranks.rank == 0:
                raise ValueError("no such option")
            trained("gan, mmd", ranks)

    assert together(work) == [(1, "ValueError: no such option"), (2, "")]


def test_a_process_that_is_killed_ends_the_others_with_one_line() -> None:
    def work() -> None:
        with joined() as ranks:
            assert ranks is not None
            if ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            trained("gan, mmd", ranks)

    first, second = together(work)
    assert second == (-signal.SIGKILL, "")
    assert first == (1, "ConnectionError: one of 2 processes ended while process 0 waited for it")


def halves(function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([function(part) for part in rows.chunk(2)])


def test_a_shared_batch_of_circuits_is_the_whole_one() -> None:
    circuit = style().circuit
    angles = torch.linspace(0, 1, 6 * circuit.n_angles, dtype=torch.float64).reshape(3, 2, -1)
    shared = Distributed(Statevector(), halves)
    for ask in (lambda b: b.probs(circuit, angles), lambda b: b.expval(circuit, angles, ["Z0", "X1"])):
        with counting() as seen:
            found = ask(shared)
        assert max(seen) == 3
        assert torch.allclose(found, ask(Statevector()), atol=1e-15)
    assert torch.equal(shared.probs(circuit, angles[0, 0]), Statevector().probs(circuit, angles[0, 0]))
    bits = [b.sample(circuit, angles, 5, new_generator(1)) for b in (shared, Statevector())]
    assert torch.equal(*bits)
    assert (shared.name, shared.capabilities) == (Statevector().name, Statevector().capabilities)


@pytest.mark.parametrize("inner", [Sampled(Statevector(), 10), SPSA(Statevector())])
def test_what_is_drawn_is_drawn_whole(inner: Any) -> None:
    def never(function: Any, rows: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    circuit = style().circuit
    angles = torch.zeros(4, circuit.n_angles, dtype=torch.float64)
    assert Distributed(inner, never).expval(circuit, angles, ["Z0"]).shape == (4, 1)


def test_a_machine_elsewhere_is_not_asked_by_every_process() -> None:
    class Elsewhere(Statevector):
        @property
        def capabilities(self) -> Any:
            from dataclasses import replace

            return replace(super().capabilities, remote=True)

    with pytest.raises(ValueError, match="'statevector' is a machine elsewhere; it is asked by one process alone"):
        Distributed(Elsewhere(), halves)
