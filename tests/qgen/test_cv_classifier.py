from __future__ import annotations

import math

import pytest
import torch

from circuits.cv import Fock
from qgen.models.cv_classifier import CVClassifier, binomial_uncertainty, train_classifier
from qgen.random import new_generator, normal, uniform
from qgen.training.discriminators import MLP


def tables(n, columns, seed=0):
    return normal((2, n, columns), new_generator(seed), dtype=torch.float64)


def test_a_linear_score_reaches_the_best_accuracy_there_is():
    real, fake = tables(4000, 2)
    found = train_classifier(MLP.for_events(2, 0, hidden=()), real + torch.tensor([1.2, 0.9]), fake, steps=300)
    best = 0.5 * (1 + math.erf(0.75 / math.sqrt(2)))  # normal distribution function of half the distance 1.5
    area = 0.5 * (1 + math.erf(1.5 / 2))
    assert found.events == 4000
    assert found.uncertainty == pytest.approx(math.sqrt(best * (1 - best) / 4000), rel=0.05)
    assert abs(found.accuracy - best) < 3 * found.uncertainty
    assert abs(found.auc - area) < 0.02
    assert found.losses[-1] < found.losses[0] < math.log(2)


def test_events_that_were_learned_by_heart_do_not_judge():
    real, fake = tables(60, 8)
    found = train_classifier(MLP.for_events(8, 0, hidden=(64, 64)), real, fake, steps=300, learning_rate=0.01)
    assert found.training_accuracy > 0.95
    assert abs(found.accuracy - 0.5) < 3 * found.uncertainty


def test_the_seed_fixes_all():
    real, fake = tables(100, 2)
    judges = [MLP.for_events(2, 0, hidden=(8,), seed=3) for _ in range(3)]
    first, again, other = (
        train_classifier(judge, real + 0.5, fake, steps=20, seed=seed)
        for judge, seed in zip(judges, (1, 1, 2), strict=True)
    )
    assert first == again != other
    assert binomial_uncertainty(100, 100) > 0


@pytest.mark.parametrize(
    ("real", "fake", "options", "message"),
    [
        (torch.zeros(8, 2), torch.zeros(7, 2), {}, r"real events are \(8, 2\), fake ones \(7, 2\); tables of the same"),
        (torch.zeros(2, 2), torch.zeros(2, 2), {}, r"real events are \(2, 2\)"),
        (torch.zeros(8, 2), torch.zeros(8, 2), {"steps": 0}, "steps 0, batch_size 64"),
        (torch.zeros(8, 2), torch.zeros(8, 2), {"learning_rate": math.nan}, "steps 300, batch_size 64"),
    ],
)
def test_faults(real, fake, options, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        train_classifier(MLP.for_events(2, 0), real, fake, **options)


def test_the_mean_of_a_squeezed_and_displaced_mode_is_pennylanes():
    import pennylane as qml

    judge = CVClassifier(2, embedding="squeezing", layers=1, cutoff=24, initial_range=0.2)
    gaussian = [gate for gate in judge.program.gates if gate.name != "Kerr"]
    kerr = [slot.index for gate in judge.program.gates if gate.name == "Kerr" for slot in gate.parameters]
    with torch.no_grad():
        judge.weights[kerr] = 0.0
    values = torch.tensor([[0.7, -1.3]], dtype=torch.float64)
    vector = torch.cat([judge.weights, judge.displacements(values)[0]]).tolist()

    @qml.qnode(qml.device("default.gaussian", wires=2))
    def mean() -> object:
        for gate in gaussian:
            numbers = [slot.offset if slot.index is None else vector[slot.index] for slot in gate.parameters]
            getattr(qml, gate.name)(*numbers, wires=list(gate.modes))
        return qml.expval(qml.QuadX(0))

    score = judge.scale * float(mean()) / 2 + judge.offset
    torch.testing.assert_close(judge(values, None), score[None], atol=1e-6, rtol=0)
    assert judge.probability(values).item() == pytest.approx(1 / (1 + math.exp(-score.item())), abs=1e-6)
    assert judge.norm_lost(values).item() < 1e-6


def test_displacements_without_kerr_gates_are_a_linear_score_of_them():
    judge = CVClassifier(2, layers=2, cutoff=20)
    kerr = [slot.index for gate in judge.program.gates if gate.name == "Kerr" for slot in gate.parameters]
    values = uniform((12, 2), new_generator(0), dtype=torch.float64) - 0.5
    with torch.no_grad():
        curved = _curvature(judge, values)
        judge.weights[kerr] = 0.0
        assert _curvature(judge, values) < 1e-4 < 1e-2 < curved


def _curvature(judge, values):
    """What a linear fit of the score in the displacements leaves."""
    inputs = torch.cat([judge.displacements(values), torch.ones(len(values), 1)], dim=1)
    score = judge(values, None)[:, None]
    return (score - inputs @ torch.linalg.lstsq(inputs, score).solution).abs().max()


def test_a_circuit_learns_without_leaving_its_cutoff():
    real, fake = tables(400, 2)
    ring = 1.5 * fake / fake.norm(dim=1, keepdim=True)
    judge = CVClassifier(2, layers=1, cutoff=6, seed=1)
    found = train_classifier(judge, 0.3 * real + 1, ring, steps=80)
    assert found.accuracy > 0.8
    assert found.remarks == () or "discriminator truncated" in found.remarks[0]
    with torch.no_grad():
        sides = judge(ring, None) > 0
        judge.simulator = Fock(12, basis="total")
        assert (sides == (judge(ring, None) > 0)).double().mean() > 0.97


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": "cubic"}, "embedding is 'cubic'; allowed are displacement, squeezing"),
        ({"norm_penalty": -1.0}, "norm_penalty is -1.0; a number of at least 0 is needed"),
        ({"initial_range": math.inf}, "initial_range is inf; a finite number"),
        ({"cutoff": 1}, "cutoff is 1; an integer of at least 2 is needed"),
    ],
)
def test_faults_of_the_circuit(options, message):
    with pytest.raises(ValueError, match=f"^{message}[^\n]*$"):
        CVClassifier(2, **options)
