from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest
import yaml

import qgen.files
from experiments import rescore as rescoring
from experiments.claim import held
from experiments.sweep import Sweep, Told, load_sweep, sweep
from experiments.sweep.folder import read_setup
from qgen import load_run
from sweeps import GRID, TINY, call, metrics, same, starts

FEW = {"model.layers": [1, 2], "seed": [0, 1]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep that is only read."""
    return sweep(TINY, FEW, out=tmp_path_factory.mktemp("finished") / "sweep")


def remarks(folder: Path, grid: Any = None, source: Any = TINY, **options: Any) -> tuple[Sweep, list[str]]:
    """Go on with a sweep; what it had to say."""
    lines: list[str] = []
    return sweep(source, grid, out=folder, resume=True, told=Told(remark=lines.append), **options), lines


def fails_at(monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], bool]) -> None:
    """Files for which ``broken`` holds cannot be written: the disk is full."""
    write = qgen.files.os.fsync

    def fsync(number: int) -> None:
        if broken(Path(f"/proc/self/fd/{number}").readlink()):
            raise OSError(28, "No space left on device")
        write(number)

    monkeypatch.setattr(qgen.files.os, "fsync", fsync)


def test_every_point_is_a_run_of_its_own(finished: Sweep) -> None:
    assert [job.point for job in finished.jobs] == [
        {"model.layers": layers, "seed": seed} for layers in (1, 2) for seed in (0, 1)
    ]
    assert {job.status for job in finished.jobs} == {"finished"}
    for job in finished.jobs:
        run = load_run(job.folder)
        assert run.seeds == [job.point["seed"]]
        assert run.config["models"]["born"]["layers"] == job.point["model.layers"]
        assert run.training("born")["steps"] == 8
    assert starts(finished.folder) == dict.fromkeys((job.id for job in finished.jobs), 1)


def test_the_table_is_tidy(finished: Sweep) -> None:
    table = finished.table
    assert table.column_names == [
        *("job", "model.layers", "model", "kind", "seed", "metric", "value", "uncertainty", "floor"),
        *("floor_uncertainty", "n_parameters", "train_seconds", "status"),
    ]
    assert pyarrow.parquet.read_table(finished.folder / "results.parquet").equals(table)
    assert pyarrow.csv.read_csv(finished.folder / "results.csv").to_pylist() == table.to_pylist()
    row = table.to_pylist()[0]
    results = load_run(finished.jobs[0].folder).results["models"]["born"]["seeds"]["0"]
    for name, number in results["metrics"][row["metric"]].items():
        assert row.get(name, number) == number
    assert (row["model"], row["kind"], row["seed"], row["n_parameters"]) == ("born", "born_machine", 0, 12)
    assert {(r["model.layers"], r["seed"]) for r in table.to_pylist()} == {(1, 0), (1, 1), (2, 0), (2, 1)}


def test_a_finished_job_is_never_run_again_and_a_grid_may_grow(finished: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    sweep(TINY, {"model.layers": [1], "seed": range(2)}, out=folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("jobs/*/results.json")}
    found, lines = remarks(folder, FEW)
    assert lines == []
    assert set(starts(folder).values()) == {1}
    assert len(found.jobs) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert same(folder, finished.folder)
    assert read_setup(folder).grids == [FEW]
    found, _ = remarks(folder, {"dataset.n": [200, 150], "seed": [0]})
    points = [(job.point["model.layers"], job.point["seed"], job.point["dataset.n"]) for job in found.jobs]
    assert points == [(1, 0, 200), (1, 0, 150), (1, 1, 200), (2, 0, 200), (2, 1, 200)]
    assert found.table["dataset.n"].to_pylist().count(150) == 2  # the model, and truth through its cells


def test_a_cluster_changes_nothing(finished: Sweep, tmp_path: Path) -> None:
    found = sweep(TINY, FEW, out=tmp_path / "sweep", farm="dask=2")
    assert {job.status for job in found.jobs} == {"finished"}
    assert same(finished.folder, tmp_path / "sweep")
    assert set(starts(found.folder).values()) == {1}
    processes = {json.loads(path.read_text())["process"] for path in found.folder.glob("jobs/*/starts.jsonl")}
    assert os.getpid() not in processes
    tables = [one.table.drop_columns(["train_seconds"]) for one in (found, finished)]
    assert tables[0].equals(tables[1])


def test_a_failed_job_keeps_its_error_and_the_others_go_on(
    finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, bad = tmp_path / "sweep", finished.jobs[1].id
    with monkeypatch.context() as patch:
        fails_at(patch, lambda path: path.parent.name == "born" and bad in path.parts)
        lines: list[str] = []
        found = sweep(TINY, FEW, out=folder, told=Told(remark=lines.append))
    assert [job.status for job in found.jobs] == ["finished", "failed", "finished", "finished"]
    assert len(lines) == 1
    assert lines[0].startswith("model.layers=1, seed=1: failed: ")
    assert "No space left on device" in lines[0]
    record = json.loads((folder / "jobs" / bad / "failed.json").read_text())
    assert (record["type"], record["attempts"]) == ("OSError", 1)
    assert "No space left on device" in record["traceback"]
    row = found.table.filter(pyarrow.compute.equal(found.table["job"], bad)).to_pylist()
    assert len(row) == 1
    assert (row[0]["model.layers"], row[0]["seed"], row[0]["value"]) == (1, 1, None)
    assert row[0]["status"].startswith("failed: ")
    found, lines = remarks(folder)
    assert lines == []
    assert found.failures == []
    assert not (folder / "jobs" / bad / "failed.json").exists()
    assert same(finished.folder, folder)
    assert starts(folder) == {job.id: 1 + (job.id == bad) for job in finished.jobs}


def test_a_full_disk_may_not_even_take_the_error(
    finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = finished.jobs[0].id
    with monkeypatch.context() as patch:
        fails_at(patch, lambda path: bad in path.parts)
        lines: list[str] = []
        found = sweep(TINY, FEW, out=tmp_path / "sweep", told=Told(remark=lines.append))
    assert len(found.table["job"].unique()) == 3
    assert "No space left" in found.untold[0]
    assert "why it failed could not be written" in lines[0]
    assert "No space left" in lines[1]
    assert remarks(tmp_path / "sweep")[1] == []
    assert same(finished.folder, tmp_path / "sweep")


def test_damaged_files_of_a_job_are_made_anew(finished: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    places = [job.folder for job in sweep(TINY, FEW, out=folder).jobs]
    (places[0] / "results.json").write_text('{"name": "ti')
    (places[1] / "results.json").write_text('{"name": "tiny", "seeds": [0], "models": {}}')
    (places[2] / "job.json").write_text("[")
    (places[3] / "results.json").unlink()
    (places[3] / "config.yaml").write_text("name: {")
    (folder / "results.parquet").write_bytes(b"PAR1")
    assert [job.status for job in load_sweep(folder).jobs] == ["unfinished", "unfinished", "unfinished"]
    found, lines = remarks(folder)
    assert [line.partition(":")[0] for line in lines] == ["model.layers=1, seed=0", "model.layers=1, seed=1"]
    assert all("results.json: " in line and line.endswith("the job is judged again") for line in lines)
    assert {job.status for job in found.jobs} == {"finished"}
    assert same(finished.folder, folder)
    assert pyarrow.parquet.read_table(folder / "results.parquet").equals(found.table)


def test_a_job_in_work_elsewhere_is_left_alone_and_looked_at_again(tmp_path: Path) -> None:
    folder, grid = tmp_path / "sweep", {"seed": [0, 1, 2]}
    first = sweep(TINY, {"seed": [0]}, out=folder).jobs[0]
    (first.folder / "results.json").unlink()
    with held(first.folder / ".job.lock"):
        found, lines = remarks(folder, grid)
    assert lines == ["seed=0: in work elsewhere, left alone"]
    assert [job.status for job in found.jobs] == ["unfinished", "finished", "finished"]
    (found.jobs[1].folder / "results.json").unlink()
    other = held(first.folder / ".job.lock")
    other.__enter__()  # a second process, that dies while this one works
    told = Told(ended=lambda point, done, of: other.__exit__(None, None, None))
    found = sweep(TINY, grid, out=folder, resume=True, told=told)
    assert {job.status for job in found.jobs} == {"finished"}
    assert [starts(folder)[job.id] for job in found.jobs] == [2, 2, 1]


def test_a_failure_of_another_process_is_not_tried_at_once_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, grid = tmp_path / "sweep", {"seed": [0, 1]}
    bad = sweep(TINY, {"seed": [1]}, out=folder).jobs[0]
    (bad.folder / "results.json").unlink()

    def fail(*_: Any) -> None:  # what another process has done since this one began
        (bad.folder / "failed.json").write_text(json.dumps({"type": "RuntimeError", "message": "boom", "attempts": 2}))

    lines: list[str] = []
    sweep(TINY, grid, out=folder, resume=True, told=Told(fail, lines.append))
    assert lines == ["seed=1: failed: boom"]
    assert starts(folder)[bad.id] == 1
    assert remarks(folder)[1] == []
    assert starts(folder)[bad.id] == 2


def test_a_clock_that_jumps_changes_nothing(finished: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**10, 0, -(10**5)))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "time_ns", lambda: next(now) * 10**9)
    folder = tmp_path / "sweep"
    sweep(TINY, {**FEW, "seed": [0]}, out=folder)
    remarks(folder, FEW)
    assert same(finished.folder, folder)
    assert set(starts(folder).values()) == {1}


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path) -> None:
    few_events = {**TINY, "dataset": {"kind": "gaussian", "n": 10}}
    for raw, grid, line in (
        (TINY, {"model.layers": [1, 0]}, "grid at model.layers=0: models.born.layers"),
        (few_events, {"seed": [0, 1]}, "grid at seed=0: dataset: .* events; at least"),
        (TINY, None, "grid: nothing is varied; give paths and their values, --grid model.layers=2,4,8"),
    ):
        with pytest.raises(ValueError, match=line):
            sweep(raw, grid, out=tmp_path / "sweep")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_that_of_one_sweep(finished: Sweep, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="holds a sweep; go on with it by --resume"):
        sweep(TINY, FEW, out=finished.folder)
    with pytest.raises(ValueError, match="sweep.yaml: is of another configuration; choose another folder"):
        remarks(finished.folder, FEW, overrides=["checkpoint_every=3"])
    (tmp_path / "x").touch()
    with pytest.raises(FileExistsError, match=r"holds 'x' but no sweep.yaml"):
        sweep(TINY, FEW, out=tmp_path)
    with pytest.raises(ValueError, match="a file is in the way"):
        sweep(TINY, FEW, out=tmp_path / "x" / "sweep")
    with pytest.raises(FileNotFoundError, match=r"no sweep is here \(sweep.yaml is missing\)"):
        load_sweep(tmp_path)


def test_a_folder_that_takes_no_files_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.geteuid() == 0:  # to whom every folder is open
        make = os.mkdir

        def mkdir(path: Any, *rest: Any, **options: Any) -> None:
            if "closed" in str(path):
                raise PermissionError(13, "Permission denied", str(path))
            make(path, *rest, **options)

        monkeypatch.setattr(os, "mkdir", mkdir)
    place = tmp_path / "closed" / "sweep"
    call(["sweep", str(tmp_path / "tiny.yaml"), "--grid", "seed=0", "--out", str(place)], status=2)
    assert capsys.readouterr().err == f"qgen: {place}: permission denied\n"


def test_a_file_may_say_all_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "study.yaml").write_text(
        "config: tiny.yaml\ngrid: {model.layers: [1, 2], seed: '0:2', model.objective.bandwidths: [[1e-1]]}\n"
        "set: {checkpoint_every: 4, models.born.training.steps: 3}\nfarm: {kind: processes, workers: 2}\n"
    )
    setup = read_setup(tmp_path / "study.yaml", overrides=["checkpoint_every=5"])
    assert setup.base.raw["checkpoint_every"] == 5
    assert setup.base.raw["models"]["born"]["training"]["steps"] == 3
    assert setup.grids[0]["seed"] == [0, 1]
    assert setup.farm is not None
    assert setup.farm.plain() == {"kind": "processes", "workers": 2}
    (tmp_path / "again.yaml").write_text(setup.to_yaml())
    assert read_setup(tmp_path / "again.yaml") == setup
    assert read_setup(tmp_path / "study.yaml", ["seed=5"], farm="here").grids == [{"seed": [5]}]
    for text, line in (
        ("config: tiny.yaml\ngrids: {}", "key 'grids' is unknown; did you mean 'grid'"),
        ("config: 3\ngrid: {seed: [0]}", "config: found 3; expected a name, a file, or a configuration"),
        ("config: tiny.yaml\ngrid: {seed: [0]}\nset: 3", "set: found 3; expected a value for each path"),
        ("config: tiny.yaml\ngrid: {seed: [0]}\nfarm: far", "farm: kind 'far' is unknown"),
        ("config: tiny\ngrid: {seed: [0]}", "experiment '.*tiny' is unknown"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises((ValueError, FileNotFoundError), match=line):
            read_setup(tmp_path / "bad.yaml")


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    setup = read_setup({**TINY, "dataset": {"kind": "muon", "path": "events.h5"}}, {"seed": [0]})
    assert setup.base.raw["dataset"]["path"] == str(tmp_path / "events.h5")


def test_the_command_prints_the_best_points_and_goes_on_by_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    folder = tmp_path / "sweep"
    words = [
        "sweep",
        str(tmp_path / "tiny.yaml"),
        "--grid",
        "model.layers=1,2",
        "--grid",
        "seed=0:2",
        "--out",
        str(folder),
    ]
    call(words)
    printed = capsys.readouterr().out
    for word in ("tiny: the best points", "correlation", "model.layers", "born", "±"):
        assert word in printed
    assert (folder / "report.html").is_file()
    call(["sweep", str(folder), "--grid", "seed=7", "--resume", "--no-report"])
    assert len(load_sweep(folder).jobs) == 5
    assert "5/5 seed=7" in capsys.readouterr().err
    call(words, status=2)
    assert (
        capsys.readouterr().err
        == f"qgen: {folder}: holds a sweep; go on with it by --resume, or choose another with --out\n"
    )
    place = load_sweep(folder).jobs[0].folder
    (place / "results.json").unlink()
    (place / "seed-0").rename(place / "seed-x")
    (place / "seed-0").touch()
    call(["sweep", str(folder), "--resume", "--no-report"], status=1)
    assert "model.layers=1, seed=0: failed: " in capsys.readouterr().err


def test_metrics_of_jobs_are_those_of_a_run(finished: Sweep, tmp_path: Path) -> None:
    from experiments.config import resolve
    from experiments.run import run_experiment

    run = run_experiment(resolve({**TINY, "seeds": [1]}), tmp_path / "run")
    job = finished.jobs[1]
    assert (
        load_run(run).results["models"]["born"]["metrics"] == load_run(job.folder).results["models"]["born"]["metrics"]
    )
    assert set(metrics(finished.folder)[job.id]) == {("born", "1"), ("discretised truth", "1")}
    assert len(GRID["seed"]) == 6


def test_a_farm_that_cannot_be_opened_leaves_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sweep"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="^farm: sbatch is not found; slurm is not on this machine$"):
        sweep(TINY, {"seed": [0]}, out=folder, farm="slurm=2")
    assert not folder.exists()
    assert [job.status for job in sweep(TINY, {"seed": [0]}, out=folder).jobs] == ["finished"]


def test_a_job_is_finished_when_it_is_judged_on_every_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rescore = tmp_path / "sweep", rescoring.rescore
    raw = {
        **TINY,
        "models": {"born": TINY["models"]["born"], "other": TINY["models"]["born"]},
        "evaluation": {**TINY["evaluation"], "backends": {"few shots": {"kind": "statevector", "shots": 50}}},
    }

    def full(*arguments: Any, **options: Any) -> Any:
        rescore(*arguments, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rescoring, "rescore", full)
    assert [job.status for job in sweep(raw, {"seed": [0]}, out=folder).jobs] == ["failed"]
    monkeypatch.undo()
    (job,) = remarks(folder, source=raw)[0].jobs
    assert job.status == "finished"
    results = job.folder / "backends" / "few shots" / "results.json"
    whole = json.loads(results.read_text())
    assert set(whole["models"]) == {"born", "other"}
    results.write_text(json.dumps({**whole, "models": {"born": whole["models"]["born"]}}))  # killed between the two
    remarks(folder, source=raw)
    again = json.loads(results.read_text())["models"]
    assert again["born"] == whole["models"]["born"]
    assert again["other"]["metrics"] == whole["models"]["other"]["metrics"]
    before = starts(folder)
    remarks(folder, source=raw)
    assert starts(folder) == before


@pytest.mark.parametrize("made", ["link", "file"])
def test_a_job_without_a_folder_of_its_own_is_no_success(made: str, tmp_path: Path) -> None:
    folder, outside = tmp_path / "sweep", tmp_path / "outside"
    outside.mkdir()
    first = sweep(TINY, {"seed": [0]}, out=folder).jobs[0]
    first.folder.rename(tmp_path / "away")
    if made == "link":
        first.folder.symlink_to(outside)
    else:
        first.folder.write_text("mine")
    found, _ = remarks(folder, {"seed": [0, 1]})
    assert len(found.untold) == 1
    what = {"link": "a link", "file": "no folder"}[made]
    assert found.untold[0] == f"{first.folder}: is {what}; the folder of a job is needed"
    assert list(outside.iterdir()) == []
    assert [job.status for job in load_sweep(folder).jobs] == ["finished"]


def test_what_stands_in_the_place_of_a_jobs_files_is_neither_followed_nor_waited_for(tmp_path: Path) -> None:
    folder, outside = tmp_path / "sweep", tmp_path / "outside"
    outside.write_text("precious")
    job = sweep(TINY, {"seed": [0]}, out=folder).jobs[0]
    results = job.folder / "results.json"
    results.unlink()
    os.mkfifo(results)
    found, _ = remarks(folder)
    assert [one.error for one in found.failures] == [f"{results}: is no file of the lab; remove it"]
    results.unlink()
    (job.folder / "starts.jsonl").unlink()
    (job.folder / "starts.jsonl").symlink_to(outside)
    found, _ = remarks(folder)
    assert "starts.jsonl: is no file of the lab" in found.failures[0].error
    assert outside.read_text() == "precious"
