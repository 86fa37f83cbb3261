"""Tutorials run from start to end without a warning, say what is true, and agree with the text they are paired with."""

from __future__ import annotations

import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

TUTORIALS = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
LARGEST = 1_000_000
CELL_SECONDS = 240

# run before the first cell: the kernel is this environment's, and a warning is an error
STRICT = f"""
import sys, warnings
assert sys.prefix == {sys.prefix!r}, sys.prefix
warnings.simplefilter("error")
"""

# run after the last cell: what the text says of the results
CLAIMS = {
    "01_from_showers_to_the_table": """
def wrong(name, metric):
    return excess(table.of(name)[metric])

assert len(train) + len(validation) + len(test) == len(data)
assert correlation[0] < -0.3 and (correlation[1:] > 0.2).all()
assert (back - train.samples).abs().max() < 1e-9
three_bits = lost.of("3 bits a pixel")
assert all(excess(row) < 2 for row in three_bits.summary())
assert excess(lost.of("1 bits a pixel")["wasserstein"]) > 5
assert result.history[-1]["loss"] < 0.2 * result.history[0]["loss"]
assert (ours - theirs).abs().max() < 1e-12
assert all(wrong("flow", metric) < 3 for metric in metrics)
assert wrong("marginals", "wasserstein") < 2 and wrong("marginals", "ks") < 2
assert wrong("marginals", "correlation") > 2 and wrong("marginals", "classifier_auc") > 5
assert table.of("Born machine")["correlation"].value.value < table.of("marginals")["correlation"].value.value
assert wrong("Born machine", "wasserstein") > 3 > wrong("cells, 3 bits", "wasserstein")
first_pixel = {name: table.of(name)["wasserstein/layer_0"].value.value for name in models}
assert first_pixel["own circuit"] < 0.7 * first_pixel["Born machine"]
assert wrong("cells, 2 bits", "separation") > 5 and wrong("cells, 2 bits", "classifier_auc") > 3
assert same and torch.equal(again.samples, generated["own circuit"].samples)

# what it suggests to try
from circuits import Circuit
from circuits.backends import make_backend
from experiments.config import load_config
from qgen.data import muon_events
assert load_config("quickstart-calorimeter", ["seeds=[0,1,2]"]).seeds == [0, 1, 2]
assert abs(ConditionalFlow.for_dataset(data, n_parameters=170).n_parameters - 170) < 17
from_shots = BornMachine.for_dataset(data, bits=2, layers=1, conditional=False)
from_shots.backend = make_backend("statevector", shots=1000)
fit(from_shots, data, MMD(space="bits"), steps=2, batch_size=None)
assert load_calorimeter(grid=(2, 2), max_events=10).geometry.axes == ("x", "y")
assert len(muon_events(n=30)) == 30
assert Circuit.from_qiskit(own_circuit.to_qiskit()) == own_circuit
""",
    "02_one_machine_many_backends": """
def away(p):
    return total_variation(p, exact)

with torch.no_grad():
    machine.weights.copy_(weights)  # the last section has trained on

def corrected(name):
    return away(distribution(make_backend(**mitigated[name], seed=2)))

def found_in(name, metric):
    return table.of(name)[metric].value.value

assert away(found["PennyLane"]) < 1e-9
assert 0.005 < away(found["sampled"]) < 0.04
assert away(found["device, calibration"]) > 5 * away(found["sampled"]) and between < 0.05
assert curve[0] < 1e-9 and all(a < b for a, b in zip(curve, curve[1:])) and curve[-1] < uniform
assert corrected("nothing") > 4 * corrected("readout") > 8 * corrected("readout and zne")
assert away(improved["nothing"]) > 2 * away(improved["readout"]) > 2 * corrected("readout and zne")
assert abs(found_in("device", "wasserstein") - found_in("exact", "wasserstein")) < 0.04
assert found_in("device", "correlation") > found_in("device, mitigated", "correlation") + 0.015
assert found_in("device", "classifier_auc") > found_in("device, mitigated", "classifier_auc")
assert abs(float(pulls.mean())) < 0.5 and 0.6 < float(pulls.std()) < 1.4
assert adapted.history[-1]["loss"] < adapted.history[0]["loss"]
assert both.history[-1]["loss"] < both.history[0]["loss"] < 0.6 * adapted.history[-1]["loss"]

# what it says of the command line
from experiments.config import load_config
assert load_config("quickstart-calorimeter", ["backend={kind: statevector, shots: 4096}"])
""",
    "03_dual_pqc_on_geant4_showers": """
def found_in(name, metric):
    return table.of(name)[metric].value.value

assert model.pqc2.n_wires == 5 and model.n_parameters == 77
assert (kinds.bincount() > 0).all() and 1.05 < means.sum(0).max() < 4
medians = [few.train.conditions[kinds == i].median() for i in range(4)]
deep = [float(shape @ torch.arange(8.0, dtype=torch.float64)) for shape in means]
assert sorted(range(4), key=deep.__getitem__) == sorted(range(4), key=medians.__getitem__)
assert each[:3].max() < 0.01 and each[3] > 0.02 and mean_image < 0.005
assert found_in("four images", "classifier_auc") > 0.9
for metric in ("correlation", "classifier_auc"):
    assert found_in("with latent", metric) < 0.9 * found_in("marginals", metric)
assert found_in("copula", "classifier_auc") < found_in("with latent", "classifier_auc") + 0.03
assert models["copula"].n_parameters > 10 * smooth.n_parameters
assert abs(gan.n_parameters / smooth.n_parameters - 1) < 0.1
assert used.max() > 0.9
for count, value in zip(shots, worse):
    assert 0.5 < value / (7 / (2 * count)) < 1.5

# what it says of other backends and of the experiment
from experiments.config import load_config
smooth.backend = make_backend("density_matrix", noise={"depolarizing": 0.01})
assert smooth.sample(3, whole.conditions[0]).isfinite().all()
assert load_config("dual-pqc").seeds == [0, 1, 2]
""",
    "04_conditional_born_machine": """
def worst(name, where, metric="wasserstein"):
    return max(value(name, energy, metric) for energy in where)

between, beyond = (75.0, 150.0), (30.0, 400.0)
assert abs(gan.n_parameters - machine.n_parameters) < 0.05 * machine.n_parameters
assert [warning.category for warning in caught] == [ExtrapolationWarning]
assert worst("Born machine", inside) < 0.15 and worst("Born machine", between) < worst("Born machine", inside) + 0.04
assert all(abs(value("Born machine", energy) - value("GAN", energy)) < 0.06 for energy in between)
assert all(value("Born machine", energy) > 1.5 * worst("Born machine", inside) for energy in beyond)
assert all(value("Born machine", energy) > 1.5 * value("GAN", energy) for energy in beyond)
assert all(value("GAN", e, "correlation") < 0.6 * value("Born machine", e, "correlation") for e in energies)
assert worst("GAN", beyond) < worst("GAN", inside) + 0.06
truth, ours, theirs = (torch.corrcoef(events.samples.T)[[0, 0, 1], [1, 2, 2]] for events in at_75.values())
assert (ours.sign() == truth.sign()).all() and (ours.abs() < truth.abs() - 0.1).sum() == 2
assert (theirs - truth).abs().max() < 0.1
assert worst("Born machine, fast", inside) < 0.2 and value("Born machine, fast", 75.0) > 3 * value("Born machine", 75.0)
assert value("Born machine, fast", 150.0) > 3 * value("Born machine", 150.0)

# what it says of the command line
from experiments.config import load_config
assert "born machine, fast" in load_config("conditional-muon").models
""",
    "05_what_noise_does": """
def falls(values):
    return all(a > b for a, b in zip(values, values[1:]))

assert falls(spreads["angle"]) and falls(spreads["Born"][::-1])
assert spreads["angle"][-1] < 0.3 and spreads["Born"][-1] > 1.3
for name in models:
    distances = [value(scores[name, p]) for p in strengths]
    assert falls(distances[::-1])
assert value(scores["angle", 0]) < value(scores["Born", 0])
assert value(scores["angle", 0.1]) > 3 * value(scores["angle", 0])
assert scores["angle", 0.1]["correlation"].value.value > scores["Born", 0.1]["correlation"].value.value
assert (read - 0.94 * exact).abs().max() < 1e-12
trained = {p: value(adapted_scores["trained", p]) for p in (0.01, 0.03, 0.1)}
assert trained[0.01] < 1.1 * value(scores["angle", 0])
assert value(scores["angle", 0]) < trained[0.03] < 0.8 * value(scores["angle", 0.03])
assert trained[0.1] > 4 * floor and trained[0.1] > 0.7 * value(scores["angle", 0.1])
both = corrected_scores["readout and zne"]
assert value(both) < value(corrected_scores["readout"]) < value(scores["angle", 0.01])
assert value(both) < 1.1 * value(scores["angle", 0])
regained = spread(corrected["readout and zne"]) - spreads["angle"][2]
assert 0.35 < regained / (spreads["angle"][0] - spreads["angle"][2]) < 0.75

# what it suggests
from experiments.config import load_config
noise = load_config("noise", ["seeds=[0]"])
assert len({model.generator.kind for model in noise.models.values() if model.generator.kind != "marginals"}) == 3
assert len(noise.evaluation.backends) == 5
""",
    "06_from_a_coherent_state_to_a_cv_qgan": """
def found_in(name, metric):
    return table.of(name)[metric].value.value

means = {name: float(state.quadratures()[0]) for name, state in states.items()}
variances = {name: float(state.quadratures()[1]) for name, state in states.items()}
assert abs(means["coherent"] - 3.6) < 1e-5 and abs(variances["vacuum"] - 1) < 1e-9
assert variances["squeezed"] < 0.21 and abs(means["cat"]) < 1e-5
lowest = {name: float(wigner.min()) for name, wigner in wigners.items()}
assert lowest.pop("cat") < -0.1 and min(lowest.values()) > -1e-3
assert coincidences[20] < 1e-12 and abs(coincidences[0] - 1) < 1e-12
assert all((losses[a] >= losses[b] - 1e-12).all() for a, b in ((4, 8), (8, 16), (16, 24)))
two = amplitudes[20:21]
assert Fock(enough).run(move, two).norm_lost < 0.001 < Fock(enough - 1).run(move, two).norm_lost
assert [Fock(7, basis=b).run(Program(4), nothing).amplitudes.numel() for b in ("total", "mode")] == [210, 2401]
assert max(distances.values()) < 0.02
assert outputs[0.0].diff().diff().abs().max() < 1e-4 and outputs[0.3].diff().diff().abs().max() > 1e-3
assert chosen == {"with Kerr": "Fock", "without": "Gaussian"}
assert models["GAN"].n_parameters < 1.1 * models["CV, mlp"].n_parameters
for name in ("CV, mlp", "CV, MMD"):
    assert found_in(name, "wasserstein") < found_in("GAN", "wasserstein") + 0.05
    assert found_in(name, "classifier_auc") < 0.65
trained = ("CV, mlp", "CV, MMD", "CV Born", "GAN")
assert all(found_in("CV, cv", "wasserstein") > found_in(name, "wasserstein") for name in trained)
for name in ("CV Born", "copula"):
    for metric in metrics:
        assert found_in(name, metric) < table.of(name)[metric].floor.value + 0.06
with torch.no_grad():
    assert measured.wigner(1, grid, grid).min() > -0.01
assert (averaged.mean_photons().sum(1) < 0.5).all() and measured.mean_photons().sum(1).max() > 0.5
""",
    "07_judging_a_generator": """
def p(name, test):
    return tested.of(name)[test].value.p_value

def pull(name, metric):
    return table.of(name)[metric].pull

assert all(pull("nature", metric) < 3 for metric in metrics)
assert all(table.of("nature")[metric].floor.value > 0 for metric in ("wasserstein", "ks", "correlation"))
assert pull("no correlation", "wasserstein") < 2 < 4 < pull("no correlation", "correlation")
assert pull("no correlation", "classifier_auc") > 10
assert pull("layer 4 +10 %", "classifier_auc") > 3 and worst.feature == "layer_4" and worst.pull > 3
assert pull("layer 4 +10 %", "wasserstein") < worst.pull
assert pull("response +3 %", "wasserstein") < 3 and pull("3 % odd", "classifier_auc") < 4
assert all(p("nature", test) > 0.02 for test in tests)
assert all(p("no correlation", test) < 0.02 for test in tests)
assert p("3 % odd", "likelihood_ratio") < 0.02 < min(p("3 % odd", test) for test in tests[:3])
assert all(p(name, "likelihood_ratio") <= 0.02 for name in generators if name != "nature")
assert where_it_fails(generators["layer 4 +10 %"], weights["layer 4 +10 %"])[0].column == "layer_4"
spread = {name: float(w.generated.log().std()) for name, w in weights.items()}
assert spread["nature"] < 0.5 * spread["layer 4 +10 %"] < spread["no correlation"]
assert closure.of("weighted")["wasserstein"].value.value < 0.75 * closure.of("generated")["wasserstein"].value.value
areas = {name: closure.of(name)["classifier_auc"].value.value for name in ("generated", "weighted")}
assert areas["weighted"] < 0.53 < areas["generated"]
in_bins = {row.bin: row.pull for row in tilted if row.feature == "response"}
assert in_bins.pop("") < 2.5 < 4 < max(in_bins.values())
assert copied.of("copies")["memorisation"].value.value > 0.9 and copied.of("copula")["memorisation"].pull < 3
assert all(copied.of("copies")[metric].pull < 2.5 for metric in ("wasserstein", "classifier_auc"))
assert worth["resampled"].generated[-1].factor < 1.2 and worth["fitted"].generated[-1].factor > 3

# what it suggests to try
from qgen.metrics import find_metrics
assert set(tests) <= {m.name for m in find_metrics(["tests"])}
""",
    "08_why_a_kl_without_a_floor_misleads": """
def found_in(name, metric):
    return row(name, metric).value.value

assert one_event < moved < 2 * one_event
assert all(share > 0.8 for share in shares.values())
assert scores["gamma", 10_000] > 0.141 and scores["Gaussian", 10_000] > 0.05
assert all(scores[name, 1000] > 3 * scores[name, 10_000] > 9 * scores[name, 100_000] for name in ("gamma", "Gaussian"))
rises = [(b - a) / (k - j) for (a, j), (b, k) in zip(zip(chosen, exponents), zip(chosen[1:], exponents[1:]))]
assert max(rises) < 1.01 * min(rises)
assert found_in("no tail", "kl_published") > 30 * found_in("too wide", "kl_published")
assert found_in("too wide", "kl_published") < row("perfect", "kl_published").floor.value
assert row("too wide", "kl_published").pull < 0
for metric in metrics[1:]:
    assert found_in("no tail", metric) < found_in("too wide", metric) and row("too wide", metric).pull > 5
    assert abs(row("no tail", metric).pull) < 3 and abs(row("perfect", metric).pull) < 3
from qgen.metrics import METRICS
assert "rare_events" in METRICS
""",
    "09_train_here_deploy_there": """
def scored(name, metric):
    return found[name][metric]["value"]

assert all(row.value.value > row.floor.value for row in lost.of("bits").summary())
assert machine.discretiser.n_bits == 64 and machine.no_samples
assert losses[-1] < 0.7 * losses[0]
assert all(abs(scored(name, "one_body")) < 0.003 for name in found)
assert scored("iqp", "two_body") < 0.3
assert 0.8 < scored("bitflip", "two_body") < scored("independent bits", "two_body") < 1.1
assert scored("iqp", "string_mmd") < 0.6 * scored("bitflip", "string_mmd")
assert abs(two) < 0.05

# what is written down
assert "64 qubits" in program.lines[0] and program.facts.exists()
assert program.program.read_text().startswith("OPENQASM 3.0;")
crossings = int(on_device.lines[0].split()[-3])
assert 4000 < crossings < 6500
from experiments.config import load_config
short = IQPBornMachine.for_dataset(showers, gates="neighbours", **cells)
assert len(short.gates) == 64 + 112

# the small machine: the noise costs less than bits and circuit
def value(name, metric):
    return {row.metric: row.value.value for row in table.of(name).summary()}[metric]

for metric in ("wasserstein", "correlation"):
    loss_of_noise = value("noisy", metric) - value("exact", metric)
    assert loss_of_noise < value("exact", metric) - rows[metric].floor.value
assert measured["noisy"].samples.isfinite().all()
assert load_config("iqp-calo").name == "iqp-calo"
""",
}


def name_of(path: Path) -> str:
    return path.stem


def cells_of(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def test_every_notebook_has_its_text_and_every_text_its_notebook() -> None:
    assert NOTEBOOKS
    assert [path.stem for path in sorted(TUTORIALS.glob("*.md"))] == [path.stem for path in NOTEBOOKS]
    assert set(CLAIMS) <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_and_text_are_in_step(path: Path) -> None:
    text = cells_of(jupytext.read(path.with_suffix(".md")))
    notebook = cells_of(read(path))
    assert text == notebook, f"run: jupytext --sync {path.relative_to(TUTORIALS.parent)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_change_of_one_line_puts_them_out_of_step(path: Path) -> None:
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert cells_of(jupytext.reads(text.replace("import torch\n", "import torch as t\n"), fmt="md:myst")) != cells_of(
        read(path)
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_outputs_in_the_file_are_those_of_one_clean_run(path: Path) -> None:
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_it_runs_without_a_warning_and_what_it_says_is_true(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = read(path)
    before, after = nbformat.v4.new_code_cell(STRICT), nbformat.v4.new_code_cell(CLAIMS.get(path.stem, ""))
    notebook.cells = [before, *notebook.cells, after]
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources)
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert all(cell.execution_count for cell in code)
    noise = [o.text for cell in code for o in cell.outputs if o.get("name") == "stderr"]
    assert not noise
