"""The style-based generator against PennyLane and against the weights and samples that were published with it."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import pytest
import torch
import yaml

from circuits.backends import DensityMatrix, Statevector
from experiments.config import resolve
from qgen import fit, load_generator, save_generator
from qgen.data import Dataset, Feature, gaussian_events
from qgen.data.transforms import MinMax
from qgen.models import StyleGenerator
from qgen.models.style import style_circuit
from qgen.random import new_generator, normal, uniform
from qgen.training import MMD, Adversarial

# github.com/QTI-TH/style-qgan, results/1Dgamma and results/3Dgaussian_posdef, rounded
GAMMA = "0.17445 -0.27533 0.2191 -0.30569 0.047924 -0.16428 0.31738 -0.44575 -0.5783 0.076569"
GAUSSIAN = (
    "0.024099 -0.3678 0.073612 0.06674 0.039276 -0.62141 0.094086 0.1147 -0.031693 -0.5831 0.063384 0.12055 0.10494 "
    "-0.65782 -0.049038 0.032816 0.081261 -0.37047 -0.076627 -0.14957 0.034866 -0.41427 -0.017147 0.077493 0.068139 "
    "-0.17887 -0.00049437 -0.047223 0.13194 -0.53448 0.14939 -0.52904 0.17479 -0.56358"
)


def with_weights(model: StyleGenerator, weights: str) -> StyleGenerator:
    with torch.no_grad():
        model.style.copy_(torch.tensor([float(w) for w in weights.split()], dtype=torch.float64).reshape(-1, 2))
    return model


def published_gamma() -> StyleGenerator:
    return with_weights(StyleGenerator(1, layers=2, latent_size=3), GAMMA)


def published_gaussian() -> StyleGenerator:
    return with_weights(StyleGenerator(3, layers=2, latent_size=5), GAUSSIAN)


@pytest.mark.parametrize(
    ("n_features", "layers", "published_count"), [(3, 2, 34), (3, 4, 62), (1, 2, 10), (2, 4, 40), (3, 10, 146)]
)
def test_parameter_counts_are_the_published_ones(n_features: int, layers: int, published_count: int) -> None:
    """As in the names and lengths of the published files of parameters."""
    assert StyleGenerator(n_features, layers=layers).n_parameters == published_count


def transcribed(weights: list[float], z: list[float], n_wires: int, layers: int) -> list[float]:
    """The published generator in PennyLane, its weights taken one by one in the published order."""
    import pennylane as qml

    left, turn = list(weights), 0

    def angle() -> float:
        nonlocal turn
        value = left.pop(0) * z[turn % len(z)] + left.pop(0)
        turn += 1
        return value

    @qml.qnode(qml.device("default.qubit", wires=n_wires))
    def circuit():
        for layer in range(layers):
            for q in range(n_wires):
                qml.RY(angle(), q)
                qml.RZ(angle(), q)
            if layer in (1, 5, 9) and n_wires == 3:
                qml.CRY(angle(), [0, 1])
                qml.CRY(angle(), [0, 2])
            if layer in (3, 7, 11) and n_wires == 3:
                qml.CRY(angle(), [1, 2])
                qml.CRY(angle(), [2, 0])
        for q in range(n_wires):
            qml.RY(angle(), q)
        return [qml.expval(qml.PauliZ(q)) for q in range(n_wires)]

    values = [-float(v) for v in circuit()]
    assert not left
    return values[::-1]


@pytest.mark.parametrize(("n_wires", "layers", "latent_size"), [(3, 2, 5), (3, 4, 5), (3, 9, 2), (1, 2, 3)])
def test_events_are_those_of_a_transcription_to_pennylane(n_wires: int, layers: int, latent_size: int) -> None:
    model = StyleGenerator(n_wires, layers=layers, latent_size=latent_size, initial_range=1.0, seed=4)
    z = model.latent(3, new_generator(0))
    found = model.read(model.expectations(z, None, new_generator(0)))
    weights = model.style.flatten().tolist()
    for row, one in zip(found.tolist(), z.tolist(), strict=True):
        assert row == pytest.approx(transcribed(weights, one, n_wires, layers), abs=1e-12)


def test_published_gamma_weights_give_the_published_events() -> None:
    """Against the mean, spread and deciles of the 100,000 published events."""
    x = published_gamma().sample(100_000, generator=new_generator(0)).flatten()
    assert x.mean().item() == pytest.approx(-0.7497, abs=0.004)
    assert x.std().item() == pytest.approx(0.2491, abs=0.004)
    deciles = torch.quantile(x, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    assert deciles.tolist() == pytest.approx([-0.9736, -0.8279, -0.4140], abs=0.006)


def test_published_gaussian_weights_give_the_published_events() -> None:
    """Against mean, spread and correlations of the 100,000 published events."""
    x = published_gaussian().sample(100_000, generator=new_generator(0))
    assert x.mean(0).tolist() == pytest.approx([-0.0059, -0.0124, -0.0145], abs=0.003)
    assert x.std(0).tolist() == pytest.approx([0.1784, 0.1761, 0.1685], abs=0.002)
    correlation = torch.corrcoef(x.T)
    found = [correlation[0, 1].item(), correlation[0, 2].item(), correlation[1, 2].item()]
    assert found == pytest.approx([0.225, 0.499, 0.151], abs=0.012)


def test_the_manuals_examples_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models" / "style.md").read_text(encoding="utf-8")
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert resolve(yaml.safe_load(config)).models["style"].generator.kind == "style"
    example, speed = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "docs/models/style.md", "exec"), {})
    exec(compile(speed.replace("100_000", "100"), "docs/models/style.md", "exec"), {})


def test_entangling_beyond_three_qubits() -> None:
    pairs = [gate.wires for gate in style_circuit(5, 4).gates if gate.name == "CRY"]
    assert pairs == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 0)]
    assert [gate.wires for gate in style_circuit(2, 4).gates if gate.name == "CRY"] == [(0, 1), (1, 0)]


@pytest.mark.parametrize("n_conditions", [0, 2])
@pytest.mark.parametrize(("n_features", "layers"), [(1, 1), (3, 2), (4, 4)])
def test_a_gradient_reaches_every_single_weight(n_features: int, layers: int, n_conditions: int) -> None:
    model = StyleGenerator(n_features, n_conditions, layers=layers, initial_range=1.0, seed=1)
    condition = uniform((40, n_conditions), new_generator(1), dtype=torch.float64) if n_conditions else None
    target = normal((40, n_features), new_generator(2), dtype=torch.float64)
    (model._sample(40, condition, new_generator(3)) - target).square().sum().backward()
    # the phase before the last rotations of a single layer does not matter for a state along the axis
    assert all((parameter.grad != 0).all() for parameter in model.parameters())


def test_gradient_is_that_of_finite_differences() -> None:
    model = StyleGenerator(2, 1, layers=2, latent_size=3, initial_range=1.0, seed=5)
    z, condition = model.latent(4, new_generator(0)), torch.ones(4, 1, dtype=torch.float64)

    def events(style: torch.Tensor, condition_style: torch.Tensor) -> torch.Tensor:
        replaced = {"style": style, "condition_style": condition_style}
        angles = torch.func.functional_call(
            _Angles(model), {f"model.{k}": v for k, v in replaced.items()}, (z, condition)
        )
        return model.read(model.backend.expval(model.circuit, angles, model.observables))

    weights = tuple(p.detach().clone().requires_grad_() for p in (model.style, model.condition_style))
    assert torch.autograd.gradcheck(events, weights)


class _Angles(torch.nn.Module):
    def __init__(self, model: StyleGenerator) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.model.angles(z, condition)


def test_events_stay_within_the_range_of_the_training_events() -> None:
    events = gaussian_events(n=500)
    model = StyleGenerator.for_dataset(events, initial_range=3.0)
    x = model.sample(5000, generator=new_generator(0))
    low, high = events.train.samples.aminmax(dim=0)
    slack = 1e-6 * (high - low)
    assert (x >= low - slack).all()
    assert (x <= high + slack).all()
    assert (model.read(torch.tensor([[1.2, -1.2, 0.5]])) == torch.tensor([[-1.0, 1.0, -0.5]])).all()


def test_training_events_fill_the_outputs() -> None:
    train = gaussian_events(n=500).train
    for scaling in ("power", "limits"):
        values = StyleGenerator.for_dataset(gaussian_events(n=500), scaling=scaling).transform(train.samples)
        assert values.abs().max() <= 1 + 1e-9
        assert torch.allclose(values.abs().amax(0), torch.ones(3).double()) == (scaling == "power")
    limits = StyleGenerator.for_dataset(gaussian_events(n=500), scaling="limits").transform
    assert isinstance(limits, MinMax)
    assert limits(torch.full((1, 3), -4.0)).tolist() == [[-1.0] * 3]


def test_backends() -> None:
    model = published_gaussian()
    exact = model.sample(50, generator=new_generator(0))
    model.backend = DensityMatrix()
    torch.testing.assert_close(model.sample(50, generator=new_generator(0)), exact, atol=1e-9, rtol=0)
    model.backend = Statevector(dtype=torch.complex64)
    torch.testing.assert_close(model.sample(50, generator=new_generator(0)), exact, atol=1e-5, rtol=0)


def test_adversarial_training_widens_the_start() -> None:
    events = gaussian_events(n=2000)
    model = StyleGenerator.for_dataset(events, scaling="limits", seed=1)
    before = model.sample(1000, generator=new_generator(0)).std(0)
    objective = Adversarial(discriminator={"kind": "mlp", "hidden": [32]}, discriminator_rate=0.01)
    fit(model, events, objective, steps=120, batch_size=128, learning_rate=0.02, keep="last", validate_every=120)
    assert (model.sample(1000, generator=new_generator(0)).std(0) > 2 * before).all()


def test_a_condition_is_learned_and_survives_saving(tmp_path: Path) -> None:
    rng = new_generator(0)
    condition = uniform((1500, 1), rng, dtype=torch.float64) * 100
    samples = 5 * normal((1500, 2), rng, dtype=torch.float64) + torch.cat([condition, -condition], 1)
    events = Dataset(samples, (Feature("a"), Feature("b")), condition, (Feature("c"),))
    model = StyleGenerator.for_dataset(events, layers=2, latent_size=3)
    fit(model, events, MMD(), steps=150, batch_size=128, learning_rate=0.05)
    save_generator(tmp_path / "style.safetensors", model)
    loaded = load_generator(tmp_path / "style.safetensors")
    for asked in (20.0, 80.0):
        x = loaded.sample(2000, torch.tensor([asked]), new_generator(1))
        assert torch.equal(x, model.sample(2000, torch.tensor([asked]), new_generator(1)))
        assert x.mean(0).tolist() == pytest.approx([asked, -asked], abs=12)


def test_a_hundred_thousand_events_of_eight_features_take_seconds() -> None:
    model = StyleGenerator(8, layers=2, latent_size=8)
    model.sample(10)
    started = time.perf_counter()
    assert model.sample(25_000).shape == (25_000, 8)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StyleGenerator(3, layers=0), "n_wires is 3, layers is 0; at least 1 of each"),
        (lambda: StyleGenerator(3, latent_size=0), "latent_size is 0; at least 1"),
        (lambda: StyleGenerator(3, initial_range=math.inf), "initial_range is inf; a positive, finite angle"),
        (lambda: StyleGenerator(0), "n_wires is 0"),
        (
            lambda: StyleGenerator.for_dataset(Dataset(torch.rand(50, 1), (Feature("m"),)), scaling="limits"),
            "scaling is 'limits', but 'm' has none; 'power' needs none",
        ),
        (lambda: StyleGenerator.for_dataset(gaussian_events(n=50), scaling="log"), "allowed are 'power' and 'limits'"),
    ],
)
def test_misuse_is_one_clear_line(make, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
