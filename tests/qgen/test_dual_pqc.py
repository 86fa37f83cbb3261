from __future__ import annotations

import math
import re
import time
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from circuits import Circuit, Gate
from circuits.backends import make_backend
from experiments.config import load_config, resolve
from qgen import ExtrapolationWarning, fit, load_generator, save_generator
from qgen.data import Dataset, Feature, load_calorimeter, muon_events
from qgen.data.clusters import nearest, shapes_of, strata
from qgen.data.transforms import Log
from qgen.models import DualPQC
from qgen.models.dual_pqc import dual_pqc_circuit
from qgen.models.energy_scale import EnergyScale
from qgen.plain import read_yaml
from qgen.random import new_generator, normal, uniform
from qgen.training import MMD, Adversarial

F64 = torch.float64


def showers(pixels: int = 4, n: int = 400) -> Dataset:
    return load_calorimeter(grid=(pixels,), max_events=n)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return showers()


def table(samples: torch.Tensor) -> Dataset:
    return Dataset(samples, tuple(Feature(f"x{i}", "MeV") for i in range(samples.shape[1])))


@pytest.mark.parametrize("ancillas", [0, 1, 2])
def test_both_circuits_are_those_of_a_pennylane_transcription(data: Dataset, ancillas: int) -> None:
    """Basis state on the first wires; layers of uploads (RY), RY, RZ and a ring of CNOTs; RY; ancillas traced out."""
    model = DualPQC.for_dataset(data, seed=3, ancillas=ancillas, pqc1_layers=1, pqc2_layers=2, latent_size=2)
    inner = data.condition_transform(data.conditions[:1])[0]

    def layers(wires: int, read: int, n_layers: int, inputs: list[torch.Tensor], weights, factors) -> None:
        weight, factor = iter(weights.detach()), iter(factors.detach())
        for layer in range(n_layers):
            for wire in range(wires):
                for number in inputs:
                    qml.RY(number * next(factor), wires=wire)
                qml.RY(next(weight), wires=wire)
                if wire < read or layer < n_layers - 1:
                    qml.RZ(next(weight), wires=wire)
            for wire in range(wires if wires > 2 else wires - 1):
                qml.CNOT(wires=[wire, (wire + 1) % wires])
        for wire in range(read):
            qml.RY(next(weight) + math.pi / 2, wires=wire)
        assert next(weight, None) is None
        assert next(factor, None) is None

    @qml.qnode(qml.device("default.qubit"))
    def pqc1():
        layers(2, 2, 1, [inner[0]], model.weights1, model.factors1)
        return qml.probs(wires=[0, 1])

    @qml.qnode(qml.device("default.qubit"))
    def pqc2(bits: tuple[int, int], latent: torch.Tensor):
        for wire in range(2):
            if bits[wire]:
                qml.PauliX(wire)
        layers(2 + ancillas, 2, 2, [inner[0], *latent], model.weights2, model.factors2)
        return qml.probs(wires=[0, 1])

    latent = torch.tensor([0.3, -0.8], dtype=F64)
    images = model.images(data.conditions[0], latent).detach()
    for i, bits in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        torch.testing.assert_close(images[i], torch.as_tensor(pqc2(bits, latent)), atol=1e-12, rtol=0)
    probabilities = model.image_probabilities(data.conditions[0]).detach()
    torch.testing.assert_close(probabilities, torch.as_tensor(pqc1()), atol=1e-12, rtol=0)


@given(
    st.sampled_from([2, 4, 8]), st.sampled_from([2, 4, 8]), st.integers(0, 3), st.integers(1, 3), st.integers(0, 2**31)
)
@settings(max_examples=25, deadline=None)
def test_counts_and_the_bound_of_unitarity(pixels: int, n_images: int, ancillas: int, layers: int, seed: int) -> None:
    n1, wires = int(math.log2(n_images)), int(math.log2(pixels)) + ancillas
    events = table(1 + uniform((40, pixels), new_generator(seed), dtype=F64))
    options = {"n_images": n_images, "ancillas": ancillas, "pqc1_layers": layers, "pqc2_layers": layers, "seed": seed}
    if n1 > wires:
        with pytest.raises(ValueError, match=rf"^n_images is {n_images}; PQC2 .* takes in at most {2**wires}$"):
            DualPQC.for_dataset(events, **options)
        return
    model = DualPQC.for_dataset(events, **options, initial_range=3.0)
    images, probabilities = model.images().detach(), model.image_probabilities().detach()
    assert images.shape == (n_images, pixels)
    torch.testing.assert_close(images.sum(1), torch.ones(n_images, dtype=F64))
    assert probabilities.sum().item() == pytest.approx(1)
    assert (images.sum(0) <= 2**ancillas + 1e-9).all()
    if n1 == wires:  # all basis states go in
        torch.testing.assert_close(images.sum(0), torch.full((pixels,), 2.0**ancillas, dtype=F64))
    energy_scale = 2
    expected = (2 * layers + 1) * n1 + 2 * layers * wires + int(math.log2(pixels)) - ancillas + energy_scale
    assert model.n_parameters == expected


def test_parameters_of_uploads_and_scale(data: Dataset) -> None:
    model = DualPQC.for_dataset(data, n_images=4, pqc1_layers=2, pqc2_layers=3, latent_size=5)
    expected = (2 * 5 + 2 * 2) + (3 * 4 * 2 - 2 + 2 + 3 * 4 * 6) + 2 * 3
    assert model.n_parameters == expected


@pytest.mark.parametrize("options", [{}, {"conditional": False}, {"latent_size": 2}])
def test_weighted_events_are_the_distribution_that_is_sampled(data: Dataset, options: dict[str, object]) -> None:
    model = DualPQC.for_dataset(data, seed=1, initial_range=1.5, **options)
    condition = data.condition_transform(data.conditions[:1]).expand(1000, -1)
    with torch.no_grad():
        events = model._weighted(1000, condition, new_generator(0))
        drawn = model._sample(12_000, condition[:1].expand(12_000, -1), new_generator(1))
    assert len(events.values) == 1000 * model.n_images
    assert events.weights.sum().item() == pytest.approx(1)
    assert torch.equal(events.condition, condition[:1].expand(len(events.values), -1))
    for power in (1, 2):
        a, b = events.values**power, drawn**power
        mean = events.weights @ a
        error = ((events.weights @ (a - mean) ** 2) / 1000 + b.var(0) / len(b)).sqrt()
        assert ((mean - b.mean(0)).abs() < 5 * error).all()


@pytest.mark.parametrize("options", [{"conditional": False}, {"latent_size": 2}])
def test_the_gradient_reaches_every_angle_and_is_that_of_finite_differences(data: Dataset, options) -> None:
    model = DualPQC.for_dataset(data, seed=1, pqc1_layers=1, pqc2_layers=2, initial_range=1.0, **options)
    condition = data.condition_transform(data.conditions[:3])

    def value() -> torch.Tensor:
        events = model._weighted(3, condition, new_generator(0))
        return (events.weights * events.values.square().sum(1)).sum()

    value().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad.abs() > 1e-12).all(), name
        for i in range(0, len(parameter), 3):
            with torch.no_grad():
                ends = []
                for step in (1e-5, -2e-5):
                    parameter[i] += step
                    ends.append(value().item())
                parameter[i] += 1e-5
            assert parameter.grad[i].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-7), name


def test_the_sample_is_of_the_images_and_their_probabilities(data: Dataset) -> None:
    model = DualPQC.for_dataset(data, seed=2, initial_range=2.0, conditional=False)
    shapes = shapes_of(model.sample(20_000, data.conditions[0], new_generator(0)))
    images, p = model.images().detach(), model.image_probabilities().detach()
    which = nearest(shapes, images)
    torch.testing.assert_close(shapes, images[which], atol=1e-9, rtol=0)
    found = torch.bincount(which, minlength=4)
    assert stats.chisquare(found.numpy(), (p / p.sum() * len(shapes)).numpy()).pvalue > 1e-4


def test_latent_numbers_make_more_images_than_states(data: Dataset) -> None:
    model = DualPQC.for_dataset(data, n_images=2, latent_size=1)
    shapes = shapes_of(model.sample(300, data.conditions[0], new_generator(0)))
    assert len(torch.unique(shapes.mul(1e9).round(), dim=0)) > 290


def test_a_hundred_thousand_events_of_eight_qubits_take_less_than_ten_seconds() -> None:
    events = load_calorimeter(grid=(25,), max_events=300)
    pixels = torch.cat([events.samples, 0.1 + torch.zeros(300, 7)], 1)
    wide = Dataset(pixels, tuple(Feature(f"x{i}") for i in range(32)), events.conditions, events.condition_features)
    model = DualPQC.for_dataset(wide, n_images=8, latent_size=4)
    assert model.pqc2.n_wires == 8
    conditions = wide.conditions[torch.randint(300, (100_000,), generator=new_generator(0))] * (
        1 + 0.001 * uniform((100_000, 1), new_generator(1), dtype=F64)
    )
    model.sample(100, conditions[:100])
    started = time.process_time()
    assert model.sample(100_000, conditions, new_generator(2)).isfinite().all()
    assert time.process_time() - started < 10


def test_images_start_near_strata_and_nearly_equally_probable() -> None:
    whole = load_calorimeter(grid=(8,), max_events=500)
    wanted = strata(whole.train.samples, 4)
    torch.testing.assert_close(wanted.mean(0), shapes_of(whole.train.samples).mean(0), atol=1e-12, rtol=0)
    away = {}
    for start in ("strata", "random"):
        model = DualPQC.for_dataset(whole, start=start, latent_size=2, seed=1)
        images = model.images().detach()
        away[start] = (images - wanted).abs().sum(1).max().item()
        assert all(parameter.grad is None for parameter in model.parameters())
        assert (model.image_probabilities() - 0.25).abs().max() < (0.1 if start == "strata" else 1)
    assert away["strata"] < 0.15
    assert away["random"] > 0.5


# backends


def test_images_from_shots_are_frequencies_around_the_exact_ones(data: Dataset) -> None:
    model = DualPQC.for_dataset(data, seed=1, initial_range=1.5)
    images, p = model.images(data.conditions[0]).detach(), model.image_probabilities(data.conditions[0]).detach()
    model.backend = make_backend("statevector", shots=2000)
    for exact, found in (
        (images, model.images(data.conditions[0], generator=new_generator(0))),
        (p, model.image_probabilities(data.conditions[0], new_generator(0))),
    ):
        assert ((found * 2000).round() / 2000 - found).abs().max() < 1e-9
        error = (exact * (1 - exact) / 2000).sqrt()
        assert ((found - exact).abs() < 5 * error + 1e-9).all()
    torch.manual_seed(0)
    first = model.sample(50, data.conditions[0], new_generator(4))
    assert torch.equal(first, model.sample(50, data.conditions[0], new_generator(4)))


def test_training_from_shots_learns_which_image_is_frequent() -> None:
    """Two images in proportion 3 to 1: probabilities of PQC1 and images of PQC2 by parameter shift from shots."""
    kind = (torch.arange(400) % 4 == 0).long()
    shapes = torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=F64)
    events = table(shapes[kind] * (100 + 2 * normal((400, 1), new_generator(0), dtype=F64)))
    model = DualPQC.for_dataset(events, n_images=2, pqc1_layers=1, pqc2_layers=2, seed=1)
    model.backend = make_backend("statevector", shots=500)
    fit(model, events, MMD(bandwidths=[0.5, 1.0]), steps=60, batch_size=64, learning_rate=0.1, validate_every=20)
    model.backend = None
    images, p = model.images().detach(), model.image_probabilities().detach()
    which = nearest(shapes, images)
    assert sorted(which.tolist()) == [0, 1]
    assert (images[which] - shapes).abs().max() < 0.07
    assert p[which][0].item() == pytest.approx(0.75, abs=0.08)


@pytest.mark.parametrize(
    "backend",
    [
        {"kind": "statevector", "shots": 100},
        {"kind": "density_matrix", "noise": {"depolarizing": 0.01}},
        {"kind": "trajectories", "noise": {"depolarizing": 0.01}, "n_trajectories": 8},
        {"kind": "pennylane"},
    ],
    ids=lambda options: "-".join(map(str, options.values()))[:20],
)
def test_it_runs_on_every_kind_of_backend(data: Dataset, backend: dict[str, object]) -> None:
    model = DualPQC.for_dataset(data, n_images=2, pqc2_layers=1, latent_size=1)
    model.backend = make_backend(**backend)
    assert model.sample(5, data.conditions[0], new_generator(0)).isfinite().all()
    events = model._weighted(4, data.condition_transform(data.conditions[:4]), new_generator(0))
    assert events.weights.sum().item() == pytest.approx(1, abs=1e-6)
    events.values.sum().backward()
    assert model.weights2.grad.abs().max() > 0


# training


def test_adversarial_training_sees_images_and_probabilities(data: Dataset) -> None:
    model = DualPQC.for_dataset(data, seed=1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(model, data, Adversarial(), steps=3, batch_size=32, keep="last")
    assert all((before[name] != p).any() for name, p in model.named_parameters())


def test_training_goes_down_and_is_kept(data: Dataset, tmp_path) -> None:
    model = DualPQC.for_dataset(data, seed=1, latent_size=2)
    result = fit(model, data, MMD(), steps=60, batch_size=64, learning_rate=0.1, log_every=1)
    losses = [record["loss"] for record in result.history]
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:5])
    save_generator(tmp_path / "model.safetensors", model)
    loaded = load_generator(tmp_path / "model.safetensors")
    assert torch.equal(loaded.images(data.conditions[0]), model.images(data.conditions[0]))
    with pytest.warns(ExtrapolationWarning, match="DualPQC was trained from"):
        model.sample(2, 10 * data.conditions.amax(0))


# the total energy


def test_the_total_energy_follows_the_incident_one() -> None:
    whole = load_calorimeter(grid=(8,))
    model = DualPQC.for_dataset(whole)
    for low, high in ((10e3, 20e3), (80e3, 100e3)):
        test = whole.test
        chosen = test.take(((test.conditions >= low) & (test.conditions < high))[:, 0].nonzero()[:, 0])
        ours = model.sample(len(chosen), chosen.conditions, new_generator(0)).sum(1) / chosen.conditions[:, 0]
        true = chosen.samples.sum(1) / chosen.conditions[:, 0]
        assert stats.ks_2samp(ours.numpy(), true.numpy()).pvalue > 1e-3


def test_the_fit_is_the_maximum_likelihood() -> None:
    rng = new_generator(0)
    totals = torch.exp(2 + 0.3 * normal((500,), rng, dtype=F64))
    mean, width = EnergyScale.fit(totals, None).moments(None)
    shape, _, scale = stats.lognorm.fit(totals.numpy(), floc=0)
    assert mean.item() == pytest.approx(math.log(scale), rel=1e-4)
    assert width.item() == pytest.approx(shape, rel=1e-3)
    c = 2 * uniform((20_000, 1), rng, dtype=F64) - 1
    logs = 1 + 2 * c[:, 0] - 0.5 * c[:, 0] ** 2 + torch.exp(-2 + c[:, 0]) * normal((20_000,), rng, dtype=F64)
    mean, width = EnergyScale.fit(logs.exp(), c).moments(torch.tensor([[0.0], [0.8]], dtype=F64))
    torch.testing.assert_close(mean, torch.tensor([1.0, 2.28], dtype=F64), atol=0.02, rtol=0)
    torch.testing.assert_close(width, torch.tensor([-2.0, -1.2], dtype=F64).exp(), atol=0.01, rtol=0)


@given(st.integers(0, 2**31), st.integers(0, 2), st.floats(0, 5))
@settings(max_examples=20, deadline=None)
def test_training_cannot_carry_the_total_away(seed: int, n_conditions: int, size: float) -> None:
    rng = new_generator(seed)
    c = normal((300, n_conditions), rng, dtype=F64) if n_conditions else None
    scale = EnergyScale.fit(torch.exp(0.1 * normal((300,), rng, dtype=F64)), c)
    mean, width = (x.detach() for x in scale.moments(c))
    with torch.no_grad():
        for parameter in scale.parameters():
            parameter.add_(size * normal(tuple(parameter.shape), rng, dtype=F64))
    moved, stretched = scale.moments(c)
    assert ((moved - mean).abs() <= width * (1 + 1e-9)).all()
    assert ((stretched / width).log2().abs() <= 1 + 1e-9).all()
    assert scale(300, c, rng).isfinite().all()


def test_empty_events_have_no_scale() -> None:
    totals = torch.tensor([0.0, 2.0, 2.0, 0.0], dtype=F64)
    mean, width = EnergyScale.fit(totals, None).moments(None)
    assert mean.item() == pytest.approx(math.log(2))
    assert width.item() == pytest.approx(1e-6)
    with pytest.raises(ValueError, match="^all events are empty: there is no total energy to learn$"):
        EnergyScale.fit(torch.zeros(5), None)


def test_an_empty_pixel_has_a_finite_logarithm() -> None:
    still = Circuit(1, [Gate("RY", 0, [0])])
    model = DualPQC(still, still, 2, transform=Log([0.0, 0.0]))
    with torch.no_grad():
        model.weights2.zero_()  # all energy in one pixel
    events = model._weighted(4, None, new_generator(0))
    assert events.values.isfinite().all()
    events.values.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.transform = Log([1.0, 1.0])
    assert (model.sample(10) == 0).any()


# mistakes


@pytest.mark.parametrize("pixels", [1, 3, 6, 12])
def test_images_have_a_power_of_two_of_pixels(pixels: int) -> None:
    line = rf"^the data have {pixels} features; a dual-PQC's image has 2, 4, 8, ... pixels, a power of two$"
    with pytest.raises(ValueError, match=line):
        DualPQC.for_dataset(table(torch.ones(40, pixels) + torch.rand(40, pixels)))


def test_what_is_no_image_is_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"^feature 'x1' reaches -1; pixels of an image are never negative$"):
        DualPQC.for_dataset(table(torch.tensor([[1.0, -1.0]] * 40)))
    muons = muon_events(n=60, features=("energy", "pt"))
    with pytest.raises(ValueError, match=r"^feature 'energy' is bounded above by its transform; energies of pixels"):
        DualPQC.for_dataset(muons)
    with pytest.raises(ValueError, match="^feature 'eta' reaches|^feature 'energy' is bounded"):
        DualPQC.for_dataset(muon_events(n=60, features=("energy", "eta")))
    with pytest.raises(ValueError, match=r"^n_images is 5; a power of two is needed$"):
        DualPQC.for_dataset(data, n_images=5)


def test_circuits_that_do_not_fit_are_refused() -> None:
    one, two, three = (dual_pqc_circuit(n, 1)[0] for n in (1, 2, 3))
    with pytest.raises(ValueError, match=r"^pqc2 has 1 wires; 4 pixels need 2$"):
        DualPQC(one, one, 4)
    with pytest.raises(ValueError, match=r"^pqc1 tells 8 images apart, more than the 4 states that pqc2 on 2 wires"):
        DualPQC(three, two, 4)
    with pytest.raises(ValueError, match=r"^latent_size is -1; it must not be negative$"):
        DualPQC(one, two, 4, latent_size=-1)
    with pytest.raises(ValueError, match=r"^uploads2 is \[2\]; inputs are numbered from 0 to 1$"):
        DualPQC(one, two, 4, 1, latent_size=1, uploads2=[2])
    with pytest.raises(ValueError, match=r"^3 of 3 angles of pqc1 are uploads; at least one must be left$"):
        DualPQC(one, two, 4, 1, uploads1=[0, 0, 0])
    with pytest.raises(ValueError, match=r"^initial_range is 0; a positive, finite angle in radians is needed$"):
        DualPQC(one, two, 4, initial_range=0)


@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein-gp", "least-squares"])
def test_every_game_takes_the_weighted_set(data: Dataset, loss: str) -> None:
    model = DualPQC.for_dataset(data, n_images=2, pqc2_layers=1)
    result = fit(model, data, Adversarial(loss), steps=2, batch_size=16, log_every=1)
    assert all(math.isfinite(record["discriminator_loss"]) for record in result.history)


@pytest.mark.parametrize("name", ["dual-pqc", "dual-pqc-cluster-means"])
def test_the_configurations_are_valid(name: str) -> None:
    assert any(model.generator.kind == "dual_pqc" for model in load_config(name).models.values())


def test_the_page_shows_what_works() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models" / "dual_pqc.md").read_text()
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert resolve(read_yaml(config, "page")).models["dual-pqc"].generator.kind == "dual_pqc"
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict[str, torch.Tensor] = {}
    exec(code, found)
    assert found["images"].shape == (4, 8)
    assert found["showers"].shape == (1000, 8)


def test_many_images_under_many_conditions_are_drawn_and_the_gradient_is_unbiased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = load_calorimeter(grid=(4,), max_events=200)
    model = DualPQC.for_dataset(data, seed=2, n_images=4, conditional=False)
    condition = data.condition_transform(data.conditions[:1]).expand(4000, -1)

    def slope(n: int) -> torch.Tensor:
        events = model._weighted(n, condition[:n], new_generator(1))
        assert float(events.weights.detach().sum()) == pytest.approx(1)
        mean = (events.weights * events.values[:, 0]).sum()
        return torch.cat([g.flatten() for g in torch.autograd.grad(mean, (model.weights1, model.weights2))])

    exact = slope(1000)
    monkeypatch.setattr("qgen.models.dual_pqc.EVENTS_AT_ONCE", 1)
    assert len(model._weighted(4000, condition, new_generator(1)).values) == 4000
    assert (slope(4000) - exact).abs().max() < 0.15 * exact.abs().max()
