from __future__ import annotations

import pennylane as qml
import pytest
import torch

from qgen import fit
from qgen.data import load_calorimeter
from qgen.models import FullyQuantumGenerator, QuantumDiscriminator
from qgen.random import new_generator
from qgen.training import Adversarial
from qgen.training.discriminators import discriminators


@pytest.fixture
def rng():
    return new_generator(0)


FINE_TO_COARSE = [(5, 6), (3, 4), (1, 2), (6, 7), (4, 5), (2, 3), (0, 1), (2, 4), (4, 6), (0, 2), (0, 4)]


def scores(judge, values, condition):
    """The documented circuit, written for PennyLane; the last rotations that Z on wire 0 does not see left out."""
    weights, slopes = judge.weights.detach(), judge.slopes.detach()
    n = values.shape[1]

    @qml.qnode(qml.device("default.qubit", wires=n))
    def node(x, c):
        # weights are numbered as in the layers run from coarse to fine, those that are not seen left out
        blocks = FINE_TO_COARSE[::-1]
        slots = [(layer, k, side) for layer in range(len(slopes)) for k in range(len(blocks)) for side in (0, 1)]
        first = {wire: min(k for k, b in enumerate(blocks) if wire in b) for wire in range(n)}
        last = len(slopes) - 1
        slots = [
            s for s in slots if not (s[0] == last and blocks[s[1]][s[2]] != 0 and first[blocks[s[1]][s[2]]] == s[1])
        ]
        weight = dict(zip(slots, weights.tolist(), strict=True))
        for layer in range(len(slopes)):
            for wire in range(n):
                turned = slopes[layer, wire] * x[wire]
                if c is not None:
                    turned = turned + (judge.condition_slopes.detach()[layer, wire] * c).sum()
                qml.RY(float(turned), wires=wire)
            for k in range(len(blocks) - 1, -1, -1):
                qml.CNOT(wires=blocks[k])
                for side in (1, 0):
                    if (layer, k, side) in weight:
                        qml.RY(-weight[layer, k, side], wires=blocks[k][side])
        return qml.expval(qml.Z(0))

    conditions = [None] * len(values) if condition is None else condition
    seen = torch.stack([torch.as_tensor(node(*pair)) for pair in zip(values, conditions, strict=True)])
    return judge.scale.detach() * seen + judge.offset.detach()


@pytest.mark.parametrize(("layers", "conditions"), [(1, 0), (2, 1)])
def test_scores_are_those_of_pennylane(layers, conditions, rng):
    judge = QuantumDiscriminator(8, conditions, layers=layers, seed=2)
    values = torch.randn(3, 8, generator=rng, dtype=torch.float64)
    c = torch.randn(3, conditions, generator=rng, dtype=torch.float64) if conditions else None
    with torch.no_grad():
        judge.offset.fill_(0.3)
    torch.testing.assert_close(judge(values, c).detach(), scores(judge, values, c), rtol=0, atol=1e-12)


@pytest.mark.parametrize("features", [1, 2, 3, 8])
@pytest.mark.parametrize("conditions", [0, 2])
def test_gradient_reaches_every_parameter(features, conditions, rng):
    judge = QuantumDiscriminator.for_events(features, conditions, seed=1)
    values = torch.randn(6, features, generator=rng, dtype=torch.float64)
    c = torch.randn(6, conditions, generator=rng, dtype=torch.float64) if conditions else None
    judge(values, c).square().sum().backward()
    for name, parameter in judge.named_parameters():
        assert bool((parameter.grad != 0).all()), name


def test_number_of_parameters():
    """22 trainable angles a layer but the 7 that the last one does not need, 8 slopes a layer, scale and offset."""
    assert sum(p.numel() for p in QuantumDiscriminator(8, layers=1).parameters()) == 22 - 7 + 8 + 2
    assert sum(p.numel() for p in QuantumDiscriminator(8, layers=3).parameters()) == 66 - 7 + 24 + 2


def test_second_derivatives_are_right(rng):
    judge = QuantumDiscriminator(3, layers=2)
    values = torch.randn(2, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: judge(v, None), (values,))


def test_a_discriminator_that_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"^a quantum discriminator of 4 qubits cannot take 8 features; each needs a qubit$"
    ):
        QuantumDiscriminator.for_events(8, 1, qubits=4)
    with pytest.raises(ValueError, match=r"^n_features is 8, layers is 0; both must be at least 1$"):
        QuantumDiscriminator(8, layers=0)
    with pytest.raises(ValueError, match=r"^backend.kind: missing"):
        QuantumDiscriminator.for_events(2, 0, backend={"shots": 3})
    assert QuantumDiscriminator(2, 1, qubits=4)(torch.ones(3, 2), torch.ones(3, 1)).shape == (3,)


def test_backends_by_their_configuration(rng):
    values = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    exact = QuantumDiscriminator.for_events(2, 0)(values, None)
    noisy = QuantumDiscriminator.for_events(2, 0, backend={"kind": "density_matrix", "noise": {"readout": 0.1}})
    torch.testing.assert_close(noisy(values, None), 0.8 * exact)
    measured = [
        QuantumDiscriminator.for_events(2, 0, backend={"kind": "statevector", "shots": 5000})(values, None)
        for _ in range(2)
    ]
    assert torch.equal(*measured)
    assert float((measured[0] - exact).detach().abs().max()) < 0.2
    measured[0].sum().backward()


def test_draws_go_on_from_a_saved_state(rng):
    values = torch.randn(3, 2, generator=rng, dtype=torch.float64)
    first, second = (
        QuantumDiscriminator.for_events(2, 0, backend={"kind": "statevector", "shots": 50}) for _ in range(2)
    )
    assert not torch.equal(first(values, None), first(values, None))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(values, None), second(values, None))


@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein-gp", "least-squares"])
def test_a_game_of_circuits(loss):
    assert "quantum" in discriminators()
    showers = load_calorimeter(max_events=200)
    model = FullyQuantumGenerator.for_dataset(showers, layers=1)
    game = Adversarial(loss, {"kind": "quantum", "layers": 1})
    result = fit(model, showers, game, steps=3, batch_size=32, keep="last")
    assert result.steps == 3
    assert isinstance(game.discriminator, QuantumDiscriminator)


def test_it_learns_to_tell_apart(rng):
    judge = QuantumDiscriminator(2, layers=2, seed=1)
    real = torch.randn(400, 2, generator=rng, dtype=torch.float64)
    real[:, 1] = 0.9 * real[:, 0] + 0.4 * real[:, 1]
    fake = torch.randn(400, 2, generator=rng, dtype=torch.float64)
    optimiser = torch.optim.Adam(judge.parameters(), lr=0.05)
    for _ in range(100):
        loss = (
            torch.nn.functional.softplus(-judge(real, None)).mean()
            + torch.nn.functional.softplus(judge(fake, None)).mean()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = ((judge(real, None) > 0).double().mean() + (judge(fake, None) < 0).double().mean()) / 2
    assert float(right) > 0.65
