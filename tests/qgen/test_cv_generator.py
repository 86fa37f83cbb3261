"""The generator of optical modes: against piquasso and PennyLane, in closed form, beyond its conditions, trained."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuits.cv import CVNeuralNetworkLayers, Fock
from qgen import fit
from qgen.data import Dataset, Feature, load_calorimeter, simulate_muon
from qgen.generator import ExtrapolationWarning
from qgen.models import CVGenerator
from qgen.models.cv_generator import layered_program
from qgen.random import new_generator, normal, uniform
from qgen.training import MMD, Adversarial, Objective
from qgen.training.objectives import Batch


def varied(model: CVGenerator, width: float = 0.2) -> CVGenerator:
    """The model with all parameters moved at random."""
    rng = new_generator(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += width * normal(tuple(parameter.shape), rng, dtype=torch.float64)
    return model


def layers_of(model: CVGenerator) -> list[list[np.ndarray]]:
    """For each layer the 11 weights of PennyLane's template."""
    network = CVNeuralNetworkLayers(model.layers, model.n_features, model.mesh)
    missing = network.program.n_parameters - len(model.weights)
    weights = network.split(nn.functional.pad(model.weights.detach(), (0, missing)))
    return [[weight[layer].numpy() for weight in weights] for layer in range(model.layers)]


def piquasso_means(model: CVGenerator, displacements: np.ndarray) -> list[float]:
    import piquasso as pq

    def interferometer(theta: np.ndarray, phi: np.ndarray, varphi: np.ndarray) -> None:
        pairs = [(m, m + 1) for column in range(n) for m in range(column % 2, n - 1, 2)]
        for pair, angle, phase in zip(pairs, theta, phi, strict=True):
            pq.Q(*pair) | pq.Beamsplitter(angle, phase)
        for mode in range(n):
            pq.Q(mode) | pq.Phaseshifter(varphi[mode])

    n = model.n_features
    with pq.Program() as program:
        pq.Q() | pq.Vacuum()
        for j, d in enumerate(displacements):
            pq.Q(j % n) | pq.Displacement(r=d, phi=0.0 if j < n else math.pi / 2)
        for t1, p1, v1, r, phi_r, t2, p2, v2, a, phi_a, k in layers_of(model):
            interferometer(t1, p1, v1)
            for mode in range(n):
                pq.Q(mode) | pq.Squeezing(r[mode], phi_r[mode])
            interferometer(t2, p2, v2)
            for mode in range(n):
                pq.Q(mode) | pq.Displacement(r=a[mode], phi=phi_a[mode])
            for mode in range(n):
                pq.Q(mode) | pq.Kerr(k[mode])
    simulator = pq.PureFockSimulator(d=n, config=pq.Config(cutoff=model.cutoff, hbar=2))
    ket = np.asarray(simulator.execute(program).state.get_tensor_representation())
    return [mean_amplitude(ket, mode) for mode in range(n)]


def mean_amplitude(ket: np.ndarray, mode: int) -> float:
    """The mean of (a + a^+)/2 in a ket with one dimension for each mode."""
    ket = np.moveaxis(ket, mode, -1)
    lowered = ket[..., 1:] * np.sqrt(np.arange(1, ket.shape[-1]))
    return float((ket[..., :-1].conj() * lowered).sum().real / (abs(ket) ** 2).sum())


@pytest.mark.parametrize(
    ("n_features", "latent_size", "cutoff", "width", "tolerance"),
    [(2, 4, 7, 0.2, 1e-9), (3, 3, 11, 0.05, 1e-6)],  # what is cut off depends on the order of gates on different modes
)
def test_the_whole_generator_against_piquasso(
    n_features: int, latent_size: int, cutoff: int, width: float, tolerance: float
) -> None:
    model = varied(CVGenerator(n_features, 1, layers=2, cutoff=cutoff, latent_size=latent_size), width)
    latent = model.latent(4, new_generator(0)).numpy()
    condition = uniform((4, 1), new_generator(1), dtype=torch.float64)
    amplitude, spread, slope, scale, offset = (
        parameter.detach().numpy()
        for parameter in (model.amplitude, model.spread, model.condition_spread[:, 0], model.scale, model.offset)
    )
    expected = []
    for z, c in zip(latent, condition[:, 0].tolist(), strict=True):
        displacements = amplitude + slope * c
        displacements[:latent_size] += spread * z
        expected.append(scale * np.array(piquasso_means(model, displacements)) + offset)
    drawn = model._sample(4, condition, new_generator(0))
    np.testing.assert_allclose(drawn.detach().numpy(), expected, atol=tolerance, rtol=0)


def test_photon_numbers_of_one_layer_against_pennylane() -> None:
    import pennylane as qml

    n = 3
    model = varied(CVGenerator(n, readout="photons", layers=1, latent_size=5))
    assert type(model.simulator).__name__ == "Gaussian"  # without the Kerr gates that photon numbers do not see
    t1, p1, v1, r, phi_r, t2, p2, v2, a, phi_a, _ = layers_of(model)[0]

    @qml.qnode(qml.device("default.gaussian", wires=n))
    def photons(displacements: np.ndarray, measured: int) -> Any:
        for j, d in enumerate(displacements):
            qml.Displacement(d, 0.0 if j < n else math.pi / 2, wires=j % n)
        qml.Interferometer(t1, p1, v1, wires=range(n))
        for mode in range(n):
            qml.Squeezing(r[mode], phi_r[mode], wires=mode)
        qml.Interferometer(t2, p2, v2, wires=range(n))
        for mode in range(n):
            qml.Displacement(a[mode], phi_a[mode], wires=mode)
        return qml.expval(qml.NumberOperator(measured))

    displacements = model.displacements(model.latent(3, new_generator(0))).detach()
    expected = [[float(photons(row.numpy(), mode)) for mode in range(n)] for row in displacements]
    np.testing.assert_allclose(model.means(displacements).detach().numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("readout", ["quadrature", "photons"])
def test_without_gates_the_means_are_those_of_coherent_states(readout: str, loss: float) -> None:
    model = CVGenerator(2, readout=readout, layers=2, loss=loss, cutoff=12)
    with torch.no_grad():
        model.weights.zero_()
    latent = model.latent(5, new_generator(0))
    amplitude = model.displacements(latent) * (1 - loss) ** (2 / 2)
    expected = amplitude if readout == "quadrature" else amplitude.square()
    torch.testing.assert_close(model.means(model.displacements(latent)), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"loss": 0.1}, {"readout": "photons"}, {"mesh": "triangular"}])
def test_a_fresh_model_is_near_the_standard_normal(options: dict[str, Any]) -> None:
    drawn = CVGenerator(2, layers=1, **options).sample(1000, generator=new_generator(0))
    assert (drawn.mean(0).abs() < 0.6).all()
    assert ((drawn.std(0) > 0.6) & (drawn.std(0) < 1.6)).all()


def test_number_of_parameters() -> None:
    for m, layers, n_conditions in [(1, 1, 0), (3, 2, 1), (4, 1, 2)]:
        gates = layers * (2 * m**2 + 2 * m + 2 * m + m)
        model = CVGenerator(m, n_conditions, layers=layers, latent_size=m)
        assert model.n_parameters == gates + m + m + m * n_conditions + m + m
    assert CVGenerator(3, readout="photons").weights.numel() == CVGenerator(3).weights.numel() - 3


class Call(nn.Module):
    """The events of fixed latent numbers."""

    def __init__(self, model: CVGenerator, latent: Tensor, condition: Tensor) -> None:
        super().__init__()
        self.model, self.latent, self.condition = model, latent, condition

    def forward(self) -> Tensor:
        model = self.model
        return model.scale * model.means(model.displacements(self.latent, self.condition)) + model.offset


@pytest.mark.parametrize("options", [{}, {"readout": "photons", "layers": 2}, {"loss": 0.1}])
def test_gradient(options: dict[str, Any]) -> None:
    model = varied(CVGenerator(2, 1, cutoff=4, **{"layers": 1, **options}), 0.1)
    latent, condition = model.latent(2, new_generator(0)), torch.tensor([[0.3], [-0.4]], dtype=torch.float64)
    call = Call(model, latent, condition)
    names, values = zip(*call.named_parameters(), strict=True)

    def events(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(call, dict(zip(names, parameters, strict=True)), ())

    start = tuple(value.detach().clone().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(events, start, fast_mode=True)


def test_beyond_its_conditions_it_goes_on() -> None:
    rng = new_generator(0)
    conditions = 50 + 10 * uniform((400, 1), rng, dtype=torch.float64)
    samples = 2 * conditions + normal((400, 1), rng, dtype=torch.float64)
    data = Dataset(samples, (Feature("x", "GeV"),), conditions, (Feature("E", "GeV"),))
    model = CVGenerator.for_dataset(data, layers=1)
    fit(model, data, MMD(), steps=80, batch_size=100, learning_rate=0.02)

    def mean(condition: float) -> float:
        return model.sample(500, torch.tensor([condition], dtype=torch.float64), new_generator(0)).mean().item()

    assert mean(58.0) - mean(52.0) == pytest.approx(12, abs=4)
    with pytest.warns(ExtrapolationWarning):
        beyond = [mean(value) for value in (60.5, 62.0, 63.0)]
    assert mean(59.5) < beyond[0] < beyond[1] < beyond[2] < 140


@pytest.mark.parametrize(
    "objective",
    [
        MMD(),
        Adversarial(),
        Adversarial(loss="wasserstein-gp", discriminator={"kind": "cv", "layers": 1, "cutoff": 4}),
    ],
    ids=["mmd", "perceptron", "cv"],
)
@pytest.mark.parametrize("readout", ["quadrature", "photons"])
def test_it_trains_on_showers(objective: Objective, readout: str) -> None:
    data = load_calorimeter(grid=(3,), max_events=400)
    model = CVGenerator.for_dataset(data, layers=1, cutoff=5, readout=readout)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    fit(model, data, objective, steps=2, batch_size=32, keep="last")
    assert all((a != b).any() for a, b in zip(before, model.parameters(), strict=True))
    events = model.sample(50, data.test.conditions[:50], new_generator(0))
    assert (events > 0).all()  # energies


def test_it_trains_on_muon_events() -> None:
    data = simulate_muon(n=300, seed=0)
    model = CVGenerator.for_dataset(data, layers=1, cutoff=4)
    fit(model, data, MMD(), steps=2, batch_size=50)
    assert model.n_features == data.n_features


def test_training_brings_it_near_and_inside_its_cutoff() -> None:
    data = load_calorimeter(grid=(3,), max_events=2000)
    model = CVGenerator.for_dataset(data, layers=1)
    inner = data.transform(data.test.samples, data.test.conditions)
    truth = Batch(inner, data.condition_transform(data.test.conditions))

    def distance() -> float:
        with torch.no_grad():
            return MMD().loss(model, truth, new_generator(0)).item()

    before = distance()
    fit(model, data, MMD(), steps=60, batch_size=64, learning_rate=0.03, keep="last")
    assert distance() < 0.5 * before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low = model.sample(200, data.conditions[:200], new_generator(0))
    model.simulator = Fock(12, basis="total")
    high = model.sample(200, data.conditions[:200], new_generator(0))
    shown = [data.transform(events, data.conditions[:200]) for events in (low, high)]
    assert (shown[0] - shown[1]).square().mean().sqrt() < 0.05  # of a standard deviation


def test_error_lines() -> None:
    lines = {
        r"^latent_size is 7; 3 modes take 1 to 6 latent numbers$": {"latent_size": 7},
        r"^readout is 'parity'; allowed are quadrature, photons$": {"readout": "parity"},
        r"^cutoff is 1; an integer of at least 2 is needed$": {"cutoff": 1},
        r"^cutoff is 2.5; an integer of at least 2 is needed$": {"cutoff": 2.5},
        r"^basis is 'all'; allowed are mode, total$": {"basis": "all"},
        r"^norm_penalty is nan; a finite number is needed$": {"norm_penalty": float("nan")},
        r"^loss is 1.0; a share of the photons from 0 to below 1 is needed$": {"loss": 1.0},
        r"^initial_range is 0; a positive, finite number is needed$": {"initial_range": 0},
        r"^n_layers is 0": {"layers": 0},
        r"^mesh is 'ring'": {"mesh": "ring"},
    }
    for line, options in lines.items():
        with pytest.raises(ValueError, match=line):
            CVGenerator(3, **options)
    with pytest.raises(ValueError, match="^7 displacements are asked for of 3 modes; 1 to 6 are possible$"):
        layered_program(3, 1, 7)


def test_the_start_is_inside_the_cutoff() -> None:
    for m in (1, 3, 4, 8):
        for readout in ("quadrature", "photons"):
            model = CVGenerator(m, readout=readout)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model.sample(300 if m < 8 else 40, generator=new_generator(0))
