from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path

import pennylane as qml
import pytest
import torch
from torch import Tensor

from circuits.backends import DensityMatrix, Qiskit, Sampled, Statevector
from classical_baselines import BitFlip
from qgen import fit
from qgen.bits import BitSets, bit_strings
from qgen.data import Dataset, Discretiser, Feature, load_calorimeter
from qgen.models import IQPBornMachine
from qgen.models.gradient_noise import GradientNoise, noise_remarks
from qgen.random import new_generator, normal, symmetric, uniform
from qgen.training import MMD, NLL, FitResult, Own

F64 = torch.float64


def cells(n_bits: int) -> Discretiser:
    """A feature of one bit for each bit."""
    return Discretiser([[0.0, 1.0, 2.0]] * n_bits)


def machine(n_bits: int, gates: list[tuple[int, ...]], spread: float = 0.8, **options: object) -> IQPBornMachine:
    """With angles that are far from zero."""
    made = IQPBornMachine(cells(n_bits), gates=gates, **options)
    rng = new_generator(5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(symmetric(tuple(parameter.shape), spread, rng))
    return made


def up_to(n_bits: int, weight: int) -> list[tuple[int, ...]]:
    return [gate for size in range(1, weight + 1) for gate in combinations(range(n_bits), size)]


def by_pennylane(n: int, gates: list[tuple[int, ...]], angles: Tensor, flips: bool = False) -> Tensor:
    """Probabilities of ``exp(i theta X...)`` after each other, by PennyLane's own rotation of a Pauli word."""

    @qml.qnode(qml.device("default.qubit", wires=n))
    def circuit() -> object:
        if flips:
            qml.Hadamard(0)
            for wire in range(1, n):
                qml.CNOT([0, wire])
        for gate, angle in zip(gates, angles.tolist(), strict=True):
            qml.PauliRot(-2 * angle, "X" * len(gate), wires=gate)
        return qml.probs(wires=range(n))

    return torch.as_tensor(circuit(), dtype=F64)


@pytest.mark.parametrize("flips", [False, True])
def test_distribution_is_that_of_pennylane(flips: bool) -> None:
    gates = up_to(4, 3)
    model = machine(4, gates, spin_symmetric=flips)
    expected = by_pennylane(4, gates, model.angles[0], flips)
    found = model.probabilities(None, new_generator(0))[0]
    assert torch.allclose(found, expected, atol=1e-12)
    if flips:
        assert torch.allclose(expected, expected.flip(0), atol=1e-12)


@pytest.mark.parametrize("flips", [False, True])
def test_a_mixture_is_one_circuit_with_more_qubits(flips: bool) -> None:
    gates = up_to(3, 2)
    model = machine(3, gates, components=4, spin_symmetric=flips)
    circuit, angles = model.circuit()
    assert circuit.n_wires == 5
    assert circuit.n_angles == 4 * len(gates)
    mixture = torch.stack([by_pennylane(3, gates, each, flips) for each in model.angles]).mean(0)
    assert not torch.allclose(mixture, by_pennylane(3, gates, model.angles[0], flips), atol=0.05)
    function = circuit.to_pennylane()

    @qml.qnode(qml.device("default.qubit", wires=5))
    def run() -> object:
        function(angles[0].detach())
        return qml.probs(wires=range(3))

    assert torch.allclose(torch.as_tensor(run(), dtype=F64), mixture, atol=1e-12)
    assert torch.allclose(model.probabilities(None, new_generator(0))[0], mixture, atol=1e-12)
    model.backend = Statevector()
    assert torch.allclose(model.probabilities(None, new_generator(0))[0], mixture, atol=1e-12)


def test_without_coherence_the_circuit_is_the_bitflip_model() -> None:
    """Dephasing after every gate leaves flips with probability ``sin(theta)**2``."""
    gates = up_to(3, 2)
    model = machine(3, gates)
    flips = BitFlip(cells(3), generators=gates)
    assert list(flips.gates) == gates
    with torch.no_grad():
        flips.logits.copy_(torch.logit(model.angles[0].sin().square()))

    @qml.qnode(qml.device("default.mixed", wires=3))
    def dephased(share: float) -> object:
        for gate, angle in zip(gates, model.angles[0].tolist(), strict=True):
            qml.PauliRot(-2 * angle, "X" * len(gate), wires=gate)
            for wire in gate:
                qml.PhaseFlip(share, wires=wire)
        return qml.probs(wires=range(3))

    shadow = flips.probabilities(None, new_generator(0))[0]
    assert torch.allclose(torch.as_tensor(dephased(0.5), dtype=F64), shadow, atol=1e-12)
    coherent = model.probabilities(None, new_generator(0))[0]
    assert torch.allclose(torch.as_tensor(dephased(0.0), dtype=F64), coherent, atol=1e-12)
    assert (coherent - shadow).abs().max() > 0.02


def table(n_bits: int, n: int = 400, n_conditions: int = 0, seed: int = 0) -> Dataset:
    """Features that are each in one of two cells, the neighbours mostly in the same."""
    rng = new_generator(seed)
    condition = torch.randint(0, 2, (n, n_conditions), generator=rng).to(F64)
    z = normal((n, n_bits), rng, dtype=F64) + normal((n, 1), rng, dtype=F64) - 0.5
    z = z + condition.sum(1, keepdim=True)
    features = tuple(Feature(f"x{i}") for i in range(n_bits))
    return Dataset(
        (z > 0).to(F64) + uniform((n, n_bits), rng, dtype=F64),
        features,
        condition,
        tuple(Feature(f"c{i}") for i in range(n_conditions)),
    )


def mean_of(model: IQPBornMachine, strings: BitSets, condition: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        values = model.string_values(strings, condition, n, new_generator(3)).to(F64)
    return values.mean(1), values.std(1) / n**0.5


@pytest.mark.parametrize(
    "options",
    [{}, {"spin_symmetric": True}, {"components": 4}, {"components": 2, "spin_symmetric": True}, {"n_conditions": 2}],
    ids=str,
)
def test_values_of_strings_are_unbiased(options: dict[str, object]) -> None:
    model = machine(6, up_to(6, 2), 0.4, **options)
    strings = BitSets.from_dense(bit_strings(6)[1:].to(torch.uint8))
    condition = torch.tensor([[0.3, -1.0]], dtype=F64) if model.n_conditions else None
    exact = strings.signs(bit_strings(6)).to(F64) @ model.probabilities(condition, new_generator(0))[0].detach()
    if model.exact_strings:
        with torch.no_grad():
            assert torch.allclose(model.string_values(strings, None, 1, new_generator(0))[:, 0], exact, atol=1e-12)
        model.exact_strings = False
    n = 20_000
    mean, error = mean_of(model, strings, None if condition is None else condition.expand(n, -1), n)
    assert ((mean - exact).abs() <= 4.5 * error + 1e-6).all()
    assert (exact.abs() > 0.1).sum() > 5


def test_draws_follow_the_distribution_and_the_conditions() -> None:
    model = machine(5, up_to(5, 2), 0.5, components=2, n_conditions=1)
    condition = torch.tensor([[-1.0], [2.0]], dtype=F64)
    expected = model.probabilities(condition, new_generator(0)).detach()
    n = 40_000
    bits = model._draw_bits(2 * n, condition.repeat(n, 1), new_generator(1))
    for k in range(2):
        frequency = torch.bincount(model.discretiser.from_bits(bits[k::2]), minlength=32) / n
        error = (expected[k] * (1 - expected[k]) / n).sqrt()
        assert ((frequency - expected[k]).abs() < 4.5 * error + 1e-4).all()
    assert (expected[0] - expected[1]).abs().max() > 0.02


def test_draws_on_a_backend_are_its_measurements_of_the_bits() -> None:
    model = machine(3, up_to(3, 2), components=2, spin_symmetric=True)
    n = 40_000
    expected = model.probabilities(None, new_generator(0))[0].detach()
    for backend in (Sampled(Statevector(), 10), Qiskit("aer")):
        model.backend = backend
        bits = model._draw_bits(n, None, new_generator(1))
        assert torch.equal(bits, model._draw_bits(n, None, new_generator(1)))
        frequency = torch.bincount(model.discretiser.from_bits(bits), minlength=8) / n
        assert ((frequency - expected).abs() < 4.5 * (expected / n).sqrt()).all()
    model.backend = DensityMatrix({"depolarizing": {"two_qubit": 0.1}})
    noisy = model.probabilities(None, new_generator(0))[0].detach()
    assert (noisy - expected).abs().max() > 0.02


def test_more_qubits_than_a_number_has_bits() -> None:
    """Seventy qubits and two for the mixture on a simulator of matrix product states, every third bit turned over."""
    n = 70
    gates = [(i,) for i in range(n)] + [(i, i + 1) for i in range(n - 1)]
    model = IQPBornMachine(cells(n), gates=gates, components=4)
    with torch.no_grad():
        model.angles.zero_()
        model.angles[:, 0:n:3] = math.pi / 2
        model.angles[1, 1] = math.pi / 2  # one of the four turns a bit more
    turned = (torch.arange(n) % 3 == 0).to(torch.uint8)
    classical = model._draw_bits(400, None, new_generator(0))
    model.backend = Qiskit("aer", options={"method": "matrix_product_state", "n_qubits": 72})
    measured = model._draw_bits(400, None, new_generator(0))
    for bits in (classical, measured):
        assert bits.shape == (400, n)
        rest = torch.arange(n) != 1
        assert torch.equal(bits[:, rest], turned[rest].expand(400, -1))
        assert abs(bits[:, 1].double().mean().item() - 0.25) < 4.5 * (0.25 * 0.75 / 400) ** 0.5


def test_a_circuit_that_no_computer_samples_says_so() -> None:
    model = IQPBornMachine(cells(60), gates=up_to(60, 2))
    assert "60 of the circuit's qubits" in model.no_samples
    with pytest.raises(ValueError, match=r"^no events can be drawn: gates join 60"):
        model.sample(3)
    with pytest.raises(ValueError, match=r"^no events can be drawn: gates join 60"):
        model._draw_bits(3, None, new_generator(0))
    model.backend = Qiskit("aer")
    assert model.no_samples == ""


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"gates": [[0], [5]]}, r"^gate 1 has bit 5; the 3 bits are 0 to 2$"),
        ({"gates": [[0, 1], [2], [1, 0]]}, r"^gate 2 is \[0, 1\], as is gate 0; each may be there once$"),
        ({"gates": [[0], []]}, r"^gate 1 is empty; at least one bit is needed$"),
        ({"gates": [[0, 0]]}, r"^gate 0 is \[0, 0\]; a bit may be in it once only$"),
        ({"gates": []}, r"^gates are empty; at least one is needed$"),
        ({"components": 3}, r"^components is 3; a power of two is needed, 1 for no mixture$"),
        ({"components": 0}, r"^components is 0; a power of two is needed, 1 for no mixture$"),
        ({"ties": [0]}, r"^ties has 1 entries for 2 gates; one each is needed$"),
        ({"ties": [0, 2]}, r"^ties number the angles from 0 without a gap; 1 is not among them$"),
        ({"ties": [-1, 0]}, r"^ties number the angles from 0 without a gap; -1 is among them$"),
        ({"n_draws": 1}, r"^n_draws is 1; at least 2 are needed$"),
        ({"scales": []}, r"^scales are empty"),
    ],
    ids=str,
)
def test_bad_arguments_are_one_clear_line(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        IQPBornMachine(cells(3), **{"gates": [[0], [1, 2]], **options})


def test_a_loss_whose_gradient_is_noise_is_said() -> None:
    data = table(40)
    lines = {}
    for spread in (0.05, math.pi):
        model = IQPBornMachine.for_dataset(data, bits=1, gates="all", strings=200, draws=200)
        with torch.no_grad():
            model.angles.copy_(symmetric(tuple(model.angles.shape), spread, new_generator(0)))
        result = fit(model, data, Own(), steps=10, batch_size=None, learning_rate=1e-4)
        lines[spread] = result.remarks
        first = result.history[0]
        assert first["gradient_noise"] > first["gradient_noise_of_draws"] / 2 > 0
    assert lines[0.05] == ()
    (line,) = lines[math.pi]
    found = re.fullmatch(
        r"noise: in the first steps the gradient is not seen, with 200 strings and 200 draws they are as good as "
        r"random; more than (\d+) strings and (\d+) draws would do",
        line,
    )
    assert found
    assert int(found[2]) > 2000


@pytest.mark.parametrize("size", [3.0, 0.3, 0.0])
def test_signal_and_noise_of_gradients(size: float) -> None:
    """Of gradients with a known mean, and with known variances by strings and by draws."""
    rng = new_generator(0)

    def noise(of: float) -> Tensor:
        return of * normal((1000,), rng, dtype=F64)

    found = GradientNoise()
    true = torch.full((1000,), size / 1000**0.5, dtype=F64)
    while found.due():
        strings = noise(0.1)
        found.add(true + strings + noise(0.2), true + noise(0.1) + noise(0.2), true + strings + noise(0.2))
    record = found.records()
    assert record["gradient_signal"] == pytest.approx(size**2, abs=4 * record["gradient_signal_error"])
    assert record["gradient_noise"] == pytest.approx(50, rel=0.05)
    assert record["gradient_noise_of_draws"] == pytest.approx(40, rel=0.05)
    lines = noise_remarks([record], 100, 200)
    if size == 3.0:
        assert lines == ()
        return
    (line,) = lines
    strings, draws = map(int, re.findall(r"more than (\d+) strings and (\d+) draws would do", line)[0])
    # what is hidden is at most three standard errors of 50 / sqrt(10 x 1000)
    assert draws == pytest.approx(200 * 2 * 40 / 1.5, rel=0.5)
    assert strings == pytest.approx(100 * 2 * 10 / 1.5, rel=0.5)
    assert re.findall(r"about|more than", noise_remarks([{**record, "gradient_signal": 2.0}], 100, None)[0]) == [
        "about"
    ]


def test_the_gates_of_a_wanted_size_and_shared_angles() -> None:
    data = table(8, n_conditions=1)
    for wanted in (20, 60, 150):
        model = IQPBornMachine.for_dataset(data, bits=1, n_parameters=wanted)
        assert abs(model.n_parameters - wanted) <= 0.1 * wanted
        assert model.gates.sizes[:8].tolist() == [1] * 8
    with pytest.raises(ValueError, match=r"^n_parameters is 3; the closest size of an IQPBornMachine on 8 bits is 16 "):
        IQPBornMachine.for_dataset(data, bits=1, n_parameters=3)
    for option in ({"gates": "all"}, {"reach": 1}, {"long_range": 3}, {"tied": True}):
        with pytest.raises(ValueError, match=r"^n_parameters chooses the gates; gates, reach, long_range and tied go "):
            IQPBornMachine.for_dataset(data, bits=1, n_parameters=60, **option)
    images = load_calorimeter(grid=(3, 4), max_events=200)
    model = IQPBornMachine.for_dataset(images, bits=1, gates="neighbours", tied=True, components=2, conditional=False)
    assert len(model.gates) == 12 + 2 * 4 + 3 * 3
    assert model.angles.shape == (2, 12 + 2)
    angles = model.gate_angles()[0, 1]
    assert len(angles[12:].unique()) == 2
    with pytest.raises(ValueError, match=r"^weights are tied by shifts of the image"):
        IQPBornMachine.for_dataset(data, bits=1, tied=True)
    with pytest.raises(ValueError, match=r"^start is 'zero'; allowed are 'covariance' and 'small'$"):
        IQPBornMachine.for_dataset(data, bits=1, start="zero")
    with pytest.raises(ValueError, match=r"^240 events are too few for a mixture of 256; at least 2 each are needed$"):
        IQPBornMachine.for_dataset(data, bits=1, components=256)


def mean_error(model: IQPBornMachine, data: Dataset, condition: Tensor | None = None) -> float:
    """Mean squared difference of all pairs of bits from the events', beyond what the events' number brings."""
    n = model.discretiser.n_bits
    pairs = BitSets.of(n, combinations(range(n), 2))
    signs = pairs.signs(model.discretiser.encode(model.transform(data.samples))).to(F64)
    mean, _ = model.expectations(pairs, condition, draws=20_000, generator=new_generator(0))
    return float(((mean - signs.mean(1)).square() - signs.var(1) / len(data)).mean())


def test_components_start_from_shares_of_the_events() -> None:
    """Two kinds of events, mostly ones and mostly zeros, which one circuit has no good start for."""
    rng = new_generator(0)
    share = torch.randint(0, 2, (600, 1), generator=rng).to(F64)
    ones = uniform((600, 20), rng, dtype=F64) < 0.1 + 0.8 * share
    data = Dataset(ones.to(F64) + uniform((600, 20), rng, dtype=F64), tuple(Feature(f"x{i}") for i in range(20)))
    one, two = (IQPBornMachine.for_dataset(data, bits=1, components=k) for k in (1, 2))
    assert not two.exact_strings
    means = two.angles[:, :20].sin().square()
    assert means.amin(1).max() > 0.75
    assert means.amax(1).min() < 0.25
    assert mean_error(two, data.train) < 0.1 * mean_error(one, data.train)


@pytest.mark.parametrize("options", [{}, {"components": 2}], ids=str)
def test_training_by_draws_brings_the_pairs_to_those_of_the_events(options: dict[str, object]) -> None:
    data = table(18, 1000)
    model = IQPBornMachine.for_dataset(data, bits=1, start="small", strings=200, draws=200, **options)
    with torch.no_grad():
        model.angles[:, :18] += 0.6
    before = mean_error(model, data.train)
    result = fit(model, data, Own(), steps=60, batch_size=None, learning_rate=0.05, validate_every=20)
    assert result.remarks == ()
    assert result.history[-1]["validation"] < 0.3 * result.history[1]["validation"] + 1e-3
    assert mean_error(model, data.train) < 0.2 * before


def test_training_follows_the_condition() -> None:
    data = table(18, 1500, n_conditions=1)
    model = IQPBornMachine.for_dataset(data, bits=1, strings=200)
    fit(model, data, Own(), steps=60, batch_size=500, learning_rate=0.05)
    single = BitSets.of(18, [(i,) for i in range(18)])
    for value in (0.0, 1.0):
        some = data.take((data.conditions[:, 0] == value).nonzero().flatten())
        truth = single.signs(model.discretiser.encode(model.transform(some.samples))).mean(1).mean()
        condition = model.condition_transform(some.conditions[:1])
        mean, _ = model.expectations(single, condition, draws=10_000, generator=new_generator(0))
        assert abs(mean.mean() - truth) < 0.1


def test_up_to_16_bits_the_likelihood_and_the_table_train_it() -> None:
    data = table(6, 800)
    found = {}
    for name, objective in (("nll", NLL()), ("mmd", MMD()), ("own", Own())):
        model = IQPBornMachine.for_dataset(data, bits=1, start="small")
        with torch.no_grad():
            model.angles[:, :6] += 0.6
        fit(model, data, objective, steps=60, batch_size=None, learning_rate=0.05)
        bits = model.discretiser.encode(model.transform(data.test.samples))
        found[name] = -model._log_prob_of_bits(bits, None).mean().item()
    frequencies = torch.bincount(model.discretiser.from_bits(bits), minlength=64).to(F64) / len(bits)
    entropy = torch.special.entr(frequencies).sum().item()
    assert all(entropy < value < entropy + 0.35 for value in found.values()), (found, entropy)


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = table(18, 300)
    settings = {"steps": 16, "batch_size": 100, "checkpoint_every": 4, "log_every": 2, "validate_every": 100}

    def train(name: str, stop: int | None = None) -> tuple[Tensor, FitResult]:
        model = IQPBornMachine.for_dataset(data, bits=1, strings=50, draws=50, components=2)

        def told(record: dict[str, float]) -> None:
            if record["step"] == stop:
                raise KeyboardInterrupt

        result = fit(model, data, Own(), checkpoint=tmp_path / name, callback=told, **settings)
        return model.angles.detach(), result

    whole, _ = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("cut", 10)
    again, result = train("cut")
    assert torch.equal(again, whole)
    assert "gradient_signal" in result.history[0]


def test_a_validation_is_repeatable_and_less_noisy_than_a_step() -> None:
    data = table(20, 500)
    model = IQPBornMachine.for_dataset(data, bits=1, strings=100, draws=100)
    values = model.transform(data.samples)

    def losses(n: int) -> Tensor:
        return torch.stack([model._own_loss(values, None, new_generator(k)).detach() for k in range(n)])

    steps = losses(60)
    with torch.no_grad():
        validations = losses(60)
        assert torch.equal(validations[:5], losses(5))
    assert validations.var() < 0.5 * steps.var()
    error = (steps.var() / 60 + validations.var() / 60).sqrt()
    assert abs(steps.mean() - validations.mean()) < 4 * error
