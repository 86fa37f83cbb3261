"""What models of optical modes share: chunks, and what is said of truncation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from circuits.cv import CVGate, Fock, FockState, Program, TruncationWarning
from qgen import Generator, fit
from qgen.data import Dataset, Feature
from qgen.models import on_modes
from qgen.models.on_modes import GeneratorOnModes, OnModes
from qgen.random import new_generator, normal
from qgen.training import MMD


class Coherent(GeneratorOnModes, Generator):
    """The mean of x of a coherent state with a random amplitude."""

    def __init__(self, amplitude: float, cutoff: int = 6, norm_penalty: float = 0.0) -> None:
        super().__init__(1)
        self.program = Program(1, [CVGate("Displacement", 0, (1, 0.0)), CVGate("Kerr", 0, (0,))])
        self.cutoff, self.basis, self.norm_penalty = cutoff, "total", norm_penalty
        self.simulator = Fock(cutoff, basis="total", warn_above=None)
        self.kerr = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.amplitude = nn.Parameter(torch.tensor(amplitude, dtype=torch.float64))

    def arguments(self) -> dict[str, Any]:
        return {}

    def _sample(self, n: int, condition: Tensor | None, generator: torch.Generator) -> Tensor:
        inputs = self.amplitude * normal((n, 1), generator, dtype=torch.float64)
        return torch.cat([state.quadratures()[0] for state in self._states(self.kerr, inputs)])


def data(n: int = 200) -> Dataset:
    return Dataset(normal((n, 1), new_generator(0), dtype=torch.float64), (Feature("x", "GeV"),))


def test_chunks_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Coherent(0.4)
    whole = model.sample(50, generator=new_generator(0))
    sizes: list[int] = []
    run = Fock.run

    def counted(self: Fock, program: Program, parameters: Tensor, inputs: Tensor | None = None) -> FockState:
        assert inputs is not None
        sizes.append(len(inputs))
        return run(self, program, parameters, inputs)

    monkeypatch.setattr(Fock, "run", counted)
    monkeypatch.setattr(on_modes, "AMPLITUDES_AT_ONCE", 6 * 20)
    torch.testing.assert_close(model.sample(50, generator=new_generator(0)), whole, atol=1e-12, rtol=0)
    assert sizes == [20, 20, 10]


@pytest.mark.parametrize("shape", [(7, 2), (2,)])
def test_parameters_of_each_sample_and_of_one(shape: tuple[int, ...]) -> None:
    model = Coherent(0.4)
    parameters = 0.3 * normal(shape, new_generator(0), dtype=torch.float64)
    found = torch.cat([state.quadratures()[0].reshape(-1) for state in model._states(parameters)])
    expected = Fock(6, basis="total").run(model.program, parameters).quadratures()[0].reshape(-1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_sample_warns_once_and_says_which_cutoff_would_do() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Coherent(0.2).sample(100, generator=new_generator(0))
    model = Coherent(1.0)
    with pytest.warns(
        TruncationWarning, match=r"^Coherent truncated: states lost up to \d+(\.\d+)? % .* cutoff 6"
    ) as w:
        model.sample(100, generator=new_generator(0))
    assert len(w) == 1
    needed = int(str(w[0].message).split("; cutoff ")[1].split()[0])
    assert w[0].filename == __file__
    again = Coherent(1.0, cutoff=needed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.sample(100, generator=new_generator(0))


def test_training_records_and_remarks_what_was_lost() -> None:
    model = Coherent(1.0)
    result = fit(model, data(), MMD(), steps=4, batch_size=50, log_every=2, learning_rate=1e-3)
    assert [record["step"] for record in result.history] == [2, 4]
    lost = max(record["norm_lost"] for record in result.history)
    assert lost > 0.05
    said = [remark.split()[5] for remark in result.remarks if remark.startswith("truncated: states lost up to ")]
    assert [float(number) for number in said] == [pytest.approx(100 * lost, rel=0.05)]
    calm = fit(Coherent(0.1), data(), MMD(), steps=2, batch_size=50, learning_rate=1e-3)
    assert not any("truncated" in remark for remark in calm.remarks)
    assert all(0 <= record["norm_lost"] < 0.01 for record in calm.history)


def test_sampling_between_two_records_is_not_part_of_the_training() -> None:
    model = Coherent(1.0)
    with pytest.warns(TruncationWarning):
        model.sample(100, generator=new_generator(0))
    assert model.records() == {"norm_lost": 0.0}


def test_the_penalty_is_the_mean_norm_lost_and_keeps_the_energy_down() -> None:
    model = Coherent(1.0, norm_penalty=10.0)
    latent = normal((40, 1), new_generator(3), dtype=torch.float64)
    lost = Fock(6, basis="total", warn_above=None).run(model.program, model.kerr, model.amplitude * latent).norm_lost
    model._sample(40, None, new_generator(3))
    penalty = model.penalty()
    assert penalty is not None
    assert penalty.item() == pytest.approx(10 * lost.mean().item())
    assert torch.autograd.grad(penalty, model.amplitude)[0] > 0
    assert model.penalty() is None
    copy.deepcopy(model)

    def trained(norm_penalty: float) -> float:
        model = Coherent(0.8, norm_penalty=norm_penalty)
        wide = Dataset(4 * data().samples, (Feature("x", "GeV"),))
        fit(model, wide, MMD(), steps=60, batch_size=100, learning_rate=0.02, keep="last")
        return model.amplitude.abs().item()

    free, held = trained(0.0), trained(10.0)
    assert held < 0.7 * free


def test_no_penalty_without_gradient() -> None:
    model = Coherent(1.0, norm_penalty=1.0)
    with torch.no_grad():
        model._sample(10, None, new_generator(0))
    assert model.penalty() is None


class Module(OnModes, nn.Module):
    """Not a generator."""

    def __init__(self, gates: Sequence[CVGate]) -> None:
        super().__init__()
        self.program, self.cutoff, self.basis = Program(1, gates), 5, "mode"
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))


def test_the_default_simulator_is_exact_where_it_can_be() -> None:
    gaussian = Module([CVGate("Displacement", 0, (0, 0.0))])
    assert type(gaussian.simulator).__name__ == "Gaussian"
    other = Module([CVGate("Kerr", 0, (0,))])
    assert isinstance(other.simulator, Fock)
    assert (other.simulator.cutoff, other.simulator.basis) == (5, "mode")
    other.simulator = Fock(9)
    assert other.simulator.cutoff == 9
