"""Searches that lose workers, whole commands, writes and files, and go on as if nothing had been."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

from experiments.cli import app
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.farm import Farm, WorkerLostError
from experiments.run import load_dataset
from experiments.trained import Reporter, trained
from experiments.tune import Trial, Tuned, best_of, layout, tune
from experiments.tune.judge import Judge
from experiments.tune.layout import Search
from experiments.tune.storage import JOURNAL, Storage
from experiments.tune.trainer import with_parameters
from experiments.tune.trials import Trials
from experiments.tuning_table import tuning_markdown
from qgen.random import derive_seed

TRIALS = 10
"""Two more than are random: proposals follow from the trials before them."""

METRIC = "wasserstein"


def config(steps: int = 6, **changes: Any) -> dict[str, Any]:
    gan = {
        "kind": "gan",
        "hidden": [4],
        "tune": {"learning_rate": {"low": 0.001, "high": 0.1, "log": True}, "hidden": [[2], [4]]},
        "objective": {"kind": "mmd"},
        "training": {"steps": steps, "batch_size": 32, "log_every": 1, "validate_every": 2},
    }
    data = {"kind": "muon", "n": 300, "features": ["energy", "pt"]}
    evaluation = {"metrics": ["ks"], "bootstrap": 2}
    raw = {"name": "searched", "dataset": data, "models": {"gan": gan}, "evaluation": evaluation}
    return {**raw, "checkpoint_every": 2, **changes}


def lines(folder: Path) -> list[dict[str, Any]]:
    """The trials of a search without their times."""
    found = [json.loads(line) for line in (folder / "gan" / "trials.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if "seconds" not in key} for one in found]


def search(out: Path, experiment: Experiment | None = None, **options: Any) -> Tuned:
    return tune(experiment or resolve(config()), out=out, **{"trials": TRIALS, "metric": METRIC, **options})


def soon(there: Callable[[], Any], what: str) -> None:
    """Wait until something is there."""
    deadline = time.monotonic() + 120
    while not there():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.002)


def created(folder: Path) -> int:
    """How many trials its journal has begun."""
    return sum(json.loads(line)["op_code"] == 4 for line in (folder / JOURNAL).read_text().splitlines())


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "gan").iterdir() if path.name != "trials.jsonl")


@pytest.fixture(autouse=True, scope="module")
def one_dataset() -> Iterator[None]:
    """Events are simulated once."""
    simulated: dict[str, Any] = {}

    def load(experiment: Experiment) -> Any:
        key = str(experiment.dataset)
        if key not in simulated:
            simulated[key] = load_dataset(experiment)
        return simulated[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.tune.search.load_dataset", load)
        patch.setattr("experiments.tune.layout.load_dataset", load)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search that nothing disturbed."""
    return search(tmp_path_factory.mktemp("search") / "out").folder


def test_the_trials_are_in_a_study_that_optuna_reads_and_no_pickle_is(folder: Path) -> None:
    for line in (folder / JOURNAL).read_text().splitlines():
        assert isinstance(json.loads(line), dict)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    (name,) = optuna.get_all_study_names(storage)
    assert name == f"{json.loads((folder / 'tuning.json').read_text())['name']}/gan"
    study = optuna.load_study(study_name=name, storage=storage)
    assert [trial.number for trial in study.trials] == list(range(TRIALS))
    assert [trial.value for trial in study.trials] == [line["score"] for line in lines(folder)]
    best = min(lines(folder), key=lambda line: line["score"])["parameters"]
    assert study.best_trial.params["training.learning_rate"] == best["training.learning_rate"]
    assert left_behind(folder) == []


def test_a_crash_at_any_write_changes_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a write to the journal, after it, and in the midst of it."""
    append, count = JournalFileBackend.append_logs, 0

    def crash(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        if count % 4:
            return append(self, logs)
        if count % 3 == 0:
            append(self, logs)
        elif count % 3 == 1:
            with (tmp_path / "out" / JOURNAL).open("a") as file:
                file.write(json.dumps(logs[0])[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(JournalFileBackend, "append_logs", crash)
    crashes = 0
    while True:
        try:
            search(tmp_path / "out", resume=True)
            break
        except KeyboardInterrupt:
            crashes += 1
    assert crashes >= 4
    assert lines(tmp_path / "out") == lines(folder)
    assert left_behind(tmp_path / "out") == []


def test_an_interrupted_training_goes_on_from_its_checkpoint(folder: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def record(numbers: dict[str, float]) -> None:
        seen.append(int(numbers["step"]))
        if len(seen) % 17 == 0:
            raise KeyboardInterrupt

    while True:
        with suppress(KeyboardInterrupt):
            search(tmp_path / "out", resume=True, reporter=Reporter(record=record))
            break
    assert lines(tmp_path / "out") == lines(folder)
    assert len(seen) <= TRIALS * 6 + 2 * (len(seen) // 17)  # at most the steps since the last checkpoint are repeated


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """A process that does something and can be killed; it has all that is loaded here."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def killed(process: Any) -> None:
    process.kill()
    process.join()


def stuck(out: Path, number: int) -> None:
    """Search, and stand still in the midst of a training, with the lock of the trial held."""

    def record(numbers: dict[str, float]) -> None:
        if numbers["step"] == 5 and (out / "gan" / f".trial-{number}").exists():
            (out / f".stuck-{number}").touch()
            signal.pause()

    search(out, resume=True, reporter=Reporter(record=record))


def test_two_processes_share_a_search_and_one_takes_up_what_the_other_had_begun(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = forked(stuck, out, 2)
    soon((out / ".stuck-2").exists, "the third trial")
    told: list[str] = []

    def stage(model: str, seed: int, steps: int) -> None:
        told.append(model)
        if len(told) == 3:
            killed(other)

    search(out, resume=True, reporter=Reporter(stage=stage))
    assert told == [f"gan, trial {k} of {TRIALS}" for k in (*range(4, TRIALS + 1), 3)]  # after all others
    assert [trial["number"] for trial in lines(out)] == list(range(TRIALS))
    assert lines(out)[:4] == lines(folder)[:4]
    assert created(out) == TRIALS
    assert left_behind(out) == []


def test_a_search_that_is_killed_and_resumed_ends_as_one_that_is_not(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (0, 5, 9):
        process = forked(stuck, out, number)
        soon((out / f".stuck-{number}").exists, f"trial {number + 1}")
        assert list(out.glob(f"gan/.trial-{number}/checkpoint.safetensors"))
        killed(process)
    search(out, resume=True)
    assert lines(out) == lines(folder)
    assert left_behind(out) == []


def test_with_several_workers_and_one_that_dies_no_trial_is_lost_or_done_twice(tmp_path: Path) -> None:
    experiment, out = resolve(config(steps=100)), tmp_path / "out"
    victims: list[int | None] = []

    def kill() -> None:
        soon(lambda: list(out.glob("gan/.trial-*/checkpoint.safetensors")), "the checkpoint of a trial")
        victims.append(multiprocessing.active_children()[0].pid)
        os.kill(victims[0] or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    trials = search(out, experiment, trials=4, farm="processes=2").trials["gan"]
    killer.join()
    assert victims
    assert [trial.number for trial in trials] == list(range(4))
    assert [trial.status for trial in trials] == ["completed"] * 4
    assert created(out) == 4
    assert left_behind(out) == []
    judge = Judge.of(load_dataset(experiment), METRIC, 0)
    for trial in trials[::2]:  # its number and its parameters fix a trial, whoever does it
        model = with_parameters(experiment, "gan", trial.parameters).models["gan"]
        seed, place = derive_seed(0, "gan", "trial", trial.number), tmp_path / str(trial.number)
        place.mkdir()
        generator, _ = trained("gan", model, judge.dataset, seed, place, torch.device("cpu"), Reporter())
        assert judge.score(generator, seed).value == trial.score


class Fragile(Executor):
    """Runs in this process, and says of one that is interrupted that it has died."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except KeyboardInterrupt:
            future.set_exception(BrokenExecutor("killed"))
        return future


class FragileFarm(Farm):
    """Replaces workers that die."""

    kind: str = "fragile"

    def on(self, device: str) -> Farm:
        return self

    @contextmanager
    def open(self) -> Iterator[Executor]:
        yield Fragile()


def test_a_trial_that_kills_its_workers_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def deadly(name: str, config: Any, dataset: Any, seed: int, *rest: Any, **options: Any) -> Any:
        begun.append(seed)
        if seed == derive_seed(0, "gan", "trial", 2):
            raise KeyboardInterrupt
        return trained(name, config, dataset, seed, *rest, **options)

    monkeypatch.setattr("experiments.tune.trainer.trained", deadly)
    told: list[str] = []
    found = search(tmp_path / "out", trials=5, farm=FragileFarm(), reporter=Reporter(warning=told.append))
    assert begun.count(derive_seed(0, "gan", "trial", 2)) == 3
    statuses = [trial.status for trial in found.trials["gan"]]
    assert statuses[2] == "failed: its worker died, 3 times (killed, out of memory or crashed)"
    assert all(status.startswith("completed") for status in statuses[:2] + statuses[3:])
    assert found.trials["gan"][2].parameters.keys() == {"training.learning_rate", "hidden"}
    assert left_behind(tmp_path / "out") == []
    with pytest.raises(WorkerLostError):  # an executor that does not replace them blames trials that did nothing
        search(tmp_path / "plain", trials=5, farm=Fragile())
    assert len(lines(tmp_path / "plain")) == 2


def test_an_error_of_any_kind_is_of_its_trial_but_a_full_disk_is_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error: Exception = ZeroDivisionError("division by zero")

    def broken(name: str, config: Any, dataset: Any, seed: int, *rest: Any, **options: Any) -> Any:
        if seed == derive_seed(0, "gan", "trial", 1):
            raise error
        return trained(name, config, dataset, seed, *rest, **options)

    monkeypatch.setattr("experiments.tune.trainer.trained", broken)
    trials = search(tmp_path / "out", trials=3).trials["gan"]
    assert trials[1].status == "failed: ZeroDivisionError: division by zero"
    assert trials[0].score is not None
    assert trials[2].score is not None
    error = OSError(28, "No space left on device", "checkpoint")
    with pytest.raises(OSError, match="No space left on device"):
        search(tmp_path / "full", trials=3)
    error = ZeroDivisionError("division by zero")
    assert search(tmp_path / "full", trials=3, resume=True).trials["gan"][0].score == trials[0].score


def test_a_journal_that_lost_its_end_is_made_whole_again(folder: Path, tmp_path: Path) -> None:
    search(tmp_path / "out", trials=TRIALS - 1)
    journal = tmp_path / "out" / JOURNAL
    content = journal.read_bytes()
    for size in (len(content) * 2 // 3, len(content) - 3):
        journal.write_bytes(content[:size])
        search(tmp_path / "out", resume=True)
        assert lines(tmp_path / "out") == lines(folder)
    journal.write_bytes(content.replace(b'"op_code":4', b'"op_code":', 1))
    with pytest.raises(ValueError, match=r"journal.jsonl: damaged \(.*\); put a copy of it back"):
        search(tmp_path / "out", resume=True)


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_journal_is_read_or_refused_in_one_line(data: st.DataObject, folder: Path, tmp_path: Path) -> None:
    content = (folder / JOURNAL).read_bytes()
    at = data.draw(st.integers(0, len(content)))
    other = data.draw(st.binary(max_size=4) | st.sampled_from([b"null\n", b"{}\n", b"\n", b"[" * 3000]))
    journal = tmp_path / JOURNAL
    journal.write_bytes(content[:at] + other + content[at + data.draw(st.integers(0, 300)) :])
    name = json.loads((folder / "tuning.json").read_text())["name"]
    told = ""
    try:
        with Storage(str(journal)).open() as storage:
            Trials(storage, name, "gan").finished()
    except ValueError as error:
        told = str(error)
    assert "\n" not in told


def test_a_database_holds_the_same_trials(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def stage(model: str, seed: int, steps: int) -> None:
        seen.append(model)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "out", trials=5, storage="sqlite:///trials.db", reporter=Reporter(stage=stage))
    assert not (tmp_path / "out" / JOURNAL).exists()
    with pytest.raises(ValueError, match=r"its trials are in sqlite:///.*trials.db; name it again, by --storage"):
        search(tmp_path / "out", trials=5, resume=True)  # what a stranger's folder names is not opened
    search(tmp_path / "out", trials=5, resume=True, storage="sqlite:///trials.db")
    assert lines(tmp_path / "out") == lines(folder)[:5]
    search(tmp_path / "second", trials=1, storage="sqlite:///trials.db")  # which holds several searches
    assert len(optuna.get_all_study_names("sqlite:///trials.db")) == 2
    with pytest.raises(ValueError, match=r"the search has storage 'sqlite:///.*trials.db', now it is .*other.jsonl"):
        search(tmp_path / "out", trials=5, resume=True, storage="other.jsonl")
    (tmp_path / "trials.db").write_bytes(b"no database, but a file of some length" * 100)
    with pytest.raises(OSError, match=r"^storage sqlite:///.*trials.db: .*not a database") as caught:
        search(tmp_path / "out", trials=5, resume=True, storage="sqlite:///trials.db")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", [None, "sqlite:///out/trials.db", "out/other.jsonl"])
def test_a_search_that_was_killed_while_it_was_laid_down_begins_again(
    storage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    written = layout.write_atomically
    for file in ("config.yaml", "tuning.json"):

        def killed(path: Path, content: bytes, last: str = file) -> None:
            if path.name == last:
                raise KeyboardInterrupt
            written(path, content)

        monkeypatch.setattr(layout, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "out", trials=1, storage=storage)
    monkeypatch.setattr(layout, "write_atomically", written)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["gan"]
    with pytest.raises(FileExistsError, match=r"holds 'config\.yaml' but no tuning\.json; choose another folder"):
        search(tmp_path / "out", resolve(config(steps=7)), trials=1, storage=storage)
    (tmp_path / "out" / "gan" / "notes").touch()
    with pytest.raises(FileExistsError, match=r"holds 'gan' but no tuning\.json; choose another folder"):
        search(tmp_path / "out", trials=1, storage=storage)
    (tmp_path / "out" / "gan" / "notes").unlink()
    assert len(search(tmp_path / "out", trials=1, resume=storage is None, storage=storage).trials["gan"]) == 1


def test_a_journal_may_be_elsewhere(tmp_path: Path) -> None:
    search(tmp_path / "out", trials=1, storage=str(tmp_path / "elsewhere.jsonl"))
    assert json.loads((tmp_path / "out" / "tuning.json").read_text())["storage"] == str(tmp_path / "elsewhere.jsonl")
    (tmp_path / "elsewhere.jsonl").unlink()
    with pytest.raises(ValueError, match="the storage holds no study 'searched-"):
        search(tmp_path / "out", trials=2, resume=True, storage=str(tmp_path / "elsewhere.jsonl"))


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mysqlx://me:hunter2@host/db?password=hunter2", "storage mysqlx://***@host/db: Can't load plugin"),
        ("postgresql:me:hunter2@host", r"storage: found postgresql:\*\*\*; expected a path, or a URL"),
        ("sqlite://", "storage sqlite://: is in the memory of one process"),
        ("sqlite:////nowhere/trials.db", "/nowhere/trials.db: the folder /nowhere does not exist"),
        ("nowhere/trials.jsonl", "nowhere/trials.jsonl: the folder nowhere does not exist"),
    ],
)
def test_a_wrong_storage_is_one_line_without_the_password(url: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config()))
    options = ["--trials", "1", "--metric", METRIC, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["tune", str(path), *options], env={"QGEN_STORAGE": url})
    assert isinstance(result.exception, ValueError | OSError)
    told = str(result.exception)
    assert told.startswith(line.replace(r"\*", "*"))
    assert "\n" not in told
    assert "hunter2" not in told
    for written in (tmp_path / "out").rglob("*"):
        assert "hunter2" not in (written.read_text() if written.is_file() else "")


def test_what_is_secret_is_not_written(tmp_path: Path) -> None:
    assert "hunter2" not in repr(Storage("postgresql://me:hunter2@host/db"))
    assert Storage("mysql+driver://me:hunter2@host:33/db?password=hunter2").shown == "mysql+driver://***@host:33/db"
    assert Storage("mysql://me:hun@ter2@host/db").shown == "mysql://***@host/db"
    assert Storage("what://ever:hunter2:9@x").shown == "what://***@x/"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"pruen": 1}, r"damaged, or of an earlier version of the lab \(pruen: extra inputs"),
        ({"trials": "3"}, r"damaged, or of an earlier version of the lab \(trials: input should be a valid integer"),
        ({"storage": "/elsewhere"}, "its trials are in /elsewhere; name it again"),
        ({"data": "0"}, "the search has data '0', now it is"),
        ({"prune": True}, "the search has prune True, now it is False"),
    ],
)
def test_another_search_is_not_gone_on_with(changed: dict[str, Any], line: str, folder: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "tuning.json", JOURNAL):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    written = json.loads((folder / "tuning.json").read_text())
    (tmp_path / "tuning.json").write_text(json.dumps(written | changed))
    with pytest.raises(ValueError, match=line) as caught:
        search(tmp_path, resume=True)
    assert "\n" not in str(caught.value)


RATES = [0.05, 0.04, 0.03, 1e-9]


def slow_or_hopeless() -> Experiment:
    raw = config(steps=20, checkpoint_every=10)
    raw["models"]["gan"]["tune"] = {"learning_rate": RATES}
    raw["models"]["gan"]["training"] |= {"learning_rate": 0.05, "validate_every": 5}
    return resolve(raw)


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return search(tmp_path_factory.mktemp("pruned") / "out", slow_or_hopeless(), trials=14, prune=True)


def test_a_hopeless_trial_is_pruned_and_a_good_one_is_kept(pruned: Tuned) -> None:
    trials = pruned.trials["gan"]
    complete = [trial for trial in trials if trial.score is not None]
    ended = [trial for trial in trials if trial.pruned]
    assert not any(trial.pruned for trial in trials[:5])  # there is nothing yet to compare with
    late = [trial for trial in trials[5:] if trial.parameters == {"training.learning_rate": 1e-9}]
    assert late
    assert all(trial.pruned for trial in late)
    assert all(trial.status.startswith(f"pruned at step {trial.steps}, score ") for trial in ended)
    assert all(trial.steps in (5, 10, 15) and trial.n_parameters > 0 and not trial.failed for trial in ended)
    best = best_of(trials)
    assert best is not None
    assert best.parameters["training.learning_rate"] in RATES[:3]
    assert best.score == min(trial.score for trial in complete if trial.score is not None)
    (row,) = [line for line in tuning_markdown(pruned).splitlines() if line.startswith("| gan |")]
    assert row.startswith(f"| gan | 14 | 0 | {len(ended)} |")
    assert "was pruned" in tuning_markdown(pruned)
    states = [json.loads(line) for line in (pruned.folder / JOURNAL).read_text().splitlines()]
    assert sum(line["op_code"] == 6 and line["state"] == 2 for line in states) == len(ended)


def test_a_pruned_search_that_was_interrupted_ends_as_if_it_were_not(pruned: Tuned, tmp_path: Path) -> None:
    seen = 0

    def record(numbers: dict[str, float]) -> None:
        nonlocal seen
        seen += 1
        if seen % 71 == 0:
            raise KeyboardInterrupt

    while True:
        with suppress(KeyboardInterrupt):
            reporter = Reporter(record=record)
            search(tmp_path, slow_or_hopeless(), trials=14, prune=True, resume=True, reporter=reporter)
            break
    assert seen > 71
    assert lines(tmp_path) == lines(pruned.folder)


def test_a_pruned_trial_never_wins() -> None:
    common: dict[str, Any] = {"steps": 1, "seconds": 1.0, "cpu_seconds": 1.0, "n_parameters": 1}
    complete = Trial(0, {}, 2.0, 0.1, status="completed", **common)
    ended = Trial(1, {}, None, None, status="pruned at step 1, score 0.1", **common)
    assert best_of([ended, complete]) is complete
    assert ended.pruned
    assert not ended.failed


@pytest.mark.parametrize(
    ("training", "space", "line"),
    [
        ({"seconds": 1.0}, None, "models.gan.training.seconds: found 1; pruning compares trials at the same step"),
        ({}, {"training.steps": [10, 20]}, "models.gan.tune: varies training.steps; pruning compares"),
        ({"validate_every": 50}, None, "models.gan.training.validate_every: found 50 for 6 steps; pruning needs"),
    ],
)
def test_trials_that_cannot_be_compared_early_are_not_pruned(
    training: dict[str, Any], space: dict[str, Any] | None, line: str, tmp_path: Path
) -> None:
    raw = config()
    raw["models"]["gan"]["training"] |= training
    raw["models"]["gan"]["tune"] = space or raw["models"]["gan"]["tune"]
    with pytest.raises(ValueError, match=line):
        search(tmp_path / "out", resolve(raw), prune=True)
    assert not (tmp_path / "out").exists()


def test_a_farm_stands_in_the_configuration_or_the_command(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config(farm={"kind": "here", "threads": 0})))
    command = ["tune", str(path), "--trials", "1", "--metric", METRIC, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert str(result.exception).startswith("farm.threads: ")
    result = CliRunner().invoke(app, [*command, "--farm", "here"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_are_one_line_and_status_130(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config()))

    def interrupted(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr("experiments.tune.trainer.trained", interrupted)
    command = ["tune", str(path), "--trials", "2", "--metric", METRIC, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 130
    assert "interrupted; the same command with --resume goes on from the last checkpoint" in result.output
    monkeypatch.undo()
    assert CliRunner().invoke(app, [*command, "--resume"]).exit_code == 0
    assert Search.read(tmp_path / "out").trials == len(lines(tmp_path / "out")) == 2
