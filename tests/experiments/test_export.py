from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.quantum_info import Statevector as QiskitState
from torch import Tensor

from circuits import Circuit
from circuits.ansatz import hardware_efficient
from circuits.backends import Statevector
from experiments.cli import main
from experiments.export import export, measured_events
from qgen.data import CalorimeterDataset, Discretiser, MuonDataset, load_events
from qgen.data.transforms import Identity
from qgen.deployment import Deployment, bits_of_counts, events_from_bits
from qgen.generator import ExtrapolationWarning
from qgen.models import BornMachine, IQPBornMachine
from qgen.random import new_generator
from qgen.registry import generator_class
from qgen.run import GENERATOR, Run, load_run
from qgen.statefile import save_generator

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"kind": "calorimeter", "grid": [4], "max_events": 400},
    "models": {
        "born": {"kind": "born_machine"},
        "iqp": {"kind": "iqp"},
        "style": {"kind": "style"},
        "copula": {"kind": "copula"},
    },
    "seeds": [0, 1],
}
OPTIONS: dict[str, dict[str, int]] = {
    "born": {"bits": 1, "layers": 1},
    "iqp": {"bits": 1, "components": 2},
    "style": {"layers": 1},
    "copula": {},
}
ENERGY = 50_000.0


def call(arguments: list[str], status: int = 0) -> None:
    before = sys.argv
    sys.argv = ["qgen", *arguments]
    try:
        with pytest.raises(SystemExit) as info:
            main()
        assert info.value.code == status
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run's folder, its models as they start."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    made = load_run(folder)
    for seed in made.seeds:
        for name, options in OPTIONS.items():
            kind = made.config["models"][name]["kind"]
            generator = generator_class(kind).for_dataset(made.dataset, seed=seed, **options)
            generator.saw(made.dataset.train.conditions)
            made.place(name, seed).mkdir(parents=True)
            save_generator(made.place(name, seed) / GENERATOR, generator)
    return made


def distribution(circuit: QuantumCircuit) -> Tensor:
    """Probabilities of the classical bits, bit 0 most significant, by Qiskit alone."""
    wires = {}
    for instruction in circuit.data:
        if instruction.operation.name == "measure":
            bit = circuit.find_bit(instruction.clbits[0]).index
            wires[bit] = circuit.find_bit(instruction.qubits[0]).index
    bare = circuit.remove_final_measurements(inplace=False)
    found = QiskitState(bare).probabilities([wires[bit] for bit in reversed(range(len(wires)))])
    return torch.from_numpy(found)


def expected(run: Run, model: str, seed: int = 0) -> Tensor:
    """Probabilities of the bits by the model, bit 0 most significant."""
    generator = run.generator(model, seed)
    condition = generator.condition_transform(torch.tensor([[ENERGY]], dtype=torch.float64))
    probabilities = generator.probabilities(condition, new_generator(0))[0]
    return generator.discretiser.by_state(probabilities).detach()


def read(path: Path, format: str) -> QuantumCircuit:
    if format == "qpy":
        with path.open("rb") as file:
            return qpy.load(file)[0]
    if format == "qasm3":
        return qasm3.loads(path.read_text())
    return qasm2.loads(path.read_text(), custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)


@pytest.mark.parametrize("device", [None, "fake_manila"])
@pytest.mark.parametrize("format", ["qasm3", "qasm2", "qpy"])
@pytest.mark.parametrize("model", ["born", "iqp"])
def test_what_is_written_has_the_distribution_of_the_model(
    run: Run, tmp_path: Path, model: str, format: str, device: str | None
) -> None:
    done = export(run, model, condition=[ENERGY], format=format, device=device, out=tmp_path / "circuit")
    assert torch.allclose(distribution(read(done.program, format)), expected(run, model), atol=1e-9)


@pytest.mark.parametrize("device", [None, "fake_manila"])
def test_json_is_a_circuit_of_ours(run: Run, tmp_path: Path, device: str | None) -> None:
    done = export(run, "born", model_seed=1, condition=[ENERGY], format="json", device=device, out=tmp_path / "c.json")
    circuit = Circuit.from_json(done.program.read_text())
    facts = json.loads(done.facts.read_text())
    wires = facts["wires"] if device is None else facts["device"]["qubits"]
    probabilities = Statevector().probs(circuit, torch.zeros(0)).reshape([2] * circuit.n_wires)
    others = [wire for wire in range(circuit.n_wires) if wire not in wires]
    found = probabilities.permute([*wires, *others]).reshape(16, -1).sum(1)
    assert torch.allclose(found, expected(run, "born", 1), atol=1e-9)
    assert not torch.allclose(found, expected(run, "born", 0), atol=1e-3)


def test_a_device_keeps_to_its_gates_and_pairs(run: Run, tmp_path: Path) -> None:
    from circuits.backends.devices import find_device

    done = export(run, "iqp", condition=[ENERGY], format="qpy", device="fake_torino", out=tmp_path / "c.qpy")
    circuit, target = read(done.program, "qpy"), find_device("fake_torino").target
    for instruction in circuit.data:
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        assert target.instruction_supported(instruction.operation.name, qubits)
    facts = json.loads(done.facts.read_text())
    assert facts["device"]["name"] == "fake_torino"
    assert facts["depth"] == circuit.depth()
    assert facts["two_qubit_gates"] == circuit.num_nonlocal_gates()
    assert len(facts["device"]["qubits"]) == 4 < facts["qubits"] == 5
    assert f"depth {facts['depth']}, {facts['two_qubit_gates']} two-qubit gates" in done.lines[0]


def test_bits_become_events_of_the_run(run: Run, tmp_path: Path) -> None:
    done = export(run, "iqp", condition=[ENERGY], out=tmp_path / "c.qasm")
    bits = torch.randint(0, 2, (50, 4), dtype=torch.uint8, generator=new_generator(0))
    events = events_from_bits(done.facts, bits, seed=3)
    assert isinstance(events, CalorimeterDataset)
    assert events.geometry == run.dataset.geometry
    assert events.features == run.dataset.features
    assert (events.incident_energy == ENERGY).all()
    generator = run.generator("iqp")
    values = generator.transform(events.samples, events.conditions)
    assert torch.equal(generator.discretiser.encode(values), bits)
    assert torch.equal(events_from_bits(done.facts, bits, seed=3).samples, events.samples)
    # Qiskit writes bit 0 rightmost
    counts = {"".join(map(str, row[::-1])): 1 for row in bits[:1].tolist()}
    once = events_from_bits(Deployment.read(done.facts), counts)
    assert torch.equal(generator.discretiser.encode(generator.transform(once.samples, once.conditions)), bits[:1])


def test_counts_from_elsewhere_are_judged_like_any_events(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from qiskit.primitives import StatevectorSampler

    pairs = []
    for energy in (20_000, 60_000):
        circuit = tmp_path / f"{energy}.qasm"
        call(["export", str(run.folder), "--model", "iqp", "--condition", str(energy), "--out", str(circuit)])
        result = StatevectorSampler(seed=1).run([qasm3.loads(circuit.read_text())], shots=300).result()
        counts = tmp_path / f"{energy}.json"
        counts.write_text(json.dumps(result[0].data.c.get_counts()))
        pairs += [f"{circuit}.json", str(counts)]
    events = tmp_path / "events.h5"
    call(["data", "from-counts", *pairs, "--out", str(events), "--seed", "2"])
    assert "events.h5: 600 events" in capsys.readouterr().out
    found = load_events(events)
    assert sorted(found.conditions.unique().tolist()) == [20_000, 60_000]
    assert len(found.conditions[:100].unique()) == 2  # in random order
    truth = tmp_path / "truth.h5"
    from qgen.data import write_events

    write_events(truth, run.dataset.test)
    call(["evaluate", "--truth", str(truth), "--generated", str(events), "--metric", "wasserstein"])
    assert "events" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["muon", "gaussian"])
def test_other_kinds_of_events_come_back_too(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from qgen.data import DATASETS

    dataset = DATASETS[kind](**({"n": 300} if kind == "muon" else {}))
    machine = BornMachine.for_dataset(dataset, bits=1, layers=1)
    monkeypatch.setattr(Run, "generator", lambda *_: machine)
    fake = Run(tmp_path, {"dataset": {"kind": kind}, "models": {"m": {"kind": "born_machine"}}, "seeds": [0]})
    fake.__dict__["dataset"] = dataset
    condition = dataset.conditions[0].tolist()
    done = export(fake, condition=condition, out=tmp_path / "c.qasm")
    bits = torch.randint(0, 2, (20, dataset.n_features), dtype=torch.uint8, generator=new_generator(0))
    events = events_from_bits(done.facts, bits)
    assert type(events) is type(dataset)
    assert isinstance(events, MuonDataset) == (kind == "muon")
    assert events.features == dataset.features
    assert events.condition_features == dataset.condition_features
    assert torch.equal(machine.discretiser.encode(machine.transform(events.samples, events.conditions)), bits)


def test_a_thousand_qubits_are_written_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1000
    gates = [*((i,) for i in range(n)), *((i, i + 1) for i in range(n - 1)), *((i, i + 40) for i in range(n - 40))]
    machine = IQPBornMachine(Discretiser([[0.0, 1.0, 2.0]] * n), gates=gates)
    events = torch.rand(5, n, generator=new_generator(0))
    from qgen.data.dataset import Dataset, Feature

    dataset = Dataset(events, tuple(Feature(f"voxel_{i}") for i in range(n)))
    monkeypatch.setattr(Run, "generator", lambda *_: machine)
    fake = Run(tmp_path, {"dataset": {}, "models": {"m": {"kind": "iqp"}}, "seeds": [0]})
    fake.__dict__["dataset"] = dataset
    started = time.process_time()
    done = export(fake, out=tmp_path / "c.qasm")
    assert time.process_time() - started < 10
    text = done.program.read_text()
    assert "c[999] = measure q[999];" in text
    # pairs side by side: the depth is that of a few layers
    assert json.loads(done.facts.read_text())["depth"] < 10
    assert text.count("cx q") == 2 * (2 * n - 41)


def test_files_are_not_replaced_without_force(run: Run, tmp_path: Path) -> None:
    export(run, "born", condition=[ENERGY], out=tmp_path / "c.qasm")
    before = (tmp_path / "c.qasm").read_text()
    with pytest.raises(ValueError, match=r"c\.qasm: is there already; give another --out, or replace it \(--force\)"):
        export(run, "born", condition=[60_000.0], out=tmp_path / "c.qasm")
    assert (tmp_path / "c.qasm").read_text() == before
    (tmp_path / "c.qasm").unlink()
    with pytest.raises(ValueError, match=r"c\.qasm\.json: is there already"):
        export(run, "born", condition=[60_000.0], out=tmp_path / "c.qasm")
    export(run, "born", condition=[60_000.0], out=tmp_path / "c.qasm", force=True)
    assert (tmp_path / "c.qasm").read_text() != before


def test_by_default_the_circuit_lies_beside_the_model(run: Run) -> None:
    done = export(run, "born", condition=[ENERGY], format="qpy")
    assert done.program == run.folder / "seed-0" / "born" / "circuit.qpy"
    assert done.facts == run.folder / "seed-0" / "born" / "circuit.qpy.json"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "several models can be exported (born, iqp); name one with --model"),
        (["--model", "bron"], "model 'bron' is unknown; did you mean 'born'?"),
        (["--model", "born", "--seed", "7"], "seed 7 is unknown; seeds are 0, 1"),
        (["--model", "born"], "condition has 0 values; expected 1 (incident_energy in MeV)"),
        (["--model", "born", "--condition", "1e4", "--condition", "2"], "condition has 2 values; expected 1"),
        (["--model", "born", "--condition", "-5"], "impossible: not finite, or beyond the domain"),
        (
            ["--model", "born", "--condition", "1e4", "--format", "qasm"],
            "format 'qasm' is unknown; did you mean",
        ),
        (["--model", "born", "--condition", "1e4", "--device", "fake_manilla"], "did you mean fake_manila"),
        (["--model", "style", "--condition", "1e4"], "is a style: an event is not one measurement of one circuit"),
        (
            ["--model", "copula"],
            "is a copula: it has no circuit of qubits; kinds that can be exported are born",
        ),
    ],
)
def test_mistakes_are_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    call(["export", str(run.folder), *arguments, "--out", str(tmp_path / "c.qasm")], status=2)
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_too_small_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from circuits.backends.devices import find_device
    from experiments.export import _transpiled
    from qgen.models.deployed import Deployed

    deployed = Deployed(hardware_efficient(6, 1).bind([0.0] * 12), tuple(range(6)))
    with pytest.raises(ValueError, match="device 'fake_manila' has 5 qubits; the circuit has 6"):
        _transpiled(deployed, "fake_manila")
    assert find_device("fake_manila").num_qubits == 5


def test_a_condition_beyond_training_earns_a_warning(run: Run, tmp_path: Path) -> None:
    with pytest.warns(ExtrapolationWarning, match="was trained from"):
        export(run, "born", condition=[5e6], out=tmp_path / "c.qasm")


def test_files_that_are_something_else_are_one_line(run: Run, tmp_path: Path) -> None:
    done = export(run, "born", condition=[ENERGY], out=tmp_path / "c.qasm")
    counts = tmp_path / "counts.json"
    counts.write_text('{"0101": 3}')
    assert len(measured_events([(done.facts, counts)])) == 3
    for place, text, line in (
        (done.program, "{}", "not the facts of a deployed circuit"),
        (counts, "3", "holds a int; counts by bit string are needed"),
        (counts, "{", "not JSON"),
        (counts, '{"01": 3}', "'01'; strings of 4 digits"),
        (counts, '{"010x": 3}', "'010x'; strings of 4 digits"),
        (counts, '{"0101": -3}', "'0101' are -3; an integer of at least 0"),
        (counts, '{"0101": 0.5}', "'0101' are 0.5; an integer of at least 0"),
        (counts, "[]", "counts are empty"),
    ):
        place.write_text(text)
        facts = place if place == done.program else done.facts
        with pytest.raises(ValueError, match=line):
            measured_events([(facts, counts)])
    with pytest.raises(FileNotFoundError, match="none.json: no such file"):
        measured_events([(done.facts, tmp_path / "none.json")])
    with pytest.raises(ValueError, match=r"bits have shape \(2, 3\); expected \(n, 4\)"):
        events_from_bits(done.facts, torch.zeros(2, 3, dtype=torch.uint8))


def test_lists_of_strings_are_counts() -> None:
    bits = bits_of_counts(["01", "01", "10"], 2, new_generator(0))
    assert sorted(bits.tolist()) == [[0, 1], [1, 0], [1, 0]]


def test_the_bits_of_a_mixture_are_its_first_wires() -> None:
    machine = IQPBornMachine(Discretiser([[0.0, 1.0, 2.0]] * 3), gates=[[0], [1], [0, 2]], components=4)
    deployed = machine.deployed()
    assert deployed.circuit.n_wires == 5
    assert deployed.data_wires == (0, 1, 2)


@pytest.mark.parametrize(
    "columns",
    [{}, {"kind": "Other", "features": [], "conditions": []}, {"kind": "Dataset", "features": 3, "conditions": []}],
)
def test_damaged_columns_are_one_line(columns: dict[str, Any]) -> None:
    facts = Deployment(Discretiser([[0.0, 1.0, 2.0]]), Identity(), torch.empty(0), columns, {})
    with pytest.raises(ValueError, match=r"^columns of the facts of a deployed circuit are damaged \(.*\)$"):
        events_from_bits(Deployment.from_json(facts.to_json()), {"1": 3})


def test_more_shots_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^counts are 10,000,001 shots; at most 10,000,000 are read at once$"):
        bits_of_counts({"0": 10_000_000, "1": 1}, 1, new_generator(0))
