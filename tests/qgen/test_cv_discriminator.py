"""The discriminator of optical modes: against piquasso, its derivatives, its bounds, and games against it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuits.cv import Fock
from qgen import fit
from qgen.data import load_calorimeter
from qgen.models import CVDiscriminator, CVGenerator
from qgen.models.cv_generator import layered_program
from qgen.random import new_generator, normal
from qgen.training import Adversarial
from qgen.training.discriminators import make_discriminator


def varied(judge: CVDiscriminator, width: float = 0.2) -> CVDiscriminator:
    """The discriminator with all parameters moved at random."""
    rng = new_generator(11)
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter += width * normal(tuple(parameter.shape), rng, dtype=torch.float64)
    return judge


def piquasso_score(judge: CVDiscriminator, displacements: list[float]) -> float:
    import piquasso as pq

    gates = {
        "Displacement": lambda a, phi: pq.Displacement(r=a, phi=phi),
        "Squeezing": pq.Squeezing,
        "Beamsplitter": pq.Beamsplitter,
        "Rotation": pq.Phaseshifter,
        "Kerr": pq.Kerr,
    }
    parameters = [*judge.weights.tolist(), *displacements]
    with pq.Program() as program:
        pq.Q() | pq.Vacuum()
        for gate in judge.program.bind(parameters).gates:
            pq.Q(*gate.modes) | gates[gate.name](*(slot.offset for slot in gate.parameters))
    config = pq.Config(cutoff=judge.cutoff, hbar=2)
    state = pq.PureFockSimulator(d=judge.program.n_modes, config=config).execute(program).state
    ket = np.asarray(state.get_tensor_representation()).reshape(judge.cutoff, -1)
    lowered = np.sqrt(np.arange(1, judge.cutoff))[:, None] * ket[1:]
    mean = (ket[:-1].conj() * lowered).sum().real / (abs(ket) ** 2).sum()
    return judge.scale.item() * float(mean) + judge.offset.item()


@pytest.mark.parametrize(
    ("n_features", "modes", "cutoff", "width", "tolerance"),
    [(2, 2, 6, 0.2, 1e-9), (3, 2, 6, 0.2, 1e-9), (2, 3, 12, 0.05, 1e-6)],
)
def test_the_whole_score_against_piquasso(
    n_features: int, modes: int, cutoff: int, width: float, tolerance: float
) -> None:
    judge = varied(CVDiscriminator(n_features, 1, modes=modes, layers=2, cutoff=cutoff), width)
    values = normal((3, n_features), new_generator(0), dtype=torch.float64)
    condition = normal((3, 1), new_generator(1), dtype=torch.float64)
    slopes, turns = judge.slopes.tolist(), judge.condition_slopes[:, 0].tolist()
    found = judge(values, condition).tolist()
    for x, c, score in zip(values.tolist(), condition[:, 0].tolist(), found, strict=True):
        displacements = [math.tanh(slopes[j] * x[j] + turns[j] * c) for j in range(n_features)]
        assert score == pytest.approx(piquasso_score(judge, displacements), abs=tolerance)


@pytest.mark.parametrize("layers", [1, 2])
def test_gates_that_the_first_mode_does_not_see_are_left_out(layers: int) -> None:
    judge = varied(CVDiscriminator(4, layers=layers, cutoff=5))
    whole = layered_program(4, layers, 4)
    assert len(judge.program) < len(whole)
    score = judge(normal((6, 4), new_generator(0), dtype=torch.float64), None)
    gradients = torch.autograd.grad(score.sum(), judge.weights)[0]
    assert (gradients != 0).all()
    # those left out have no gradient in the whole program, and there are as many as are missing
    weights = torch.full((whole.n_parameters - 4,), 0.1, dtype=torch.float64, requires_grad=True)
    inputs = 0.3 * normal((6, 4), new_generator(0), dtype=torch.float64)
    amplitudes = Fock(8, basis="total", warn_above=None).run(whole, weights, inputs)
    mean = amplitudes.quadratures()[0][:, 0].sum()
    blind = (torch.autograd.grad(mean, weights)[0].abs() < 1e-3).sum()
    assert blind >= len(weights) - len(judge.weights) > 0


def test_first_and_second_derivatives() -> None:
    judge = varied(CVDiscriminator(2, 1, layers=1, cutoff=4))
    values = normal((2, 2), new_generator(0), dtype=torch.float64)
    condition = normal((2, 1), new_generator(1), dtype=torch.float64)
    names, start = zip(*judge.named_parameters(), strict=True)

    def score(values: Tensor, condition: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(judge, dict(zip(names, parameters, strict=True)), (values, condition))

    inputs = tuple(x.detach().clone().requires_grad_() for x in (values, condition, *start))
    assert torch.autograd.gradcheck(score, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(score, inputs, fast_mode=True)


def test_events_far_away_stay_inside_the_cutoff() -> None:
    judge = CVDiscriminator(3, layers=1, cutoff=9)
    values = torch.tensor([[1.0, -1, 1], [30, -30, 30], [1e6, -1e6, 1e6]], dtype=torch.float64)
    scores = judge(values, None)
    assert scores.isfinite().all()
    assert scores[1].item() == pytest.approx(scores[2].item(), abs=1e-3)
    assert judge._lost_since() < 0.02


def test_it_says_when_truncation_mattered() -> None:
    judge = CVDiscriminator(2, layers=1, cutoff=3)
    judge(torch.zeros(2, 2), None)
    assert judge.remarks() == ()
    judge(torch.full((2, 2), 9.0), None)
    assert judge.remarks()[0].startswith("discriminator truncated: states lost up to ")


def test_two_features_a_mode_and_no_more() -> None:
    assert CVDiscriminator(8, modes=4, layers=1, cutoff=4).program.n_modes == 4
    with pytest.raises(ValueError, match="^a CV discriminator of 3 modes cannot take 8 features; a mode takes two"):
        CVDiscriminator(8, modes=3)
    with pytest.raises(ValueError, match="^cutoff is 1; an integer of at least 2 is needed$"):
        CVDiscriminator(2, cutoff=1)
    with pytest.raises(ValueError, match="^basis is 'all'; allowed are mode, total$"):
        CVDiscriminator(2, basis="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^modes is 0; an integer of at least 1 is needed$"):
        CVDiscriminator(2, modes=0)
    with pytest.raises(ValueError, match=r"^events have shape \(5, 3\); \(N, 2\) is needed$"):
        CVDiscriminator(2)(torch.zeros(5, 3), None)
    with pytest.raises(ValueError, match="^layers|^n_layers is 0"):
        CVDiscriminator(2, layers=0)


def test_the_seed_fixes_it() -> None:
    def weights(seed: int) -> Tensor:
        made = make_discriminator({"kind": "cv", "layers": 1, "cutoff": 4}, 2, 1, seed)
        assert isinstance(made, CVDiscriminator)
        return nn.utils.parameters_to_vector(made.parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("loss", ["non-saturating", "least-squares", "wasserstein-gp"])
def test_every_game_can_be_played_against_it(loss: str) -> None:
    data = load_calorimeter(grid=(3,), max_events=300)
    model = CVGenerator.for_dataset(data, layers=1, cutoff=4)
    game = Adversarial(loss=loss, discriminator={"kind": "cv", "layers": 1, "cutoff": 4})
    result = fit(model, data, game, steps=2, batch_size=16, log_every=1)
    assert all(math.isfinite(record["discriminator_loss"]) for record in result.history)


def test_it_learns_to_tell_two_distributions_apart() -> None:
    rng = new_generator(0)
    real = normal((400, 2), rng, dtype=torch.float64)
    fake = normal((400, 2), rng, dtype=torch.float64) * torch.tensor([1.0, 0.3], dtype=torch.float64)
    real[:, 1] = 0.9 * real[:, 0] + 0.3 * real[:, 1]  # the same spread in x0, another correlation
    judge = CVDiscriminator(2, layers=2, cutoff=5)
    optimiser = torch.optim.Adam(judge.parameters(), 0.05)
    for _ in range(60):
        loss = nn.functional.softplus(-judge(real, None)).mean() + nn.functional.softplus(judge(fake, None)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    told = (judge(real, None) > 0).double().mean() + (judge(fake, None) <= 0).double().mean()
    assert told.item() / 2 > 0.7
