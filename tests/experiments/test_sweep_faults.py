"""Sweeps that are killed, interrupted and shared: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from experiments.cli import main
from experiments.sweep import Told, load_sweep, sweep
from sweeps import GRID, TINY, call, metrics, same, starts

KILLS = 20
PATIENCE = 120.0
"""Seconds, of a machine that does much else."""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep that nothing disturbs."""
    return sweep(TINY, GRID, out=tmp_path_factory.mktemp("quiet") / "sweep").folder


def qgen(arguments: list[str]) -> None:
    """The command in a process of its own; what it says goes nowhere."""
    sys.argv = ["qgen", *arguments]
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device)
        sys.stdout = sys.stderr = nowhere
        main()


def started(arguments: list[str]) -> BaseProcess:
    """The command, started from a process that has imported the lab: that takes no time."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["sweeps_ready"])
    with pytest.MonkeyPatch.context() as patch:  # it looks for modules along this path alone
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        ensure_running()
    process = server.Process(target=qgen, args=(arguments,))
    process.start()
    return process


def steps(folder: Path) -> int:
    """How far a sweep is: a number that grows with every step of a training and every file that is finished."""
    lines = sum(path.read_text().count("\n") for path in folder.glob("jobs/*/seed-*/*/metrics.jsonl"))
    return lines + len(list(folder.glob("jobs/*/*.json*")))


def until(condition: Callable[[], bool], process: BaseProcess) -> None:
    """Wait until something holds or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def done(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Of every finished job, how often it was begun and its results."""
    begun = starts(folder)
    return {p.parent.name: (begun[p.parent.name], p.read_bytes()) for p in folder.glob("jobs/*/results.json")}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    grid = [word for path, values in GRID.items() for word in ("--grid", f"{path}={','.join(map(str, values))}")]
    return ["sweep", str(tmp_path / "tiny.yaml"), *grid, "--out", str(tmp_path / "sweep"), "--resume", "--no-report"]


def test_killed_at_random_moments_nothing_is_lost_or_done_twice(
    quiet: Path, command: list[str], tmp_path: Path
) -> None:
    rng, folder, kills = random.Random(5), tmp_path / "sweep", 0
    finished: dict[str, tuple[int, bytes]] = {}
    while kills < KILLS:
        process = started(command)
        goal = steps(folder) + rng.randint(1, 7)
        until(lambda goal=goal: steps(folder) >= goal, process)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.01))  # not always just after a file was written
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        now = done(folder)
        assert {job: now[job] for job in finished} == finished
        finished = now
        if process.exitcode == 0:
            break
    assert kills == KILLS
    call(command)
    assert {job: done(folder)[job] for job in finished} == finished
    assert same(folder, quiet)
    assert sum(starts(folder).values()) <= len(metrics(quiet)) + kills
    assert load_sweep(folder).failures == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_it_cleanly(
    number: signal.Signals, quiet: Path, command: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    process = started(command)
    until(lambda: len(metrics(folder)) >= 2, process)
    os.kill(process.pid or 0, number)
    process.join(PATIENCE)
    assert process.exitcode == 130
    found = load_sweep(folder)
    finished = [job.id for job in found.jobs if job.status == "finished"]
    assert 2 <= len(finished) < len(metrics(quiet))
    assert pyarrow.parquet.read_table(folder / "results.parquet").equals(found.table)
    assert found.table["job"].unique().to_pylist() == finished
    assert found.failures == []
    call(command)
    assert same(folder, quiet)


def test_two_processes_share_the_work(quiet: Path, command: list[str], tmp_path: Path) -> None:
    both = [started(command), started(command)]
    for process in both:
        process.join(PATIENCE)
    assert [process.exitcode for process in both] == [0, 0]
    folder = tmp_path / "sweep"
    assert set(starts(folder).values()) == {1}
    assert same(folder, quiet)
    workers = {json.loads(path.read_text())["process"] for path in folder.glob("jobs/*/starts.jsonl")}
    assert workers <= {process.pid for process in both}


def test_a_worker_that_is_killed_costs_no_job_and_a_farm_changes_nothing(quiet: Path, tmp_path: Path) -> None:
    folder, killed = tmp_path / "sweep", []

    def kill(*_: Any) -> None:
        if not killed:
            killed.append(next(iter(multiprocessing.active_children())).pid)
            os.kill(killed[0], signal.SIGKILL)

    found = sweep(TINY, GRID, out=folder, farm="processes=2", told=Told(ended=kill))
    assert killed
    assert {job.status for job in found.jobs} == {"finished"}
    assert same(folder, quiet)
    assert sum(starts(folder).values()) <= len(found.jobs) + 2
