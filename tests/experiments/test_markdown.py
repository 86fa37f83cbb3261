"""The table of a run in Markdown holds the numbers of its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.config import load_config, resolve
from experiments.report.markdown import markdown
from experiments.run import run_experiment
from qgen.run import Run, load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {
        "name": "two | models",
        "description": "Two of <b>them</b>, `<i>` stays.",
        "dataset": {"kind": "muon", "n": 200},
        "models": {"copula": {"kind": "copula"}, "histogram": {"kind": "histogram", "bins": 4}},
        "seeds": [3, 4],
        "evaluation": {"metrics": ["ks", "correlation"], "bootstrap": 2},
    }
    return run_experiment(resolve(config), tmp_path_factory.mktemp("runs") / "run")


def test_the_table_has_every_model_metric_and_number(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    result = CliRunner().invoke(app, ["report", str(folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    text = out.read_text()
    table = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in text.splitlines() if line[:1] == "|"
    ]
    assert table[0] == ["model", "parameters", "training [s]", "ks", "correlation"]
    rows = {row[0]: row for row in table[2:]}
    assert list(rows) == ["truth vs truth", "copula", "histogram"]
    models = load_run(folder).results["models"]
    for name in ("copula", "histogram"):
        assert int(rows[name][1]) == models[name]["n_parameters"]
        for place, metric in enumerate(("ks", "correlation"), start=3):
            number = float(rows[name][place].strip("*").split(" ")[0])
            assert number == pytest.approx(models[name]["metrics"][metric]["value"], abs=0.051)
    assert sum(cell.startswith("**") for row in rows.values() for cell in row[3:]) == 2
    assert "2 trainings of every model (seeds 3, 4)" in text
    assert "Two of" in text


def test_the_command_gives_the_run_again(folder: Path) -> None:
    def command(run: Run) -> str:
        (line,) = (line for line in markdown(run).splitlines() if line.startswith("qgen "))
        return line

    run = load_run(folder)
    assert command(run) == f"qgen run {folder}/config.yaml --out {folder}-again"
    assert load_config(folder / "config.yaml").plain() == run.config
    shipped = load_config("quickstart-muon").plain() | {"description": "As it was."}
    assert command(replace(run, config=shipped)) == "qgen run quickstart-muon"
    del shipped["evaluation"]["max_events"]  # of a run before there was such a key
    assert command(replace(run, config=shipped)) == "qgen run quickstart-muon"
    changed = load_config("quickstart-muon", ["seeds=[7]"]).plain()
    assert "config.yaml" in command(replace(run, config=changed))
    assert "config.yaml" in command(replace(run, config={**shipped, "threads": 0}))


def test_a_folder_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    from experiments.report import write_markdown

    with pytest.raises(ValueError, match=r"nowhere does not exist$"):
        write_markdown([load_run(folder)], tmp_path / "nowhere" / "table.md")


def test_words_of_a_configuration_are_no_tags(folder: Path) -> None:
    assert "\nTwo of \\<b>them\\</b>, `<i>` stays.\n" in markdown(load_run(folder))
