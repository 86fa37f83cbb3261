from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pennylane as qml
import pytest
import torch
from scipy import integrate, stats

from circuits.cv import CVNeuralNetworkLayers, Fock, Gaussian, TruncationWarning
from qgen import fit, load_generator, save_generator
from qgen.data import Dataset, Feature, muon_events
from qgen.data.whiten import Whiten
from qgen.models import CVBornMachine
from qgen.random import new_generator, normal
from qgen.training import MMD, NLL, Adversarial
from qgen.training.objectives import Batch

F64 = torch.float64


def banana(n: int = 2000, seed: int = 0) -> Dataset:
    """Two uncorrelated features, the second near the square of the first; the condition moves both."""
    rng = new_generator(seed)
    first = normal((n,), rng, dtype=F64)
    condition = torch.randint(0, 3, (n, 1), generator=rng).to(F64)
    second = first.square() + 0.4 * normal((n,), rng, dtype=F64)
    samples = torch.stack([first, second], 1) + condition
    return Dataset(samples, (Feature("a"), Feature("b")), condition, (Feature("c"),))


def bare(data: Dataset) -> Dataset:
    return Dataset(data.samples, data.features)


def bent(n_features: int = 2, n_conditions: int = 0, **options: object) -> CVBornMachine:
    """A machine far from the vacuum, its states well below the cutoff."""
    model = CVBornMachine(n_features, n_conditions, **{"seed": 3, "initial_range": 0.4, "cutoff": 20, **options})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(5.0 if name == "slopes" else 1.0)
    return model


def grid(model: CVBornMachine, edge: float = 9.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of an axis and the density on its square."""
    axis = torch.linspace(-edge, edge, 361, dtype=F64)
    return axis, model.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(361, 361)


@pytest.mark.parametrize("options", [{}, {"nonlinearity": "cubic"}, {"ancillas": 1}, {"loss": 0.2, "cutoff": 12}])
def test_density_of_one_mode_integrates_to_one(options: dict[str, object]) -> None:
    model = bent(1, **options)
    total, _ = integrate.quad(lambda x: model.log_prob(torch.tensor([[x]], dtype=F64)).exp().item(), -12, 12, limit=200)
    assert total == pytest.approx(1, abs=1e-6)


def test_density_of_two_modes_integrates_to_one_and_is_not_normal() -> None:
    model = bent(initial_range=0.6, cutoff=30)
    axis, density = grid(model, 14.0)
    assert np.trapezoid(np.trapezoid(density, axis), axis) == pytest.approx(1, abs=1e-6)
    first = torch.trapezoid(density, axis)
    mean = torch.trapezoid(first * axis, axis)
    width = torch.trapezoid(first * (axis - mean) ** 2, axis).sqrt()
    normal_density = torch.exp(-0.5 * ((axis - mean) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    assert torch.trapezoid((first - normal_density).abs(), axis) > 0.02


@pytest.mark.parametrize("options", [{}, {"ancillas": 1, "cutoff": 12}, {"loss": 0.1, "cutoff": 10}])
def test_samples_follow_the_density(options: dict[str, object]) -> None:
    """A KS test of each mode, and a chi-square test of quadrants cut at the medians."""
    model = bent(**options)
    samples = model.sample(20_000, generator=new_generator(1))
    axis, density = grid(model)
    for mode in range(2):
        marginal = torch.trapezoid(density, axis, dim=1 - mode).numpy()
        cumulative = integrate.cumulative_trapezoid(marginal, axis.numpy(), initial=0)
        found = stats.kstest(samples[:, mode].numpy(), lambda x, c=cumulative: np.interp(x, axis.numpy(), c))
        assert found.pvalue > 1e-3
    cells = torch.quantile(samples, torch.tensor([0.25, 0.5, 0.75], dtype=F64), dim=0)
    cut = [torch.bucketize(axis, cells[:, mode].contiguous()) for mode in range(2)]
    expected = torch.zeros(4, 4, dtype=F64).index_put_(
        (cut[0][:, None].expand(361, 361), cut[1].expand(361, 361)), density * (axis[1] - axis[0]) ** 2, accumulate=True
    )
    where = [torch.bucketize(samples[:, mode].contiguous(), cells[:, mode].contiguous()) for mode in range(2)]
    counts = torch.bincount(4 * where[0] + where[1], minlength=16).double().reshape(4, 4)
    # the density is summed on a grid, whose lines through a cell's edge count whole
    assert ((counts / 20_000 - expected).abs() < 0.012).all()


def test_without_kerr_gates_it_is_the_normal_distribution_of_pennylane() -> None:
    """The layers on the vacuum, their first interferometer at the end."""
    model = bent(3, layers=2, nonlinearity="none")
    assert isinstance(model.simulator, Gaussian)
    layers = CVNeuralNetworkLayers(2, 3)
    padded = torch.cat([model.weights.detach(), torch.zeros(6, dtype=F64)])
    t1, p1, v1, r, pr, t2, p2, v2, a, pa, _ = (part.numpy() for part in layers.split(padded))

    def state() -> None:
        for layer in range(2):
            if layer:
                qml.Interferometer(t1[layer], p1[layer], v1[layer], wires=range(3))
            for wire in range(3):
                qml.Squeezing(r[layer, wire], pr[layer, wire], wires=wire)
            qml.Interferometer(t2[layer], p2[layer], v2[layer], wires=range(3))
            for wire in range(3):
                qml.Displacement(a[layer, wire], pa[layer, wire], wires=wire)
        qml.Interferometer(t1[0], p1[0], v1[0], wires=range(3))

    @qml.qnode(qml.device("default.gaussian", wires=3))
    def product(i: int, j: int) -> object:
        state()
        quadratic = np.zeros((7, 7))
        quadratic[1 + 2 * i, 1 + 2 * j] += 0.5
        quadratic[1 + 2 * j, 1 + 2 * i] += 0.5
        return qml.expval(qml.PolyXP(quadratic, wires=range(3)))

    @qml.qnode(qml.device("default.gaussian", wires=3))
    def mean_of(i: int) -> object:
        state()
        return qml.expval(qml.QuadX(i))

    mean = np.array([float(mean_of(i)) for i in range(3)])
    square = np.array([[float(product(i, j)) for j in range(3)] for i in range(3)])
    expected = stats.multivariate_normal(mean, square - np.outer(mean, mean))
    x = 2 * normal((50, 3), new_generator(0), dtype=F64)
    np.testing.assert_allclose(model.log_prob(x).numpy(), expected.logpdf(x.numpy()), rtol=1e-8)
    model.simulator = Fock(40, basis="total")
    x = 0.5 * x
    np.testing.assert_allclose(model.log_prob(x).numpy(), expected.logpdf(x.numpy()), rtol=1e-4)


def test_an_unread_mode_is_integrated_out() -> None:
    both, one = bent(2), bent(1, ancillas=1)
    assert torch.equal(both.weights, one.weights)
    axis, density = grid(both)
    expected = torch.trapezoid(density, axis)
    torch.testing.assert_close(one.log_prob(axis[:, None]).exp(), expected, atol=1e-8, rtol=1e-6)
    (state,) = one._states(one.weights)
    assert state.quadratures()[1].prod() > 1.01  # more than a minimal uncertainty


def test_loss_takes_a_normal_distribution_to_the_vacuum() -> None:
    half, all_but = bent(1, nonlinearity="none", loss=0.5), bent(1, nonlinearity="none", loss=0.999999)
    x = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
    vacuum = torch.distributions.Normal(0.0, 1.0).log_prob(x[:, 0])
    torch.testing.assert_close(all_but.log_prob(x), vacuum, atol=1e-2, rtol=0)
    exact = half.log_prob(x)
    half.simulator = Fock(25)
    torch.testing.assert_close(half.log_prob(x), exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("encoding", ["displacements", "weights"])
def test_likelihood_gradient(encoding: str) -> None:
    model = bent(2, 1, layers=1, cutoff=6, encoding=encoding)
    values = normal((4, 2), new_generator(0), dtype=F64)
    condition = torch.tensor([[0.3], [0.3], [-0.5], [1.0]], dtype=F64)

    def likelihood(weights: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        stand_in = {"weights": weights, "slopes": slopes}
        return torch.func.functional_call(
            _LogProb(model), {f"model.{k}": v for k, v in stand_in.items()}, (values, condition)
        )

    assert torch.autograd.gradcheck(likelihood, (model.weights, model.slopes), atol=1e-6)


class _LogProb(torch.nn.Module):
    def __init__(self, model: CVBornMachine) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        return self.model._log_prob(values, condition)


def test_gradient_of_mmd_is_that_of_finite_differences() -> None:
    """The same uniform numbers on either side."""
    model = bent(2, layers=1, cutoff=10)
    batch = Batch(bare(banana(64)).samples / 2)

    def loss() -> torch.Tensor:
        return MMD().loss(model, batch, new_generator(5))

    (slope,) = torch.autograd.grad(loss(), model.weights)
    for place in range(0, len(model.weights), 3):
        found = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                model.weights[place] += step
                found.append(loss())
                model.weights[place] -= step
        assert slope[place].item() == pytest.approx(((found[0] - found[1]) / 2e-5).item(), abs=2e-6, rel=1e-4)


@pytest.mark.parametrize("encoding", ["displacements", "weights"])
@pytest.mark.parametrize("conditions", [[0.0] * 6 + [1.0] * 5, [0.0] * 40 + list(range(1, 20)), list(range(12))])
def test_events_under_the_same_condition_share_a_state(encoding: str, conditions: list[float]) -> None:
    """Equal, much more frequent and all different ones: the density is that of one event at a time."""
    model = bent(2, 1, layers=1, cutoff=10, encoding=encoding)
    with torch.no_grad():
        model.slopes.mul_(0.1)
    condition = torch.tensor(conditions, dtype=F64)[:, None]
    condition = condition[torch.randperm(len(condition), generator=new_generator(0))] / len(condition)
    values = normal((len(condition), 2), new_generator(1), dtype=F64)
    alone = torch.cat([model.log_prob(values[i : i + 1], condition[i : i + 1]) for i in range(len(values))])
    torch.testing.assert_close(model.log_prob(values, condition), alone)
    drawn = model.sample(len(condition), condition, new_generator(2))
    assert drawn.unique(dim=0).shape == drawn.shape
    assert len(model._grouped(condition, len(condition))[1].unique()) == len(condition)


@pytest.mark.parametrize("encoding", ["displacements", "weights"])
def test_samples_under_conditions_have_the_means_of_their_states(encoding: str) -> None:
    model = bent(2, 1, encoding=encoding, layers=1)
    conditions = torch.tensor([[-1.0], [1.0]], dtype=F64)
    (states,) = model._states(*model._prepared(conditions))
    means, variances = (part.detach() for part in states.quadratures())
    rows = torch.arange(8000) % 2
    samples = model.sample(8000, conditions[rows], new_generator(0))
    found = torch.stack([samples[rows == row].mean(0) for row in range(2)])
    assert ((found - means).abs() < 5 * (variances / 4000).sqrt()).all()
    assert (means[0] - means[1]).abs().max() > 0.1


def test_the_likelihood_teaches_what_no_normal_distribution_can() -> None:
    data = bare(banana())
    kept = {}
    for nonlinearity in ("none", "kerr"):
        model = CVBornMachine.for_dataset(data, frame="whitened", nonlinearity=nonlinearity, cutoff=10)
        result = fit(model, data, NLL(), steps=80, learning_rate=0.05, batch_size=256)
        assert result.remarks == ()
        kept[nonlinearity] = model.log_prob(data.test.samples).mean().item()
    assert kept["kerr"] > kept["none"] + 0.2


def test_mmd_and_a_game_train_it_under_conditions() -> None:
    data = banana(600)
    model = CVBornMachine.for_dataset(data, frame="whitened", cutoff=8, layers=1)
    start = model.log_prob(data.test.samples, data.test.conditions).mean()
    fit(model, data, MMD(), steps=40, learning_rate=0.05, batch_size=128)
    assert model.log_prob(data.test.samples, data.test.conditions).mean() > start + 0.05
    result = fit(model, data, Adversarial(discriminator={"kind": "mlp", "hidden": [8]}), steps=2, batch_size=16)
    assert result.steps == 2


def test_the_gaussian_frame_starts_as_a_copula() -> None:
    """Without weights, the state is the vacuum: the frame's normal numbers sent backwards."""
    data = muon_events(n=1000, features=("energy", "pt"))
    model = CVBornMachine.for_dataset(data)
    with torch.no_grad():
        model.weights.zero_()
        model.slopes.zero_()
    test = data.test
    frame = model.transform(test.samples, test.conditions)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(frame).sum(1)
    expected = expected + model.transform.log_abs_det(test.samples, test.conditions)
    torch.testing.assert_close(model.log_prob(test.samples, test.conditions), expected)


def test_truncation_is_warned_of_with_a_cutoff_that_would_do() -> None:
    model = bent(1, cutoff=4, initial_range=0.8)
    with pytest.warns(
        TruncationWarning, match=r"CVBornMachine truncated: states lost up to .* at cutoff 4; .*cutoff \d+"
    ):
        model.sample(10, generator=new_generator(0))


def test_cutoff_that_fits() -> None:
    assert [CVBornMachine(n).cutoff for n in (1, 3, 4, 8)] == [12, 12, 10, 5]
    assert CVBornMachine(3, loss=0.1).cutoff == 7
    assert CVBornMachine(2, ancillas=2).cutoff == 10


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"layers": 0}, "n_layers is 0"),
        ({"ancillas": -1}, "ancillas is -1; an integer of at least 0 is needed"),
        ({"cutoff": 1}, "cutoff is 1; an integer of at least 2 is needed"),
        ({"basis": "all"}, "basis is 'all'; allowed are mode, total"),
        ({"loss": 1.0}, r"loss is 1.0; a share of the photons from 0 to below 1"),
        ({"nonlinearity": "quartic"}, "nonlinearity is 'quartic'; allowed are kerr, cubic, none"),
        ({"encoding": "angles"}, "encoding is 'angles'; allowed are displacements, weights"),
        ({"initial_range": 0.0}, "initial_range is 0.0; a positive, finite number"),
        ({"norm_penalty": -1.0}, "norm_penalty is -1.0; a number of at least 0 is needed"),
        ({"mesh": "round"}, "round"),
    ],
)
def test_bad_options(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        CVBornMachine(2, 1, **options)


def test_bad_frame() -> None:
    with pytest.raises(ValueError, match="frame is 'round'; allowed are gaussian, whitened"):
        CVBornMachine.for_dataset(bare(banana(100)), frame="round")


def test_save_and_load_with_every_option(tmp_path: Path) -> None:
    data = banana(100)
    model = CVBornMachine.for_dataset(
        data,
        frame="whitened",
        ancillas=1,
        cutoff=5,
        nonlinearity="cubic",
        encoding="weights",
        mesh="triangular",
        loss=0.1,
    )
    save_generator(tmp_path / "model.safetensors", model)
    loaded = load_generator(tmp_path / "model.safetensors")
    assert loaded.arguments() == model.arguments()
    c = data.conditions[:20]
    assert torch.equal(loaded.sample(20, c, new_generator(0)), model.sample(20, c, new_generator(0)))


def test_whitening() -> None:
    values = banana(500).samples
    whiten = Whiten.fit(values)
    there = whiten(values)
    torch.testing.assert_close(there.T.cov(), torch.eye(2, dtype=F64))
    torch.testing.assert_close(whiten.inverse(there), values)
    torch.testing.assert_close(there[:, 0], (values[:, 0] - values[:, 0].mean()) / values[:, 0].std())
    jacobian = torch.autograd.functional.jacobian(lambda x: whiten(x[None])[0], values[0])
    torch.testing.assert_close(whiten.log_abs_det(values)[0], torch.linalg.slogdet(jacobian).logabsdet)
    with pytest.raises(ValueError, match="features are constant or linearly dependent; leave one out"):
        Whiten.fit(torch.ones(5, 2, dtype=F64))
    with pytest.raises(ValueError, match="1 events; at least 2"):
        Whiten.fit(torch.ones(1, 2, dtype=F64))
    with pytest.raises(ValueError, match=r"factor has 0.0 on its diagonal at feature 0"):
        Whiten([0.0], [[0.0]])
