from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

import experiments.rescore
from circuits import Circuit
from circuits.backends import Backend, Capabilities, Sampled, Statevector
from circuits.backends.base import draw_bits, fresh_generator
from circuits.backends.jobs import JobError
from experiments.cli import main
from experiments.config import resolve
from experiments.distances import DISTANCES, distances
from experiments.rescore import backend_of_text, rescore
from experiments.rescored import label_of, rescorings, side_by_side
from experiments.run import Reporter, backend_for, run_experiment
from experiments.scores import read_results
from experiments.tables import backends_table
from qgen import load_run
from qgen.data import load_events
from qgen.run import Run
from qgen.statefile import load_generator, save_generator

DISTANCE, FIDELITY = DISTANCES
RAW: dict[str, Any] = {
    "name": "small",
    "dataset": {"kind": "muon", "n": 400, "features": ["energy", "pt"], "beam_energies": [50.0, 100.0]},
    "models": {
        name: {
            "kind": "born_machine",
            "bits": 2,
            "layers": 1,
            "conditional": name == "conditional",
            "objective": {"kind": "mmd"},
            "training": {"steps": 2},
        }
        for name in ("joint", "conditional")
    }
    | {"marginals": {"kind": "marginals"}},
    "seeds": [0, 1],
    "evaluation": {"bootstrap": 2, "metrics": ["wasserstein", "correlation"]},
}


class Flipping:
    """The exact engine on a device that reads every bit wrongly with a probability."""

    name = "flipping"

    def __init__(self, probability: float, remote: bool = False, fails_after: int | None = None) -> None:
        self.probability = probability
        self.capabilities = Capabilities(True, True, True, True, remote)
        self.left = fails_after

    def probs(self, circuit: Circuit, angles: Tensor) -> Tensor:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("the device\nwent away")
        p = Statevector().probs(circuit, angles)
        p = p.reshape(*p.shape[:-1], *[2] * circuit.n_wires)
        for wire in range(1, circuit.n_wires + 1):
            p = (1 - self.probability) * p + self.probability * p.flip(-wire)
        return p.flatten(-circuit.n_wires)

    def expval(self, circuit: Circuit, angles: Tensor, observables: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def sample(self, circuit: Circuit, angles: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
        return draw_bits(self.probs(circuit, angles), shots, fresh_generator(generator))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_experiment(resolve(RAW), tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    return load_run(shutil.copytree(trained, tmp_path / "run"))


class Command:
    """The command line, called in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """What ``qgen evaluate`` prints on standard output, or where it ends with status 2 its mistake."""
        self.monkeypatch.setattr(sys, "argv", ["qgen", "evaluate", *arguments])
        with pytest.raises(SystemExit) as info:
            main()
        assert info.value.code == status
        printed = self.capsys.readouterr()
        self.aside = printed.err
        return "".join(line for line in printed.err.splitlines(True) if line[:6] == "qgen: ") if status else printed.out


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


class Told:
    """What a reporter was told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.warnings: list[str] = []
        self.reporter = Reporter(self._stage, warning=self.warnings.append)

    def _stage(self, model: str, seed: int, steps: int) -> None:
        self.stages.append((model, seed))


def stored(run: Run, label: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run.folder / "backends" / label / "results.json").read_text())
    return content


def test_the_exact_backend_gives_the_numbers_of_the_run_again(run: Run) -> None:
    told = Told()
    found = rescore(run, {"exact": "statevector"}, reporter=told.reporter)
    assert found.failures == {}
    assert told.warnings == ["marginals: skipped, it runs no circuits of qubits"]
    for name in ("joint", "conditional"):
        scores = stored(run, "exact")["models"][name]
        assert scores["metrics"] == run.results["models"][name]["metrics"]
        for seed in (0, 1):
            events = load_events(run.folder / "backends" / "exact" / f"seed-{seed}" / name / "samples.h5")
            assert torch.equal(events.samples, run.samples(name, seed).samples)
            assert torch.equal(events.conditions, run.samples(name, seed).conditions)
    joint = found.results["exact"].models["joint"]
    assert {name: (d.value, d.uncertainty, d.floor, d.spread) for name, d in joint.distances.items()} == {
        DISTANCE: (pytest.approx(0, abs=1e-12), 0, pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12)),
        FIDELITY: (pytest.approx(1), 0, pytest.approx(1), pytest.approx(0, abs=1e-12)),
    }
    assert found.results["exact"].models["conditional"].distances == {}
    assert found.results["exact"].backend.role == "exact"
    assert joint.metrics["wasserstein"].seeds == 2


def test_what_was_run_is_counted_and_where_it_ran_is_kept(run: Run) -> None:
    rescore(run, {"shots": {"kind": "statevector", "shots": 50}})
    content = stored(run, "shots")
    assert content["backend"]["config"] == {"kind": "statevector", "shots": 50, "dtype": "complex128"}
    assert content["backend"]["role"] == "sampled"
    assert content["backend"]["shots"] == 50
    assert content["backend"]["name"] == "statevector, 50 shots"
    assert content["environment"]["packages"]["torch"]
    joint, conditional = content["models"]["joint"]["seeds"]["0"], content["models"]["conditional"]["seeds"]["0"]
    assert (joint["circuits"], joint["measured"]) == (1 + 5, 100 + 5 * 50)  # events, and five times the distribution
    assert (conditional["circuits"], conditional["measured"]) == (2, 100)  # a circuit for each of two beam energies
    assert content["models"]["joint"]["circuits"] == 12
    assert joint["sample_seconds"] > 0


def test_what_a_mitigation_runs_is_counted(run: Run) -> None:
    noisy = {"kind": "density_matrix", "noise": {"depolarizing": 0.02}, "shots": 50}
    scales = [1, 3, 5]
    rescore(run, {"raw": noisy, "folded": {**noisy, "mitigation": [{"zne": {"scales": scales}}]}}, ["joint"])
    raw, folded = (stored(run, label)["models"]["joint"] for label in ("raw", "folded"))
    assert folded["circuits"] == len(scales) * raw["circuits"]


def test_scores_from_shots_are_reproducible(run: Run, trained: Path, tmp_path: Path) -> None:
    other = load_run(shutil.copytree(trained, tmp_path / "other"))
    tables = []
    for one, label in ((run, "a"), (other, "b")):
        rescore(one, {label: {"kind": "statevector", "shots": 50}})
        models = stored(one, label)["models"]
        tables.append({name: (model["metrics"], model["distances"]) for name, model in models.items()})
    assert tables[0] == tables[1]


def test_what_is_there_is_not_repeated_unless_asked_or_trained_anew(run: Run) -> None:
    def stages(**options: Any) -> list[tuple[str, int]]:
        told = Told()
        rescore(run, {"exact": "statevector"}, reporter=told.reporter, **options)
        return told.stages

    assert stages(models=["joint"]) == [("joint on exact", 0), ("joint on exact", 1)]
    assert stages() == [("conditional on exact", 0), ("conditional on exact", 1)]
    assert stages() == []
    assert stages(models=["joint"], force=True) == [("joint on exact", 0), ("joint on exact", 1)]
    path = run.place("joint", 1) / "generator.safetensors"
    generator = load_generator(path)
    with torch.no_grad():
        next(generator.parameters()).add_(0.5)
    save_generator(path, generator)
    assert stages() == [("joint on exact", 1)]


def test_a_label_is_of_one_backend(run: Run) -> None:
    rescore(run, {"mine": "statevector"})
    before = stored(run, "mine")
    for other in ({"kind": "statevector", "shots": 50}, Statevector()):
        with pytest.raises(ValueError, match=r"mine: holds the scores of another backend \({kind: state"):
            rescore(run, {"fresh": "statevector", "mine": other})
    assert stored(run, "mine") == before
    assert not (run.folder / "backends" / "fresh").exists()
    rescore(run, {"mine": {"kind": "statevector", "shots": 50}}, ["joint"], force=True)
    assert set(stored(run, "mine")["models"]) == {"joint"}
    samples = (run.folder / "backends" / "mine").glob("*/*/samples.h5")
    assert {path.parent.name for path in samples} == {"joint"}


def test_a_backend_that_fails_costs_neither_the_others_nor_what_it_gave(run: Run) -> None:
    broken = Flipping(0.1, fails_after=3)  # two answers for each seed
    found = rescore(run, {"broken": broken, "good": Flipping(0.1)}, ["joint"])
    assert found.failures == {"broken": "RuntimeError: the device went away"}
    assert set(found.results) == {"broken", "good"}
    good, half = found.results["good"].models["joint"], found.results["broken"].models["joint"]
    assert set(good.seeds) == {"0", "1"}
    assert good.trouble == ""
    # the events of seed 1 were drawn and judged before the device went away
    assert half.metrics == good.metrics
    assert half.trouble == "distances to the exact distribution are missing: RuntimeError: the device went away"
    assert half.distances[DISTANCE].value == good.seeds["0"]["distances"][DISTANCE]["value"]


def test_work_goes_on_where_it_broke_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def sometimes(config: dict[str, Any], model: str, seed: int, *rest: Any) -> Backend:
        made.append(seed)
        if len(made) == 2:
            raise JobError("job 17 failed")
        return backend_for(config, model, seed, *rest)

    monkeypatch.setattr(experiments.rescore, "backend_for", sometimes)
    found = rescore(run, {"shots": {"kind": "statevector", "shots": 50}}, ["joint"])
    assert found.failures == {"shots": "job 17 failed"}
    assert found.results["shots"].models["joint"].trouble == "seed 1 not scored yet"
    first = stored(run, "shots")["models"]["joint"]["seeds"]["0"]
    told = Told()
    found = rescore(run, {"shots": {"kind": "statevector", "shots": 50}}, ["joint"], reporter=told.reporter)
    assert told.stages == [("joint on shots", 1)]
    assert found.results["shots"].models["joint"].trouble == ""
    assert stored(run, "shots")["models"]["joint"]["seeds"]["0"] == first
    assert made == [0, 1, 1]


def test_a_backend_that_cannot_be_made_is_a_failure(run: Run) -> None:
    found = rescore(run, {"tiny": {"kind": "statevector", "memory_limit": 10}}, ["joint"])
    assert found.results == {}
    assert "1e-08 GB are free" in found.failures["tiny"]


def test_distances_are_those_of_the_distributions(run: Run) -> None:
    generator: Any = run.generator("joint")
    exact = Statevector().probs(generator.circuit, generator.weights.detach())
    flipped = Flipping(0.1).probs(generator.circuit, generator.weights.detach())
    generator.backend = own = Statevector()
    found = distances(generator, Flipping(0.1), None, 0)
    assert found[DISTANCE]["value"] == pytest.approx(float((exact - flipped).abs().sum()) / 2)
    assert found[FIDELITY]["value"] == pytest.approx(float((exact * flipped).sqrt().sum()) ** 2)
    assert found[DISTANCE]["value"] > 0.02
    assert generator.backend is own


def test_the_backend_of_the_run_gives_its_numbers_again_from_shots_too(tmp_path: Path) -> None:
    shots = {"kind": "statevector", "shots": 40}
    models = {"joint": {**RAW["models"]["joint"], "backend": shots}}
    run = load_run(run_experiment(resolve({**RAW, "models": models, "seeds": [0]}), tmp_path / "run"))
    found = rescore(run, {"again": shots, "exact": "statevector"}).results
    assert stored(run, "again")["models"]["joint"]["metrics"] == run.results["models"]["joint"]["metrics"]
    rows = side_by_side(run, read_results(run.results), found)["joint"]
    assert [row.label for row in rows] == ["statevector-40-shots", "again", "exact"]


def test_shots_alone_leave_a_backend_at_its_floor_and_noise_does_not(run: Run) -> None:
    generator = run.generator("joint")
    shots = 2000
    for seed in range(3):
        clean = distances(generator, Sampled(Statevector(), shots), shots, seed)
        noisy = distances(generator, Sampled(Flipping(0.2), shots), shots, seed)
        for name in DISTANCES:
            sigma = (clean[name]["uncertainty"] ** 2 + clean[name]["floor_uncertainty"] ** 2) ** 0.5
            assert abs(clean[name]["value"] - clean[name]["floor"]) < 5 * sigma
            assert 0 < clean[name]["uncertainty"] < abs(noisy[name]["value"] - noisy[name]["floor"]) / 5


def test_jobs_elsewhere_are_announced_and_asked_for_once(run: Run) -> None:
    told = Told()
    found = rescore(run, {"far": Sampled(Flipping(0.1, remote=True), 100)}, reporter=told.reporter)
    assert "conditional: up to 2 circuits, one for each condition, go to flipping, 100 shots" in told.warnings
    joint = found.results["far"].models["joint"].seeds["0"]
    assert joint["circuits"] == 2
    assert joint["distances"][DISTANCE]["uncertainty"] == joint["distances"][DISTANCE]["floor_uncertainty"] > 0


def test_noise_is_seen_and_its_mitigation_too(run: Run) -> None:
    noisy = {"kind": "density_matrix", "noise": {"readout": {"p01": 0.08, "p10": 0.1}}}
    backends = {"noisy": noisy, "mitigated": {**noisy, "shots": 20000, "mitigation": ["readout"]}}
    found = rescore(run, backends, ["joint"]).results
    assert {label: one.backend.role for label, one in found.items()} == {"noisy": "noisy", "mitigated": "mitigated"}
    distance = {label: one.models["joint"].distances[DISTANCE] for label, one in found.items()}
    assert distance["noisy"].floor == distance["noisy"].uncertainty == 0
    assert 0 < distance["mitigated"].floor < distance["mitigated"].value < distance["noisy"].value / 2


def test_jobs_are_kept_with_the_scores(run: Run) -> None:
    rescore(run, {"aer": {"kind": "qiskit", "device": "aer", "shots": 100}}, ["joint"])
    content = stored(run, "aer")
    assert content["backend"]["role"] == "sampled"
    jobs = content["models"]["joint"]["seeds"]["0"]["jobs"]
    assert len(jobs) == 6  # the events, and five times the distribution
    assert all(job["id"] and job["status"] == "done" for job in jobs)
    assert sum(job["shots"] * job["n_circuits"] for job in jobs) == content["models"]["joint"]["seeds"]["0"]["measured"]


@pytest.mark.parametrize(
    ("backends", "models", "message"),
    [
        ({}, None, "no backend is given"),
        ({"a/b": "statevector"}, None, "'a/b' is no label for a backend"),
        ({"": "statevector"}, None, "'' is no label for a backend"),
        ({"x": "statevector"}, ["jont"], "jont"),
        ({"x": "statevector"}, ["marginals"], "none of the models marginals runs circuits"),
        ({"x": "statevektor"}, None, "backend.kind: unknown kind 'statevektor'; did you mean statevector"),
        ({"x": {"kind": "statevector", "shotz": 3}}, None, "backend.shotz: unknown key"),
    ],
)
def test_mistakes_are_said_before_the_work(run: Run, backends: Any, models: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rescore(run, backends, models)
    assert not (run.folder / "backends").exists()


def test_only_a_finished_run_with_its_own_events_is_scored(run: Run) -> None:
    environment = run.folder / "environment.json"
    content = json.loads(environment.read_text())
    content["data"]["sha256"] = "0" * 64
    environment.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="gives other events now"):
        rescore(run.folder, {"x": "statevector"})
    (run.folder / "results.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        rescore(run.folder, {"x": "statevector"})


def test_backends_stand_side_by_side_exact_before_sampled_before_noisy(run: Run) -> None:
    rescore(run, {"a": Flipping(0.1), "b": {"kind": "statevector", "shots": 50}, "c": "statevector"}, ["joint"])
    found = rescorings(run)
    assert list(found) == ["c", "b", "a"]
    rows = side_by_side(run, read_results(run.results), found)
    assert [row.label for row in rows["joint"]] == ["statevector", "c", "b", "a"]
    assert set(rows) == {"joint"}
    stream = io.StringIO()
    Console(file=stream, width=140, color_system=None).print(backends_table(run, found))
    text = stream.getvalue()
    places = [text.index(word) for word in ("truth vs truth", "statevector (the run)", " c ", " b ", " a ")]
    assert places == sorted(places)
    assert "wasserstein" in text


def test_damaged_scores_are_said_in_one_line(run: Run) -> None:
    rescore(run, {"a": "statevector"}, ["joint"])
    path = run.folder / "backends" / "a" / "results.json"
    content = json.loads(path.read_text())
    content["backend"]["role"] = "perfect"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a/results.json: backend.role: .*found perfect"):
        rescorings(run)


def test_a_backend_is_named_by_kind_yaml_or_file(tmp_path: Path) -> None:
    plain = {"kind": "statevector", "shots": 20, "dtype": "complex128"}
    assert backend_of_text("{kind: statevector, shots: 20}") == plain
    for text in ("kind: statevector\nshots: 20\n", "backend: {kind: statevector, shots: 20}\n"):
        (tmp_path / "backend.yaml").write_text(text)
        assert backend_of_text(str(tmp_path / "backend.yaml")) == plain
    assert label_of(backend_of_text("statevector")) == "statevector"
    with pytest.raises(ValueError, match="not valid YAML"):
        backend_of_text("{kind: ")
    with pytest.raises(ValueError, match="backend"):
        backend_of_text("[1, 2]")


def test_labels_of_different_backends_differ() -> None:
    configs: list[dict[str, Any]] = [
        {"kind": "statevector"},
        {"kind": "statevector", "shots": 10},
        {"kind": "statevector", "dtype": "complex64"},
        {"kind": "statevector", "device": "cuda"},
        {"kind": "statevector", "device": "cuda", "mitigation": ["readout"]},
        {"kind": "statevector", "mitigation": [{"zne": {"scales": [1, 3]}}]},
        {"kind": "statevector", "mitigation": [{"zne": {"scales": [1, 5]}}]},
        {"kind": "statevector", "memory_limit": 10},
        {"kind": "statevector", "device": "a/b c"},
    ]
    labels = [label_of(config) for config in configs]
    assert len(set(labels)) == len(labels)
    assert all(c.isalnum() or c in "._-" for label in labels for c in label)


def test_the_command_scores_and_shows_what_was_scored(run: Run, tmp_path: Path, evaluate: Command) -> None:
    folder = str(run.folder)
    assert "not scored on other backends yet; name one with --backend" in evaluate(folder, status=2)
    (tmp_path / "exact.yaml").write_text("kind: statevector\n")
    backends = ["--backend", str(tmp_path / "exact.yaml"), "--backend", "{kind: statevector, shots: 50}"]
    printed = evaluate(folder, *backends, "--out", str(tmp_path / "scores.json"))
    for word in ("truth vs truth", "statevector (the run)", "statevector-50-shots", "±"):
        assert word in printed
    for word in ("marginals: skipped, it runs no circuits", "joint on statevector, seed 1", "results and samples"):
        assert word in evaluate.aside
        assert word not in printed
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"statevector", "statevector-50-shots"}
    assert scores["statevector"]["models"]["joint"]["metrics"]["wasserstein"]["value"] > 0
    assert "statevector-50-shots" in evaluate(folder)


def test_the_command_names_what_failed_and_goes_on(run: Run, evaluate: Command) -> None:
    names = ["--model", "joint", "--name", "small", "--name", "fine"]
    backends = ["--backend", "{kind: statevector, memory_limit: 10}", "--backend", "statevector"]
    error = evaluate(str(run.folder), *names, *backends, status=2)
    assert error.startswith("qgen: small: ")
    assert error.count("\n") == 1
    assert list(rescorings(run)) == ["fine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("RUN --truth a.h5", "--truth goes with files of events: give either RUN or --truth and --generated"),
        ("RUN --backend statevector --seed 1", "--seed goes with files of events"),
        ("--truth a.h5 --backend statevector", "--backend goes with the folder of a run"),
        ("--truth a.h5", "--generated is missing"),
        ("", "--truth is missing"),
        ("RUN --model joint", "--model goes with --backend; none is given"),
        ("RUN --backend statevector --name a --name b", "--name is given 2 times, --backend 1 times"),
        ("RUN --backend statevector --backend {kind:\xa0statevector}", "two backends are named statevector"),
        ("RUN --backend statevektor", "did you mean statevector"),
        ("RUN --backend statevector --device tpu", "tpu"),
    ],
)
def test_mistakes_of_the_command_are_one_line(arguments: str, message: str, run: Run, evaluate: Command) -> None:
    words = [str(run.folder) if word == "RUN" else word.replace("\xa0", " ") for word in arguments.split(" ") if word]
    error = evaluate(*words, status=2)
    assert message in error
    assert error.count("\n") == 1
    assert not (run.folder / "backends").exists()
