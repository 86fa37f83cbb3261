from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch

from experiments.catalogue import CATALOGUES
from experiments.cli import WHAT, main
from experiments.terminal import progress, wrote
from qgen.data import load_events, simulate_muon, write_events

CONFIG = """
name: tiny
dataset: {kind: calorimeter, grid: [4], max_events: 400}
models:
  born: {kind: born_machine, bits: 1, layers: 1, conditional: false, objective: {kind: mmd}, training: {steps: 3}}
  copula: {kind: copula}
evaluation: {bootstrap: 2}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(CONFIG)
    call(["run", str(folder / "tiny.yaml"), "--out", str(folder / "run")])
    return folder / "run"


def call(arguments: list[str], status: int = 0) -> None:
    before = sys.argv
    sys.argv = ["qgen", *arguments]
    try:
        with pytest.raises(SystemExit) as info:
            main()
        assert info.value.code == status
    finally:
        sys.argv = before


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The line on standard error of a command that ends with status 2."""
    before = sys.argv
    sys.argv = ["qgen", *arguments]
    try:
        with pytest.raises(SystemExit) as info:
            main()
    finally:
        sys.argv = before
    assert info.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def test_run_writes_results_and_report(run: Path) -> None:
    assert set(json.loads((run / "results.json").read_text())["models"]) == {"born", "copula", "discretised truth"}
    assert "<table" in (run / "report.html").read_text()


def test_run_prints_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(["run", str(run.parent / "tiny.yaml"), "--out", str(run), "--resume", "--no-report"])
    printed = capsys.readouterr().out
    for word in ("truth vs truth", "born", "copula", "correlation", "±"):
        assert word in printed


def test_a_run_is_gone_on_with_by_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    start = [
        str(tmp_path / "tiny.yaml"),
        "--set",
        "models.born.layers=2",
        "--out",
        str(tmp_path / "run"),
        "--no-report",
    ]
    call(["run", *start])
    (tmp_path / "run" / "results.json").unlink()
    call(["run", str(tmp_path / "run"), "--resume", "--no-report"])
    assert (tmp_path / "run" / "results.json").exists()
    error = refused(["run", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), "--resume"], capsys)
    assert f"`qgen run {tmp_path / 'run'} --resume` goes on with it" in error


@pytest.mark.parametrize(
    "arguments",
    [["sample", "nowhere", "--model", "born"], ["evaluate", "--truth", "nowhere.h5", "--generated", "nowhere.h5"]],
)
def test_a_place_that_is_not_there_is_said_before_the_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "missing" / "file"
    assert refused([*arguments, "--out", str(out)], capsys) == f"qgen: {out}: the folder {out.parent} does not exist\n"


def test_sample_then_evaluate_any_two_files(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for seed, file in enumerate(files):
        call(["sample", str(run), "--model", "copula", "-n", "200", "--out", str(file), "--seed", str(seed)])
    assert load_events(files[0]).samples.shape == (200, 4)
    assert not torch.equal(load_events(files[0]).samples, load_events(files[1]).samples)
    out = tmp_path / "table.json"
    call(["evaluate", "--truth", str(files[0]), "--generated", str(files[1]), "--out", str(out), "--metric", "ks"])
    table = json.loads(out.read_text())
    assert set(table["ks"]) == {"value", "uncertainty", "floor", "floor_uncertainty", "extrapolated"}
    printed = capsys.readouterr()
    assert "ks" in printed.out
    assert "reading a.h5" not in printed.out
    assert "reading a.h5" in printed.err


def test_sample_under_one_condition(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    call(["sample", str(run), "--model", "born", "-n", "5", "--out", str(out), "--condition", "50000"])
    assert load_events(out).column("incident_energy").tolist() == [50000.0] * 5


def test_report_of_two_runs(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    call(["report", str(run), str(run), "--out", str(out)])
    assert out.read_text().count("<section") >= 2


@pytest.mark.parametrize("what", WHAT)
def test_list(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    call(["list", what])
    known = {
        "models": "born_machine",
        "ansatze": "hardware_efficient",
        "datasets": "calorimeter",
        "metrics": "classifier_auc",
        "backends": "statevector",
        "experiments": "quickstart-muon",
        "objectives": "adversarial",
        "discriminators": "minibatch",
        "studies": "trainability",
    }
    assert known[what] in capsys.readouterr().out


def test_simulate_and_describe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "muons.h5"
    call(["data", "simulate", "muon", "--out", str(out), "-n", "100", "--beam-energy", "50", "--beam-energy", "200"])
    events = load_events(out)
    assert sorted(set(events.column("beam_energy").tolist())) == [50.0, 200.0]
    capsys.readouterr()
    call(["data", "describe", str(out)])
    assert "problems: none" in capsys.readouterr().out


def test_describe_tells_of_a_faulty_file_by_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "faulty.h5"
    with h5py.File(out, "w") as file:
        file["incident_energies"] = [[100.0], [200.0]]
        file["showers"] = [[1.0, 2.0], [3.0, -4.0]]
    call(["data", "describe", str(out)], status=1)
    assert "row 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "quickstart-moun"], "qgen: experiment 'quickstart-moun' is unknown; did you mean 'quickstart-muon'?"),
        (["run", "quickstart-muon", "--set", "seed=1"], "qgen: seed: key 'seed' is unknown; did you mean 'seeds'?"),
        (["list", "model"], "qgen: list 'model' is unknown; did you mean 'models'?"),
        (["report", "nowhere"], "qgen: nowhere: no run is here (config.yaml is missing)"),
        (["data", "describe", "nowhere.h5"], "qgen: nowhere.h5"),
        (["sample", "nowhere", "--model", "x", "--out", "y"], "qgen: nowhere: no run is here"),
        (["evaluate", "--truth", "a.h5", "--generated", "b.h5"], "qgen: a.h5"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(arguments, capsys)
    assert error.startswith(line)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("evaluate --seed -1", "invalid value for '--seed': input should be greater than or equal to 0 (found '-1')"),
        ("evaluate --sed 1", "no such option: --sed"),
        ("sample", "missing argument 'RUN'; `qgen sample --help` says what is allowed"),
        ("evaluat", "no such command 'evaluat'. Did you mean 'evaluate'?; `qgen --help` says what is allowed"),
        ("list metrics models", "got unexpected extra argument(s) (models); `qgen list --help` says what is allowed"),
        ("run --set", "option '--set' requires an argument"),
        ("data simulate muon --out x --mediator y", "invalid value for '--mediator': 'y' is not one of"),
        ("study cv-cost --layers x", "invalid value for '--layers': input should be a valid integer"),
    ],
)
def test_a_mistake_in_the_words_of_a_command_is_one_line(
    arguments: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(arguments.split(), capsys)
    assert error.startswith(f"qgen: {line}")
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["data"], ["study"], ["run", "--help"]])
def test_help_is_shown_where_it_is_asked_for_or_nothing_is(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    call(arguments, status=0 if "--help" in arguments else 2)
    printed = capsys.readouterr()
    assert " ".join(["Usage: qgen", *arguments[:1], "[OPTIONS]"]) in printed.out
    assert printed.err == ""


def test_what_can_be_listed_is_in_the_help() -> None:
    assert tuple(CATALOGUES) == WHAT


def test_names_with_brackets_are_told_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as reporter:
        reporter.stage("[bold]born[/red]", 0, 3)
        reporter.warning("nothing is in [/tmp]")
    wrote(Path("[/run]"), "results")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "[bold]born[/red], seed 0: 3 steps\nnothing is in [/tmp]\n[/run]: results\n"


def test_a_missing_extra_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pylhe", None)
    (tmp_path / "events.lhe").write_text("<LesHouchesEvents></LesHouchesEvents>")
    error = refused(["data", "describe", str(tmp_path / "events.lhe")], capsys)
    assert error == "qgen: reading LHE files needs pylhe: pip install 'qgen-hep[hep]'\n"


def test_an_interrupted_run_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.run.run_experiment", interrupted)
    monkeypatch.setattr(sys, "argv", ["qgen", "run", "quickstart-muon"])
    with pytest.raises(SystemExit) as info:
        main()
    assert info.value.code == 130
    assert capsys.readouterr().err.startswith("qgen: interrupted; the same command with --resume")


def test_a_lack_of_memory_is_one_line_and_a_fault_of_the_lab_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments: object, **options: object) -> None:
        torch.empty(2**55, dtype=torch.float64)

    monkeypatch.setattr("experiments.run.run_experiment", greedy)
    assert refused(["run", "quickstart-muon"], capsys).startswith("qgen: the memory here does not suffice")

    def wrong(*arguments: object, **options: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("experiments.run.run_experiment", wrong)
    with pytest.raises(RuntimeError, match="a fault"):
        call(["run", "quickstart-muon"])


@pytest.mark.parametrize("device", ["gpu", "meta"])
def test_an_unknown_device_is_one_line(
    run: Path, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = ["sample", str(run), "--model", "born", "--out", str(tmp_path / "s.h5"), "--device", device]
    assert f"device '{device}' is" in refused(sampled, capsys)


def test_different_columns_are_refused_with_both_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    muons, showers = tmp_path / "muons.h5", tmp_path / "showers.h5"
    write_events(muons, simulate_muon(n=100))
    call(["sample", str(run), "--model", "copula", "-n", "100", "--out", str(showers)])
    capsys.readouterr()
    error = refused(["evaluate", "--truth", str(showers), "--generated", str(muons)], capsys)
    assert "layer_0" in error
    assert "energy" in error


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys; import experiments.cli; "
        "print(sorted({'torch', 'numpy', 'pennylane', 'qiskit', 'matplotlib', 'rich.progress'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_import_of_the_api_needs_no_heavy_library() -> None:
    heavy = {
        "pennylane",
        "qiskit",
        "matplotlib",
        "sklearn",
        "scipy.stats",
        "zuko",
        "h5py",
        "numba",
        "mthree",
        "qiskit_ibm_runtime",
        "pylhe",
        "pydantic",
    }
    modules = "qgen, qgen.data, qgen.metrics, qgen.models, qgen.training, classical_baselines, circuits.backends"
    code = f"import sys; import {modules}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
