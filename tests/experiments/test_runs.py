from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from experiments.claim import claimed, held, in_work
from experiments.cli import app
from experiments.runs import Entry, entry_of, runs_in
from experiments.runs_clean import planned, remove
from experiments.runs_compare import compared
from experiments.runs_filter import FIELDS, chosen, in_order, read_age, read_filter
from experiments.runs_table import as_rows
from qgen.run import load_run

DAY = 86400


def qgen(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def make(
    folder: Path,
    value: float | None = None,
    *,
    kind: str = "flow",
    model: str = "flow",
    seeds: tuple[int, ...] = (0,),
    age: float = 0.0,
    sha256: str = "a",
    **options: Any,
) -> Path:
    """A run's folder, finished if it has a value: what a run leaves, but for events and weights."""
    place = folder / f"seed-{seeds[0]}" / model
    place.mkdir(parents=True)
    (place / "checkpoint.safetensors").write_bytes(b"x" * 1000)
    (place / "checkpoint.previous.safetensors").write_bytes(b"x" * 1000)
    (place / "metrics.jsonl").write_text('{"step": 1}\n')
    (folder / ".lock").write_text("1")
    config = {
        "name": folder.name,
        "dataset": {"kind": "muon", "n": 400},
        "models": {model: {"kind": kind, **options}},
        "seeds": list(seeds),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"name": folder.name, "models": {model: kind}, "seeds": list(seeds), "data": {"sha256": sha256}}
    (folder / "environment.json").write_text(json.dumps(facts))
    if value is not None:
        score = {"value": value, "uncertainty": 0.01, "floor": 0.05, "floor_uncertainty": 0.01}
        scores = {
            "kind": kind,
            "n_parameters": 10,
            "train_seconds": 1.0,
            "sample_seconds": 0.1,
            "status": "completed",
            "metrics": {"wasserstein": score, "wasserstein/pt": score},
        }
        results = {"name": folder.name, "seeds": list(seeds), "models": {model: scores}}
        (folder / "results.json").write_text(json.dumps(results))
    for path in (folder / "config.yaml", folder / "environment.json", folder / "results.json"):
        if path.exists():
            moment = path.stat().st_mtime - age
            os.utime(path, (moment, moment))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Every kind of run that there is, and things that are none."""
    folder = tmp_path / "runs"
    make(folder / "good", 0.1, layers=2)
    make(folder / "better", 0.06, kind="gan", model="gan", layers=4, seeds=(0, 1, 2), age=40 * DAY)
    make(folder / "study" / "deep", 0.3, sha256="b")
    make(folder / "half", age=40 * DAY)
    failed = make(folder / "fell")
    (failed / "failed.json").write_text(json.dumps({"message": "no\nmemory", "attempts": 1}))
    broken = make(folder / "broken", 0.2)
    (broken / "results.json").write_text('{"name": "x"')
    (folder / "thesis").mkdir()
    (folder / "thesis" / "config.yaml").write_text("chapters: 5")
    (folder / "link").symlink_to(folder / "good")
    (folder / "round").symlink_to(folder)
    return folder


def entries(folder: Path, **options: Any) -> dict[str, Entry]:
    return {str(entry.folder.relative_to(folder)): entry for entry in runs_in(folder, **options)}


def test_every_run_is_listed_with_its_state_and_damaged_ones_with_their_reason(runs: Path) -> None:
    found = entries(runs)
    assert {name: entry.status for name, entry in found.items()} == {
        "better": "finished",
        "broken": "damaged",
        "fell": "failed",
        "good": "finished",
        "half": "unfinished",
        "study/deep": "finished",
    }
    assert found["broken"].reason.startswith("results.json: damaged (")
    assert found["fell"].reason == "no memory"
    assert found["half"].models == {"flow": "flow"}
    assert found["better"].seeds == [0, 1, 2]
    assert found["good"].size == sum(path.stat().st_size for path in (runs / "good").rglob("*") if path.is_file())
    best = found["good"].best()
    assert best is not None
    assert (best[0], best[1], best[2].value) == ("wasserstein", "flow", 0.1)


def test_a_run_in_work_is_seen_and_looking_does_not_disturb_it(runs: Path) -> None:
    with claimed(runs / "half"):
        assert entries(runs)["half"].status == "in work"
        assert "in work" in qgen("runs", "list", runs).output
    assert entries(runs)["half"].status == "unfinished"
    with held(runs / "fell" / ".job.lock") as mine:
        assert mine
        assert entries(runs)["fell"].status == "in work"
    assert not in_work(runs / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.yaml", None, "config.yaml is missing"),
        ("results.json", "[]", "found list"),
        ("results.json", '{"name": "x", "seeds": [], "models": {}}', "seeds"),
        ("results.json", "[" * 100_000, "results.json: damaged"),
        ("results.json", '{"a": ' + "9" * 5000 + "}", "results.json: damaged"),
    ],
)
def test_a_damaged_run_says_why(name: str, content: str | None, reason: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "run", 0.1)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    entry = entry_of(folder)
    assert entry is not None
    assert entry.status == "damaged"
    assert reason in entry.reason
    assert "\n" not in entry.reason


def test_an_unfinished_run_of_an_earlier_version_is_read_from_its_configuration(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    (folder / "environment.json").write_text("{}")
    entry = entry_of(folder)
    assert entry is not None
    assert (entry.status, entry.models, entry.seeds) == ("unfinished", {"flow": "flow"}, [0])
    (folder / "config.yaml").write_text("models: {../x: {kind: flow}}\nseeds: [0]\ndataset: {kind: muon}\n")
    entry = entry_of(folder)
    assert entry is not None
    assert entry.status == "damaged"


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["model=flow"], ["broken?", "fell", "good", "half", "study/deep"]),
        (["model=gan"], ["better"]),
        (["model!=flow"], ["better"]),
        (["metric<0.2"], ["better", "good"]),
        (["wasserstein/pt >= 0.1", "status=finished"], ["good", "study/deep"]),
        (["status=unfinished"], ["half"]),
        (["age>30d"], ["better", "half"]),
        (["age > 30 d", "model = flow"], ["half"]),
        (["seeds=3"], ["better"]),
        (["seed=2"], ["better"]),
        (["name~DEE"], ["study/deep"]),
        (["size<1kB"], []),
        (["models.flow.layers=2"], ["good"]),
        (["models.gan.layers>2"], ["better"]),
        (["dataset.kind=muon", "what=run", "folder~study"], ["study/deep"]),
        (["models.flow.layers!=2"], []),
    ],
)
def test_filters_choose(filters: list[str], names: list[str], runs: Path) -> None:
    found = chosen(list(runs_in(runs)), [read_filter(text) for text in filters])
    assert [str(entry.folder.relative_to(runs)) for entry in found] == [n for n in names if not n.endswith("?")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("status", "expected FIELD OPERATOR VALUE"),
        ("=3", "expected FIELD OPERATOR VALUE"),
        ("age<soon", "< needs a number, with a unit of s min h d w or none, found 'soon'"),
        ("metric<nan", "< needs a number, found 'nan'"),
        ("a" * 1000 + "=1", "filter 'aaaaaaaaaaaaaaaaaaaa...'"),
        ("__class__=1", "field '__class__' is unknown"),
        ("modell=flow", "did you mean 'model'"),
    ],
)
def test_a_filter_that_is_none_is_one_line(text: str, message: str, runs: Path) -> None:
    result = qgen("runs", "list", runs, "--filter", text)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


ENTRY = Entry(Path("a/b"), "run", "b", "finished", "", {"m": "flow"}, [0], 0.0, 10)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30) | st.builds("{}{}{}".format, st.sampled_from(FIELDS), st.sampled_from("=<>~!"), st.text()))
def test_any_filter_is_read_or_refused_in_one_line(text: str) -> None:
    said = ""
    try:
        found = chosen([ENTRY], [read_filter(text)])
    except ValueError as error:
        found, said = [], str(error)
    assert found in ([], [ENTRY])
    assert len(said.splitlines()) <= 1


def test_times_and_orders(runs: Path) -> None:
    assert read_age("1.5h") == 5400
    for text in ("-1d", "30 days", "", "1e999d1"):
        with pytest.raises(ValueError, match="is no time"):
            read_age(text)
    found = list(runs_in(runs))
    by_metric = [entry.folder.name for entry in in_order(found, "metric")]
    assert by_metric[:3] == ["better", "good", "deep"]
    assert [entry.folder.name for entry in in_order(found, "-metric")][:3] == ["deep", "good", "better"]
    assert in_order(found, "-age")[0].folder.name in ("better", "half")


def test_the_list_is_a_table_json_or_csv(runs: Path) -> None:
    table = qgen("runs", "list", runs)
    assert table.exit_code == 0
    assert "wasserstein 0.10 ± 0.01, flow" in " ".join(table.output.split())
    assert "6 in all" in table.output
    assert "fell: no memory" in table.output
    rows = json.loads(qgen("runs", "list", runs, "--json", "--sort", "metric", "--metric", "wasserstein/pt").output)
    assert rows == as_rows(in_order(list(runs_in(runs)), "metric", "wasserstein/pt"), "wasserstein/pt")
    assert rows[0] | {"folder": ""} == rows[0] | {"folder": "", "model": "gan", "value": 0.06, "uncertainty": 0.01}
    lines = list(csv.DictReader(io.StringIO(qgen("runs", "list", runs, "--csv").output)))
    assert [line["name"] for line in lines] == ["better", "broken", "fell", "good", "half", "deep"]
    assert "--json and --csv are both given" in str(qgen("runs", "list", runs, "--csv", "--json").exception)
    assert "no such folder" in str(qgen("runs", "list", runs / "nowhere").exception)


def test_a_run_is_shown_with_where_it_comes_from(runs: Path) -> None:
    result = qgen("runs", "show", runs / "better")
    assert result.exit_code == 0, result.exception
    for text in ("gan (gan)", "0-2", "data.sha256", "wasserstein"):
        assert text in result.output
    assert "damaged (results.json" in str(qgen("runs", "show", runs / "broken").exception)
    assert "no run, sweep or search is here" in str(qgen("runs", "show", runs / "thesis").exception)


def test_runs_are_compared_field_by_field_and_metric_by_metric(runs: Path) -> None:
    found = compared([load_run(runs / name) for name in ("good", "better", "study/deep")])
    assert found.config["models.flow.layers"] == [2, None, None]
    assert found.config["seeds"] == [[0], [0, 1, 2], [0]]
    assert "name" not in found.config
    assert found.made == {"data.sha256": ["a", "a", "b"]}
    (line,) = found.lines
    assert (line.model, line.metric) == ("flow | gan", "wasserstein")
    assert line.differences[0] == 0
    assert line.differences[1] == pytest.approx(-0.04 / (0.01 * 2**0.5))
    assert line.differences[2] == pytest.approx(0.2 / (0.01 * 2**0.5))
    result = qgen("runs", "compare", runs / "good", runs / "better", runs / "study" / "deep")
    assert "(-2.8)" in result.output
    assert "The runs have other events" in result.output
    plain = json.loads(qgen("runs", "compare", runs / "good", runs / "better", "--json").output)
    assert plain["metrics"][0]["values"] == [0.1, 0.06]


def test_what_cannot_be_compared_is_one_line(runs: Path) -> None:
    assert "at least two are compared" in str(qgen("runs", "compare", runs / "good").exception)
    assert "is not finished" in str(qgen("runs", "compare", runs / "good", runs / "half").exception)
    result = qgen("runs", "compare", runs / "good", runs / "better", "--metric", "mmd")
    assert "metric 'mmd' is unknown" in str(result.exception)


def test_nothing_is_removed_without_yes(runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    result = qgen("runs", "clean", runs, "--unfinished", "--failed", "--finished", "--checkpoints")
    assert result.exit_code == 0, result.exception
    listed = [line.split(": ")[0] for line in result.stdout.splitlines()]
    assert sorted(Path(line).name for line in listed) == ["better", "deep", "fell", "good", "half"]
    assert "would be freed; --yes removes it" in result.stderr
    assert sorted(runs.rglob("*")) == before
    assert "nothing to clean is named" in str(qgen("runs", "clean", runs).exception)


def test_what_is_asked_for_goes_and_nothing_else(runs: Path) -> None:
    assert qgen("runs", "clean", runs, "--unfinished", "--older-than", "30d", "--yes").exit_code == 0
    assert not (runs / "half").exists()
    assert qgen("runs", "clean", runs, "--failed", "--older-than", "30d", "--yes").exit_code == 0
    assert (runs / "fell").exists()
    assert qgen("runs", "clean", runs, "--finished", "--filter", "metric>0.2", "--yes").exit_code == 0
    assert set(entries(runs)) == {"better", "broken", "fell", "good"}
    assert (runs / "thesis" / "config.yaml").exists()


def test_checkpoints_of_finished_runs_go_alone(runs: Path) -> None:
    kept = {path for path in runs.rglob("*") if "checkpoint" not in path.name or path.parts[-4] in ("half", "fell")}
    qgen("runs", "clean", runs, "--checkpoints", "--yes")
    assert {path for path in runs.rglob("*") if path.parts[-4] != "broken"} == {
        path for path in kept if path.parts[-4] != "broken"
    }
    assert len(list((runs / "broken").rglob("checkpoint*"))) == 2
    assert entries(runs)["good"].status == "finished"


def test_a_run_in_work_stays(runs: Path) -> None:
    plan = planned(list(runs_in(runs)), ["unfinished"])
    assert [one.folder.name for one in plan] == ["half"]
    with claimed(runs / "half"):
        assert remove(plan[0]) == "is in work now"
        assert planned(list(runs_in(runs)), ["unfinished"]) == []
    (runs / "half" / "results.json").write_text((runs / "good" / "results.json").read_text())
    assert remove(plan[0]) == "is finished now"
    assert (runs / "half" / "seed-0").exists()


def test_a_run_that_is_judged_on_a_backend_stays(runs: Path) -> None:
    plan = planned(list(runs_in(runs)), ["finished"])
    good = next(one for one in plan if one.folder.name == "good")
    with claimed(runs / "good" / "backends" / "noisy"):
        assert entries(runs)["good"].status == "in work"
        assert remove(good) == "is in work now"
    assert remove(good) == ""
    assert not (runs / "good").exists()


def test_a_lock_that_is_a_link_is_never_written_to(runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (runs / "half" / ".job.lock").symlink_to(outside)
    result = qgen("runs", "clean", runs, "--unfinished", "--yes")
    assert "half: stays, it cannot be held" in result.stderr
    assert outside.read_text() == "precious"
    with pytest.raises(ValueError, match="is no file of the lab"), held(runs / "half" / ".job.lock"):
        pass


@pytest.mark.parametrize(
    "place",
    [
        "notes.txt",
        "plots/a.png",
        "seed-0/notes.txt",
        "seed-0/flow/plot.png",
        "seed-0/flow/jobs/thesis.tex",
        "tensorboard/notes.txt",
        "backends/noisy/seed-0/flow/plot.png",
        "backends/thesis.tex",
    ],
)
def test_a_folder_that_holds_something_else_stays(place: str, runs: Path) -> None:
    path = runs / "half" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    result = qgen("runs", "clean", runs, "--unfinished", "--yes")
    assert path.read_text() == "mine"
    assert (runs / "half" / "seed-0" / "flow" / "metrics.jsonl").exists()
    assert f"stays, it holds {place.removesuffix('/a.png')}, which is none of a run's files" in result.stderr


def test_links_are_removed_and_not_followed(runs: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "checkpoint.safetensors").write_text("precious")
    (runs / "half" / "seed-7").symlink_to(outside)
    far = runs / "half" / "backends" / "far"
    far.parent.mkdir()
    far.symlink_to(outside)
    (runs / "half" / "seed-0" / "flow" / "generator.safetensors").symlink_to(outside / "checkpoint.safetensors")
    (runs / "good" / "seed-1").mkdir()
    (runs / "good" / "seed-1" / "flow").symlink_to(outside)
    qgen("runs", "clean", runs, "--checkpoints", "--yes")
    assert (outside / "checkpoint.safetensors").read_text() == "precious"
    result = qgen("runs", "clean", runs, "--unfinished", "--yes")
    assert (outside / "checkpoint.safetensors").read_text() == "precious"
    assert "holds backends/far" in result.stderr
    far.unlink()
    assert "holds seed-7" in qgen("runs", "clean", runs, "--unfinished", "--yes").stderr
    (runs / "half" / "seed-7").unlink()
    qgen("runs", "clean", runs, "--unfinished", "--yes")
    assert not (runs / "half").exists()
    assert (outside / "checkpoint.safetensors").read_text() == "precious"


SWEEP = """
config:
  name: base
  dataset: {kind: muon, n: 400}
  models: {flow: {kind: marginals}}
grid: {seed: [0, 1, 2, 3]}
"""


def test_a_sweep_is_one_entry_and_its_jobs_are_told_on_request(runs: Path) -> None:
    sweep = runs / "base-sweep"
    make(sweep / "jobs" / "done", 0.1)
    failed = make(sweep / "jobs" / "fell")
    (failed / "failed.json").write_text(json.dumps({"message": "no memory"}))
    make(sweep / "jobs" / "half")
    (sweep / "sweep.yaml").write_text(SWEEP)
    found = entries(runs)
    assert (found["base-sweep"].what, found["base-sweep"].status) == ("sweep", "unfinished")
    assert found["base-sweep"].reason == "1 of 4 jobs finished, 1 failed"
    assert "base-sweep/jobs/done" not in found
    inside = entries(runs, inside=True)
    assert inside["base-sweep/jobs/fell"].status == "failed"
    with held(sweep / "jobs" / "done" / ".job.lock"):
        assert entries(runs)["base-sweep"].status == "in work"
        plan = planned(list(runs_in(sweep, inside=True)), ["unfinished", "failed"])
        assert plan == []
    qgen("runs", "clean", sweep, "--unfinished", "--failed", "--inside", "--yes")
    assert set(entries(runs, inside=True)) >= {"base-sweep", "base-sweep/jobs/done"}
    assert not (sweep / "jobs" / "half").exists()
    (sweep / "sweep.yaml").write_text("grid: [")
    assert entries(runs)["base-sweep"].status == "damaged"


def test_a_search_is_listed(runs: Path) -> None:
    folder = runs / "base-tune"
    shutil.copytree(runs / "good", folder)
    (folder / "tuning.json").write_text(json.dumps({"models": ["flow"], "trials": 3}))
    assert (entries(runs)["base-tune"].what, entries(runs)["base-tune"].status) == ("search", "unfinished")
    (folder / "best.yaml").write_text("")
    assert entries(runs)["base-tune"].status == "finished"
    (folder / "tuning.json").write_text("{")
    assert entries(runs)["base-tune"].status == "damaged"
