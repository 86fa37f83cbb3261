from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy import optimize
from typer.main import get_command
from typer.testing import CliRunner

from circuits import ansatz
from circuits.backends import Statevector
from circuits.initialisation import INITIALISATIONS, initial_angles
from experiments.cli import app
from experiments.config import resolve
from experiments.studies.cli import study
from experiments.studies.gradients import LOSSES, Target, gradients, moments, two_design_variance
from experiments.studies.model_gradients import model_gradients
from experiments.studies.trainability import DATA, Settings, fall, trainability
from experiments.studies.trainability_view import trainability_figure
from qgen.data import muon_events
from qgen.models import BornMachine
from qgen.random import new_generator
from qgen.training import MMD, NLL
from qgen.training.objectives import Batch

EVENTS = muon_events(n=1000, features=("x", "pt"), beam_energies=(100.0,))
TARGET = Target.of(EVENTS, 5)


def test_events_fill_as_many_cells_as_there_are_qubits() -> None:
    assert TARGET.discretiser.bits == (3, 2)
    assert Target.of(EVENTS, 2).discretiser.bits == (1, 1)
    assert TARGET.shares.shape == (32,)
    assert TARGET.shares.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("nll", NLL()),
        ("mmd", MMD()),
        ("mmd-narrow", MMD("bits", [0.5])),
        ("mmd-wide", MMD("bits", [math.sqrt(5)])),
    ],
)
def test_gradients_are_those_of_the_labs_objectives(name: str, objective: NLL | MMD) -> None:
    circuit = ansatz.hardware_efficient(5, 2)
    machine = BornMachine(circuit, TARGET.discretiser)
    angles = torch.stack([machine.weights.detach(), initial_angles("uniform", circuit, new_generator(1))])
    found = gradients(circuit, angles, [name], TARGET)[name]
    batch = Batch(EVENTS.transform(EVENTS.train.samples, EVENTS.train.conditions))
    for row, expected in zip(angles, found, strict=True):
        with torch.no_grad():
            machine.weights.copy_(row)
        loss = objective.loss(machine, batch, new_generator(0))
        (slope,) = torch.autograd.grad(loss, machine.weights)
        torch.testing.assert_close(slope, expected)


def test_expectation_values_are_pauli_z_and_the_first_cell() -> None:
    circuit = ansatz.strongly_entangling_layers(5, 1)
    angles = initial_angles("uniform", circuit, new_generator(0))
    probabilities = Statevector().probs(circuit, angles[None])
    z = Statevector().expval(circuit, angles, ["Z0"])
    torch.testing.assert_close(LOSSES["local"](probabilities, TARGET), z)
    assert LOSSES["global"](probabilities, TARGET).item() == 1 - probabilities[0, 0].item()


@pytest.mark.parametrize("loss", ["global", "local"])
@pytest.mark.parametrize("n_wires", [2, 3, 4])
def test_a_deep_random_circuit_has_the_variance_of_theory(loss: str, n_wires: int) -> None:
    """The derivative by an angle in the middle, between two parts that are both nearly unitary 2-designs."""
    n_layers = 8 * n_wires
    circuit = ansatz.hardware_efficient(n_wires, n_layers, topology="ring")
    rng = new_generator(n_wires)
    angles = torch.stack([initial_angles("uniform", circuit, rng) for _ in range(1500)])
    middle = (n_layers // 2) * 2 * n_wires
    slopes = gradients(circuit, angles, [loss], Target.of(EVENTS, n_wires))[loss][:, middle : middle + 1]
    found = moments(slopes)
    assert found.variance == pytest.approx(two_design_variance(n_wires, loss), abs=4 * found.variance_uncertainty)
    assert found.variance_uncertainty < 0.1 * found.variance
    assert found.variance == found.first


def test_moments_are_those_of_the_draws() -> None:
    rng = new_generator(0)
    draws = 3 + 2 * torch.randn((4000, 2), generator=rng, dtype=torch.float64)
    found = moments(draws)
    assert found.variance == pytest.approx(draws.var(0).mean().item())
    assert found.first == pytest.approx(draws[:, 0].var().item())
    assert found.mean_square == pytest.approx(13, rel=0.05)
    assert found.first_uncertainty == pytest.approx(4 * math.sqrt(2 / 4000), rel=0.1)
    assert moments(torch.full((3, 1), 0.1, dtype=torch.float64)).variance == 0


def test_fall_is_the_weighted_line_of_scipy() -> None:
    n, value = np.array([2, 4, 6, 8]), np.array([0.5, 0.11, 0.02, 0.0061])
    error = np.array([0.02, 0.01, 0.001, 0.0008])
    sigma = error / value / math.log(2)
    line, covariance = optimize.curve_fit(
        lambda x, a, b: a + b * x, n, np.log2(value), sigma=sigma, absolute_sigma=True
    )
    scatter = ((np.log2(value) - line[0] - line[1] * n) ** 2 / sigma**2).sum() / 2
    rate, uncertainty = fall(list(zip(n.tolist(), value, error, strict=True)))
    assert rate == pytest.approx(-line[1], rel=1e-5)
    assert uncertainty == pytest.approx(math.sqrt(covariance[1, 1] * max(1, scatter)), rel=1e-4)
    assert fall([(2, 0.5, 0.1), (4, 0.0, 0.0)]) == (None, None)


@pytest.fixture(scope="module")
def results() -> dict:
    return trainability(
        Settings(
            qubits=(2, 4, 6), layers=(1, 16), losses=("global", "local"), ansatz="brickwork", samples=150, pairs=300
        )
    )


def _falls(results: dict, **place: object) -> dict:
    (row,) = [row for row in results["falls"] if all(row[key] == value for key, value in place.items())]
    return row


def test_barren_plateaus_are_where_theory_has_them(results: dict) -> None:
    """Deep, a projector on all qubits falls by 4 a qubit, an observable of one by 2; shallow, the latter does not."""
    deep, shallow = ({"initialisation": "uniform", "layers": n} for n in (16, 1))
    projector = _falls(results, loss="global", **deep)
    assert projector["variance"] == pytest.approx(2, abs=0.35)
    local = _falls(results, loss="local", **deep)
    assert local["first"] == pytest.approx(1, abs=0.35)
    assert _falls(results, loss="local", **shallow)["first"] < 0.2
    assert _falls(results, loss="global", **shallow)["variance"] > 0.8


def test_starting_as_the_identity_keeps_the_local_gradient(results: dict) -> None:
    at_six = {
        row["initialisation"]: row
        for row in results["gradients"]
        if (row["loss"], row["qubits"], row["layers"]) == ("local", 6, 16)
    }
    assert at_six["identity"]["mean_square"] > 5 * at_six["uniform"]["mean_square"]
    assert at_six["small-angle"]["mean_square"] > 3 * at_six["uniform"]["mean_square"]
    assert not [row for row in results["gradients"] if row["initialisation"] == "identity" and row["layers"] == 1]


def test_deep_circuits_reach_and_entangle_as_random_states(results: dict) -> None:
    rows = {(row["ansatz"], row["qubits"], row["layers"]): row for row in results["circuits"]}
    assert len(rows) == 9
    shallow, deep = (rows["brickwork", 4, n] for n in (1, 16))
    assert shallow["expressibility"] > 3 * deep["expressibility"]
    assert abs(deep["expressibility"] - deep["expressibility_floor"]) < 4 * deep["expressibility_uncertainty"]
    assert deep["entangling"] == pytest.approx(deep["entangling_haar"], abs=5 * deep["entangling_uncertainty"])
    assert shallow["entangling"] < 0.9 * deep["entangling"]


def test_the_seed_fixes_every_number() -> None:
    first, again, other = (
        trainability(Settings((2, 3), (1,), ("nll",), ("uniform",), samples=20, pairs=20, seed=seed))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first["gradients"] != other["gradients"]
    assert json.loads(json.dumps(first))["falls"] == first["falls"]


def test_every_kind_of_data_has_cells() -> None:
    for build in DATA.values():
        assert Target.of(build(), 3).shares.count_nonzero() > 2


def test_the_figure_has_a_panel_for_each_loss_and_initialisation(results: dict) -> None:
    figure = trainability_figure(results)
    assert len(figure.axes) == 2 * 3 + 2
    assert [axes.get_title() for axes in figure.axes[:2]] == ["global", "local"]


def test_the_command_writes_results_and_figure(tmp_path: Path) -> None:
    options = "--qubits 2,3 --layers 1,2 --losses nll,local --samples 10 --pairs 20 --data muon"
    found = CliRunner().invoke(app, ["study", "trainability", *options.split(), "--out", str(tmp_path / "s")])
    assert found.exit_code == 0, found.output
    assert "identity_blocks" in found.output
    written = json.loads((tmp_path / "s" / "results.json").read_text())
    assert {(row["loss"], row["initialisation"]) for row in written["falls"]} == {
        (loss, name) for loss in ("nll", "local") for name in ("uniform", "small-angle", "identity")
    }
    assert (tmp_path / "s" / "trainability.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--qubits 1,2", r"qubits is \[1, 2\]; different integers from 2 to 20"),
        ("--layers 2,2", r"layers is \[2, 2\]; different"),
        ("--qubits 2,x", "--qubits: found '2,x'; integers with commas"),
        ("--losses nl", "nll"),
        ("--initialisations ,", "initialisations is empty; allowed are uniform"),
        ("--ansatz data_reuploading", "ansatz is data_reuploading, which needs inputs"),
        ("--pairs 1", "samples is 200, pairs 1; at least 2"),
        ("--model gan", "--model goes with an experiment"),
        ("quickstart-muon", "--model is missing; models of quickstart-muon are born machine, cv born machine, gan"),
        ("quickstart-muon --model flo", "--model.*flo"),
        ("quickstart-muon --model copula", "copula is fitted when it is built; it has no gradient"),
    ],
)
def test_mistakes_are_one_line(options: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        CliRunner().invoke(
            app, ["study", "trainability", *options.split(), "--out", str(tmp_path)], catch_exceptions=False
        )
    assert "\n" not in str(caught.value)


def _experiment(**model: object):
    return resolve(
        {
            "name": "small",
            "dataset": {"kind": "muon", "n": 300, "features": ["x", "pt"], "beam_energies": [100]},
            "models": {"m": model},
        }
    )


def test_a_models_gradient_is_that_of_its_first_step() -> None:
    found = model_gradients(
        _experiment(kind="born_machine", conditional=False, layers=2, objective={"kind": "mmd"}),
        "m",
        seeds=3,
        events=64,
    )
    assert found["groups"]["weights"]["parameters"] == 24
    assert found["groups"]["weights"]["norm"] == pytest.approx(
        found["groups"]["weights"]["rms"] * math.sqrt(24), rel=0.5
    )
    assert len(set(found["losses"])) == 3
    assert found["noise"] == 0
    assert found["shot_noise"] > 0


def test_shot_noise_falls_with_the_root_of_the_shots() -> None:
    experiment = _experiment(kind="born_machine", conditional=False, layers=2, objective={"kind": "mmd"})
    few, many = (model_gradients(experiment, "m", seeds=2, events=64, shots=n)["shot_noise"] for n in (100, 10_000))
    assert few / many == pytest.approx(10, rel=0.5)


def test_a_model_whose_objective_takes_no_shots_says_so() -> None:
    experiment = _experiment(kind="born_machine", layers=1, objective={"kind": "nll"})
    found = model_gradients(experiment, "m", seeds=2, events=64)
    assert found["shot_noise"] is None
    assert "NLL needs probabilities, not frequencies of shots" in found["verdict"]


def test_dead_parameters_and_classical_models_are_told() -> None:
    experiment = _experiment(
        kind="born_machine", conditional=False, layers=1, rotations=["RZ"], objective={"kind": "mmd"}
    )
    found = model_gradients(experiment, "m", seeds=2, events=64)
    assert found["groups"]["weights"]["dead"] == 1
    assert found["verdict"].startswith("the gradient is zero")
    flow = model_gradients(_experiment(kind="flow", objective={"kind": "nll"}), "m", seeds=2, events=64)
    assert flow["shot_noise"] is None
    assert all(group["dead"] < 1 for group in flow["groups"].values())
    with pytest.raises(ValueError, match="seeds is 1; at least 2"):
        model_gradients(experiment, "m", seeds=1)


PAGE = (Path(__file__).parents[2] / "docs" / "trainability.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    for block in _blocks("python"):
        exec(block, {})
    *_, first, second = capsys.readouterr().out.split()
    assert 2 < float(first) < 6
    assert 2 < float(second) < 6


def test_the_configuration_of_the_page_is_one() -> None:
    (block,) = _blocks("yaml")
    training = resolve(yaml.safe_load(block)).models["born machine"].training
    assert training is not None
    assert training["layerwise"] == 40


def test_the_commands_of_the_page_are_taken() -> None:
    lines = [line for block in _blocks("sh") for line in block.splitlines()]
    assert len(lines) == 2
    known = {option for parameter in get_command(study).commands["trainability"].params for option in parameter.opts}
    assert {word for line in lines for word in line.split() if word.startswith("--")} <= known


def test_every_loss_and_initialisation_stands_on_the_page() -> None:
    rows = set(re.findall(r"^\| `([\w-]+)`", PAGE, flags=re.MULTILINE))
    assert {*LOSSES, *INITIALISATIONS} <= rows
