from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pennylane as qml
import pytest
import torch
from scipy import stats

from circuits import Circuit, Gate, ansatz
from circuits.backends import DensityMatrix, ParameterShift, Sampled, Statevector, make_backend, row_size
from classical_baselines import GaussianCopula
from qgen import fit, load_generator, save_generator
from qgen.data import Dataset, Discretiser, Feature, Gaussianise, load_calorimeter, muon_events, simulate_muon
from qgen.metrics import evaluate
from qgen.models import BornMachine
from qgen.random import new_generator, normal, uniform
from qgen.registry import generator_class
from qgen.training import MMD, NLL, Adversarial
from qgen.training.objectives import Batch

F64 = torch.float64


def square(n: int = 400, seed: int = 0) -> Dataset:
    """Two features on the unit square, the second near the first, whose place follows the condition."""
    rng = new_generator(seed)
    condition = torch.randint(0, 2, (n, 1), generator=rng).to(F64)
    first = 0.5 * uniform((n,), rng, dtype=F64) + 0.5 * condition[:, 0]
    second = (first + 0.1 * normal((n,), rng, dtype=F64)).clamp(0.0, 1.0)
    return Dataset(torch.stack([first, second], 1), (Feature("a"), Feature("b")), condition, (Feature("c"),))


def bare(data: Dataset) -> Dataset:
    """The events without their conditions."""
    return Dataset(data.samples, data.features)


def machine(data: Dataset, **options: object) -> BornMachine:
    return BornMachine.for_dataset(data, **{"bits": 2, "layers": 2, **options})


def test_probabilities_are_those_of_a_pennylane_transcription() -> None:
    """RY and RZ on every wire with the encoding RX before them, CNOT ring, closing rotations; wire 0 leads."""
    data = square()
    model = machine(data)
    n = 4

    @qml.qnode(qml.device("default.qubit", wires=n))
    def circuit(angles: torch.Tensor, inputs: torch.Tensor) -> object:
        angle = iter(angles)
        inner = iter(inputs)
        for _ in range(2):
            for wire in range(n):
                qml.RX(next(inner), wires=wire)
            for wire in range(n):
                qml.RY(next(angle), wires=wire)
                qml.RZ(next(angle), wires=wire)
            for wire in range(n):
                qml.CNOT(wires=[wire, (wire + 1) % n])
        for wire in range(n):
            qml.RY(next(angle), wires=wire)
            qml.RZ(next(angle), wires=wire)
        return qml.probs(wires=range(n))

    condition = torch.tensor([[0.4], [-1.3]], dtype=F64)
    found = model.probabilities(condition, new_generator(0)).detach()
    for row in range(2):
        expected = circuit(model.weights.detach(), condition[row] * (0.1 * model.scales.detach()))
        torch.testing.assert_close(found[row], torch.as_tensor(expected), atol=1e-12, rtol=0)


def test_samples_follow_the_probabilities_under_each_condition() -> None:
    data = square()
    model = machine(data)
    conditions = torch.tensor([[0.0]] * 3000 + [[1.0]] * 5000, dtype=F64)[torch.randperm(8000)]
    cells = model.discretiser.cell_index(data.transform(model.sample(8000, conditions, new_generator(5))))
    exact = model.probabilities(data.condition_transform(torch.tensor([[0.0], [1.0]], dtype=F64)), new_generator(0))
    for value in (0, 1):
        counts = torch.bincount(cells[conditions[:, 0] == value], minlength=16)
        expected = exact[value].detach() * counts.sum()
        assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


def test_density_integrates_to_one_in_physical_units() -> None:
    data = square()
    model = machine(data)
    axis = torch.linspace(-0.5, 1.5, 801, dtype=F64)
    middle = (axis[1:] + axis[:-1]) / 2
    grid = torch.cartesian_prod(middle, middle)
    density = model.log_prob(grid, torch.tensor([1.0], dtype=F64)).exp()
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=0.01)
    assert model.log_prob(torch.tensor([[-0.4, 0.5]], dtype=F64), torch.tensor([1.0], dtype=F64)).item() == -math.inf


def test_gradient_from_shots_is_that_of_the_exact_loss_on_average() -> None:
    data = square()
    exact, shots = machine(data), machine(data)
    shots.backend = make_backend("statevector", shots=50)
    values, condition = data.transform(data.samples[:40]), data.condition_transform(data.conditions[:40])

    def gradient(model: BornMachine, seed: int) -> torch.Tensor:
        loss = MMD(bandwidths=[0.7]).loss(model, Batch(values, condition), new_generator(seed))
        return torch.cat(torch.autograd.grad(loss, [model.weights, model.scales]))

    drawn = torch.stack([gradient(shots, seed) for seed in range(200)])
    pull = (drawn.mean(0) - gradient(exact, 0)) / (drawn.std(0) / math.sqrt(len(drawn)) + 1e-12)
    assert (drawn.std(0) > 0).all()
    assert pull.abs().max() < 4.5


def test_training_from_shots_learns() -> None:
    data = square()
    model = machine(data)
    model.backend = make_backend("statevector", shots=200)
    result = fit(model, data, MMD(), steps=40, batch_size=None, learning_rate=0.1, validate_every=10)
    losses = [r["validation"] for r in result.history if "validation" in r]
    start = MMD().loss(machine(data), _whole(data), new_generator(0)).item()
    assert min(losses) < 0.5 * start


def _whole(data: Dataset):
    return Batch(data.transform(data.samples), data.condition_transform(data.conditions))


def test_condition_moves_the_distribution_after_training() -> None:
    data = square()
    model = machine(data, layers=4)
    fit(model, data, NLL(), steps=200, batch_size=None, learning_rate=0.1)
    low = model.sample(2000, torch.tensor([0.0], dtype=F64), new_generator(1)).mean(0)
    high = model.sample(2000, torch.tensor([1.0], dtype=F64), new_generator(1)).mean(0)
    torch.testing.assert_close(low, torch.tensor([0.25, 0.25], dtype=F64), atol=0.08, rtol=0)
    torch.testing.assert_close(high, torch.tensor([0.75, 0.75], dtype=F64), atol=0.08, rtol=0)


def test_angles_turn_with_the_condition_at_the_rate() -> None:
    data = square()
    slow, fast = machine(data, encoding_rate=0.01), machine(data, encoding_rate=1.0)
    low, high = torch.tensor([[-1.0], [1.0]], dtype=F64)
    turned = [(model.angles(high[None]) - model.angles(low[None]))[0] for model in (slow, fast)]
    torch.testing.assert_close(100 * turned[0], turned[1])
    assert 2 * 0.9 <= turned[1][len(fast.weights) :].min() <= turned[1].max() <= 2 * 1.1
    assert slow.arguments()["encoding_rate"] == 0.01


def test_users_circuit_from_pennylane_trains_saves_and_loads(tmp_path) -> None:
    def own(angles):
        for wire in range(4):
            qml.RY(angles[wire], wires=wire)
        for wire in range(3):
            qml.CRX(angles[4 + wire], wires=[wire, wire + 1])

    data = bare(square())
    circuit = Circuit.from_pennylane(own, 4, 7)
    model = BornMachine(circuit, Discretiser.fit(data.samples, bits=2), transform=None)
    fit(model, data, MMD(), steps=5)
    save_generator(tmp_path / "model.safetensors", model)
    loaded = load_generator(tmp_path / "model.safetensors")
    assert isinstance(loaded, BornMachine)
    assert loaded.circuit == circuit
    assert torch.equal(loaded.sample(50, generator=new_generator(3)), model.sample(50, generator=new_generator(3)))


def test_backend_is_exchanged_without_touching_the_model() -> None:
    model = machine(square())
    condition = torch.tensor([[0.3]], dtype=F64)
    expected = model.probabilities(condition, new_generator(0))
    model.backend = ParameterShift(Statevector())
    torch.testing.assert_close(model.probabilities(condition, new_generator(0)), expected)
    model.backend = Statevector(dtype=torch.complex64)
    torch.testing.assert_close(model.probabilities(condition, new_generator(0)), expected, check_dtype=False)


def test_random_draws_of_the_backend_follow_from_the_generator_that_is_given() -> None:
    data, own = square(), new_generator(3)
    model = machine(data)
    model.backend = ParameterShift(Sampled(Statevector(), 20, own))
    before = own.get_state()

    def drawn(seed: int) -> torch.Tensor:
        probs = model.probabilities(torch.tensor([[0.3]], dtype=F64), new_generator(seed))
        (slope,) = torch.autograd.grad(probs[0, 3], model.weights)
        return torch.cat([probs[0].detach(), slope])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(own.get_state(), before)


def test_shots_are_those_of_the_backend() -> None:
    model = machine(square())
    assert model.shots is None
    model.backend = make_backend("statevector", shots=30)
    assert model.shots == 30
    probs = model.probabilities(torch.tensor([[0.3]], dtype=F64), new_generator(0)).detach()
    torch.testing.assert_close(30 * probs, (30 * probs).round())
    with pytest.raises(ValueError, match="NLL needs probabilities, not frequencies of shots; the model has 30"):
        fit(model, square(), NLL(), steps=1)


def test_a_game_from_shots_on_many_cells_stays_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qgen.generator.CELLS_AT_ONCE", 0)
    model = machine(square())
    model.backend = ParameterShift(Sampled(Statevector(), 20, new_generator(0)))
    result = fit(model, square(), Adversarial(discriminator={"kind": "mlp", "hidden": [8]}), steps=3, batch_size=16)
    assert result.steps == 3


class Elsewhere(Statevector):
    """Counts its jobs."""

    capabilities = replace(Statevector.capabilities, remote=True)
    jobs: int = 0

    def sample(self, *args, **kwargs) -> torch.Tensor:
        self.jobs += 1
        return super().sample(*args, **kwargs)


def test_samples_of_a_machine_elsewhere_are_one_job_for_conditions_asked_equally_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("qgen.models.on_backend.NUMBERS_AT_ONCE", 1)
    model, backend = machine(square()), Elsewhere()
    model.backend = backend
    conditions = torch.arange(20, dtype=F64)[:, None] / 20
    model.sample(20, conditions, new_generator(0))
    assert backend.jobs == 1
    model.sample(30, torch.cat([conditions, conditions[:10]]), new_generator(0))
    assert backend.jobs == 3


def test_a_density_matrix_behind_shots_is_asked_for_few_circuits_at_once() -> None:
    backend = Sampled(DensityMatrix({"gates": {"CNOT": {"depolarizing": 0.05}}}, memory_limit=2**26), 10)
    assert row_size(backend, ansatz.hardware_efficient(4, 1)) > 4**4
    model = machine(square())
    model.backend = backend
    n = 5000
    conditions = torch.linspace(0, 1, n, dtype=F64)[:, None]
    with pytest.raises(ValueError, match="density matrix of 4 qubits, batch of 20000: needs about"):
        backend.probs(model.circuit, model.angles(conditions.repeat(4, 1)).detach())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qgen.models.on_backend.NUMBERS_AT_ONCE", 2**18)
        assert model.sample(4 * n, conditions.repeat_interleave(4, 0), new_generator(0)).shape == (4 * n, 2)


@pytest.mark.parametrize("data", [load_calorimeter(grid=(4,)), muon_events(n=3000)], ids=["showers", "muons"])
def test_it_beats_independent_marginals_on_correlations(data: Dataset) -> None:
    bits = 8 // data.n_features
    conditional = data.condition_features[0].name == "beam_energy"
    model = BornMachine.for_dataset(data, bits=bits, layers=6, entangler="CZ", conditional=conditional, seed=1)
    fit(model, data, MMD(), steps=250, batch_size=None, learning_rate=0.1)
    truth, other = data.test, data.train.take(range(len(data.test)))

    def correlation(generator) -> float:
        samples = generator.sample(len(other), other.conditions, new_generator(1))
        table = evaluate(truth, truth.with_samples(samples, other.conditions), reference=other, metrics=["correlation"])
        return table.to_dict()["correlation"]["value"]

    assert correlation(model) < correlation(generator_class("marginals").for_dataset(data))


def test_what_does_not_fit_is_named() -> None:
    cells = Discretiser.fit(square().samples, bits=2)
    four = ansatz.hardware_efficient(4, 1)
    with pytest.raises(ValueError, match="the circuit has 3 wires, the discretiser 4 bits"):
        BornMachine(ansatz.hardware_efficient(3, 1), cells)
    with pytest.raises(ValueError, match="8 of 8 angles are for encoding"):
        BornMachine(four, cells, n_conditions=1, encodes=[0] * 8)
    with pytest.raises(ValueError, match=r"encodes is \[1\]; columns of the condition are 0 to 0"):
        BornMachine(four, cells, n_conditions=1, encodes=[1])
    with pytest.raises(ValueError, match="encoding_rate is 0.0; a positive, finite number"):
        BornMachine(four, cells, n_conditions=1, encodes=[0], encoding_rate=0.0)
    with pytest.raises(ValueError, match="MMD needs at least 2 shots of a circuit; the model has 1"):
        fit(BornMachine(four, cells, backend=make_backend("statevector", shots=1)), bare(square()), MMD())
    with pytest.raises(ValueError, match="is 40"):
        machine(square(), bits=40)
    with pytest.raises(ValueError, match="qubits|wires|memory"):
        machine(square(), bits=18).probabilities(torch.zeros(1, 1, dtype=F64), new_generator(0))


def test_more_inputs_than_one_take_their_own_columns() -> None:
    rng = new_generator(0)
    data = Dataset(
        uniform((50, 1), rng, dtype=F64),
        (Feature("a"),),
        uniform((50, 2), rng, dtype=F64),
        (Feature("c"), Feature("d")),
    )
    model = machine(data, layers=1)
    assert model.encodes == [0, 0, 1, 1]
    model.angles(torch.tensor([[1.0, 0.0]], dtype=F64))
    gates = [g for g in model.circuit.gates if g.name == "RX"]
    assert [g.angles[0].index for g in gates] == list(range(len(model.weights), len(model.weights) + 4))
    assert Gate("RX", 0, [0]) != gates[0]


CODED = {"ansatz": "cascade", "layers": 2, "start": "plus", "initial_range": 0.5, "code": "gray", "order": "snake"}


def test_a_cascade_on_coded_wires_is_a_pennylane_transcription_read_cell_by_cell() -> None:
    data = square()
    model = machine(data, **CODED)
    n = 4

    @qml.qnode(qml.device("default.qubit", wires=n))
    def circuit(angles: torch.Tensor, inputs: torch.Tensor) -> object:
        angle, inner = iter(angles), iter(inputs)
        for wire in range(n):
            qml.Hadamard(wires=wire)
        for layer in range(2):
            if layer:
                for wire in range(n):
                    qml.RX(next(angle), wires=wire)
            for wire in range(n):
                qml.RY(next(inner), wires=wire)
                for size in range(min(2 - layer, wire) + 1):
                    for controls in combinations(range(wire), size):
                        qml.PauliRot(next(angle), "Z" * size + "Y", wires=[*controls, wire])
        return qml.probs(wires=range(n))

    condition = torch.tensor([[0.4]], dtype=F64)
    found = model.probabilities(condition, new_generator(0)).detach()[0].reshape(4, 4)
    inputs = condition[0] * model.encoding_rate * model.scales.detach()
    states = torch.as_tensor(circuit(model.weights.detach(), inputs))
    gray = ["00", "01", "11", "10"]
    for a in range(4):
        for b in range(4):  # wires of the snake: leading bits of both features, then the others backwards
            bits = gray[a][0] + gray[b][0] + gray[b][1] + gray[a][1]
            assert found[a, b].item() == pytest.approx(states[int(bits, 2)].item(), abs=1e-12)


def test_samples_of_coded_wires_follow_the_probabilities() -> None:
    model = machine(bare(square()), **CODED)
    cells = model.discretiser.cell_index(model.transform(model.sample(8000, None, new_generator(5))))
    expected = 8000 * model.probabilities(None, new_generator(0)).detach()[0]
    assert stats.chisquare(torch.bincount(cells, minlength=16).numpy(), expected.numpy()).pvalue > 1e-3


def test_kernel_on_bits_counts_those_of_the_code() -> None:
    """Against the double sum over pairs of bit strings."""
    data = bare(square(200))
    model = machine(data, **CODED)
    loss = MMD(space="bits", bandwidths=[0.8]).loss(model, Batch(data.transform(data.samples)), new_generator(0))
    strings = model.discretiser.to_bits(torch.arange(16)).double()
    kernel = torch.exp(-torch.cdist(strings, strings).square() / (2 * 0.8**2))
    counts = torch.bincount(model.discretiser.cell_index(data.transform(data.samples)), minlength=16)
    away = model.probabilities(None, new_generator(0))[0] - counts / counts.sum()
    torch.testing.assert_close(loss, away @ kernel @ away)


def test_a_coded_cascade_is_saved_and_loaded(tmp_path: Path) -> None:
    model = machine(square(), **CODED)
    save_generator(tmp_path / "model.safetensors", model)
    loaded = load_generator(tmp_path / "model.safetensors")
    condition = torch.tensor([[0.4]], dtype=F64)
    assert isinstance(loaded, BornMachine)
    assert loaded.arguments() == model.arguments()
    assert torch.equal(
        loaded.sample(50, condition[0], new_generator(0)), model.sample(50, condition[0], new_generator(0))
    )


@pytest.mark.parametrize("ansatz", ["cascade", "hardware_efficient"])
def test_small_angles_start_near_the_uniform_distribution(ansatz: str) -> None:
    model = machine(bare(square()), ansatz=ansatz, start="plus", initial_range=1e-4)
    torch.testing.assert_close(
        model.probabilities(None, new_generator(0)).detach(), torch.full((1, 16), 1 / 16, dtype=F64), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("start", ["zero", "plus"])
def test_identity_blocks_start_as_the_identity_whatever_the_condition(start: str) -> None:
    data = square()
    model = machine(data, ansatz="identity_blocks", start=start, encoding_rate=1e-9, seed=3)
    assert model.weights.abs().max() > 1
    assert len(model.encodes) == 2 * 4
    probabilities = model.probabilities(torch.tensor([[-1.0], [1.0]], dtype=F64), new_generator(0)).detach()
    cells = model.discretiser.by_cell(torch.eye(16, dtype=F64)[:1])
    expected = cells if start == "zero" else torch.full((1, 16), 1 / 16, dtype=F64)
    torch.testing.assert_close(probabilities, expected.expand(2, 16))
    assert not torch.equal(model.weights, machine(data, ansatz="identity_blocks", seed=4).weights)


def test_identity_blocks_learn_and_follow_the_condition() -> None:
    data = square()
    model = machine(data, ansatz="identity_blocks", start="plus")
    fit(model, data, NLL(), steps=100, batch_size=None, learning_rate=0.1)
    low, high = (model.sample(1000, torch.tensor([c], dtype=F64), new_generator(1)).mean(0) for c in (0.0, 1.0))
    assert (low < 0.4).all()
    assert (high > 0.6).all()


def test_twelve_qubits_learn_more_by_a_cascade_than_by_neighbours() -> None:
    events = muon_events(n=4000, beam_energies=(100.0,), features=("x", "pt", "eta"))
    data = Dataset(events.samples, events.features)
    common = {"bits": 4, "edges": "quantile", "tails": 0.0, "start": "plus", "initial_range": 0.01}

    def likelihood(**options: object) -> float:
        model = BornMachine.for_dataset(data, **common, **options)
        fit(model, data, NLL(), steps=150, batch_size=None, learning_rate=0.03)
        return model.log_prob(data.test.samples).clamp_min(-50).mean().item()

    assert likelihood(ansatz="cascade", layers=2, order="snake") > likelihood(layers=15) + 0.3


def test_the_uniform_superposition_in_the_gaussian_frame_is_a_gaussian_copula() -> None:
    data = simulate_muon(4000, beam_energy=[50.0, 200.0], seed=1).select("x", "pt", "eta")
    machine = BornMachine.for_dataset(
        data, bits=[3, 2, 2], frame="gaussian", start="plus", initial_range=1e-9, layers=1, conditional=False
    )
    test = data.test
    drawn = test.with_samples(machine.sample(len(test), test.conditions, new_generator(0)), test.conditions)
    copula = GaussianCopula.for_dataset(data)
    other = test.with_samples(copula.sample(len(test), test.conditions, new_generator(1)), test.conditions)
    assert all(row.value.value < row.floor.value + 5 * row.value.uncertainty for row in evaluate(other, drawn))
    values = data.transform(test.samples, test.conditions)
    frame = Gaussianise.fit(data.transform(data.train.samples, data.train.conditions), data.train.conditions)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(frame(values, test.conditions)).sum(1)
    expected = normal + frame.log_abs_det(values, test.conditions)
    expected = expected + data.transform.log_abs_det(test.samples, test.conditions)
    assert torch.allclose(machine.log_prob(test.samples, test.conditions), expected, atol=1e-6)
