from __future__ import annotations

import os
import shlex
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from distributed import LocalCluster

import farm_jobs
from experiments.farm import Dask, HTCondor, Outcome, Slurm, WorkerLostError, batch, completed, farm_from
from experiments.farm import dask as dask_module
from experiments.farm.dask import Preparation, lab
from farm_jobs import alive, until


def test_many_jobs_with_a_worker_killed_are_done_once_each(tmp_path: Path) -> None:
    arguments = [(str(tmp_path), i, [30, 60], 1 if i == 30 else 99) for i in range(100)]
    found: list[Outcome] = list(completed(Dask(workers=2), farm_jobs.dies, arguments, attempts=2))
    assert sorted(o.index for o in found) == list(range(100))
    lost = [o for o in found if o.error is not None]
    assert [(o.index, type(o.error)) for o in lost] == [(60, WorkerLostError)]
    assert all(o.value == o.index for o in found if o.error is None)
    # a job whose result dies with its worker, on its way, is run again as well: it has one outcome all the same
    assert all(farm_jobs.times_begun(tmp_path, i) >= 1 for i in range(100))
    assert farm_jobs.times_begun(tmp_path, 30) >= 2
    assert farm_jobs.times_begun(tmp_path, 60) == 2
    assert not any(alive(pid) for i in range(100) for pid in farm_jobs.pids(tmp_path, i))


def test_workers_are_capped_have_a_gpu_each_and_leave_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: dict[int, str | None] = {}
    with Dask(device="cuda", threads=2).open() as executor:
        while len(seen) < 2:
            for outcome in completed(executor, farm_jobs.worker, [(0.2,), (0.2,)]):
                pid, gpu, caps, ignores = outcome.value
                assert caps == ["2"] * 4
                assert ignores
                assert seen.setdefault(pid, gpu) == gpu
        (failed,) = completed(executor, farm_jobs.fails, [(str(tmp_path), 1)])
        assert str(failed.error) == "job 1 failed"
    assert sorted(seen.values(), key=str) == ["4", "5"]
    assert not any(alive(pid) for pid in seen)
    assert [path.name for path in tmp_path.iterdir()] == ["begun-1"]
    with pytest.raises(RuntimeError, match="the executor was shut down"):
        executor.submit(farm_jobs.square, 1)


def test_a_scheduler_that_runs_already_is_looked_at_used_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalCluster(1, 1, True, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50) as elsewhere:
        elsewhere.scale(0)
        until(lambda: not elsewhere.scheduler.workers)
        farm = farm_from(f"dask={elsewhere.scheduler_address}")
        with monkeypatch.context() as other, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            other.setattr(dask_module, "lab", lambda: {**lab(), "torch": "1.0"})
            with farm.open():  # nobody is there yet
                elsewhere.scale(1)
                until(lambda: bool(told))
                until(lambda: not elsewhere.scheduler.workers)
        said = str(told[0].message)
        assert said.startswith("farm: the worker tcp://127.0.0.1:")
        assert said.endswith("torch 1.0; they must be the same; it was sent away")
        elsewhere.scale(2)  # the first one's place stays empty for a while
        until(lambda: len(elsewhere.scheduler.workers) == 1)
        found = list(completed(farm, farm_jobs.once, [(str(tmp_path), i) for i in range(5)]))
        assert sorted(o.value for o in found) == list(range(5))
        assert len(elsewhere.scheduler.workers) == 1
        assert "qgen" not in elsewhere.scheduler.worker_plugins
        monkeypatch.setattr(dask_module, "lab", lambda: {**lab(), "torch": "1.0"})
        with pytest.raises(ValueError, match="^farm: the worker tcp://.* has python 3.*; they must be the same$"):
            list(completed(farm, farm_jobs.square, [(1,)]))


def test_a_scheduler_that_goes_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_module, "CONNECT_S", 1)
    with LocalCluster(1, 1, True, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50) as elsewhere:
        farm = farm_from(f"dask={elsewhere.scheduler_address}")
        found = completed(farm, farm_jobs.goes_on, [(str(tmp_path), i, i > 0) for i in range(3)])
        assert next(found).index == 0
        elsewhere.close()
        with pytest.raises(ConnectionError, match="^farm: the dask scheduler at tcp://127.0.0.1:.* is gone$"):
            next(found)


def test_the_same_lab_is_needed_everywhere() -> None:
    preparation = Preparation(lab(), 1, ours=False)
    worker: Any = SimpleNamespace(state=SimpleNamespace(nthreads=1))
    assert preparation.problem(worker) == ""
    worker.state.nthreads = 4
    assert preparation.problem(worker) == "runs 4 tasks at a time; start it with --nthreads 1"
    other = {**lab(), "torch": "1.0"}
    assert "this side has python 3." in Preparation(other, 1, ours=False).problem(worker)
    assert Preparation(other, 1, ours=False).problem(worker).endswith("torch 1.0; they must be the same")


def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_module, "CONNECT_S", 0.3)
    with (
        pytest.raises(OSError, match="^farm: no dask scheduler answers at tcp://127.0.0.1:1$"),
        Dask(address="tcp://127.0.0.1:1").open(),
    ):
        pass


SLURM = {
    "kind": "slurm",
    "workers": 2,
    "cores": 4,
    "threads": 4,
    "memory": "8GB",
    "walltime": "10:00:00",
    "queue": "short",
    "account": "atlas",
    "directives": ["--constraint=avx2"],
    "prologue": ["source venv/bin/activate"],
    "python": "python",
    "scratch": "/scratch",
    "logs": "logs",
    "device": "cuda",
}


def test_the_script_of_slurm_asks_for_what_was_said() -> None:
    script = farm_from(SLURM).script().splitlines()  # type: ignore[attr-defined]
    head = {line for line in script if line.startswith("#SBATCH")}
    assert head == {
        "#SBATCH -J qgen",
        "#SBATCH -e logs/qgen-%J.err",
        "#SBATCH -o logs/qgen-%J.out",
        "#SBATCH -p short",
        "#SBATCH -A atlas",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8G",
        "#SBATCH -t 10:00:00",
        "#SBATCH --gpus-per-task=1",
        "#SBATCH --constraint=avx2",
    }
    assert {f"export {name}=4" for name in farm_jobs.VARIABLES} <= set(script)
    assert script.index("source venv/bin/activate") == len(script) - 2
    command = shlex.split(script[-1])
    assert command[:4] == ["python", "-m", "distributed.cli.dask_worker", "tcp://SCHEDULER"]
    options = " ".join(command[4:])
    assert "--nthreads 1 " in options
    assert "--local-directory /scratch" in options
    assert f"--lifetime {10 * 3600 - batch.LEAVE_BEFORE_S}s" in options
    assert not Path("logs").exists()


def test_the_script_of_htcondor_asks_for_what_was_said() -> None:
    described = {name: value for name, value in SLURM.items() if name not in ("queue", "directives", "logs")}
    farm = farm_from({**described, "kind": "htcondor", "directives": {"+JobFlavour": '"workday"'}})
    lines = farm.script().splitlines()  # type: ignore[attr-defined]
    assert {
        "RequestCpus = 4",
        "MY.DaskWorkerMemory = 8000000000",
        "MY.DaskWorkerDisk = 2000000000",
        "MY.MaxRuntime = 36000",
        "request_gpus = 1",
        "accounting_group = atlas",
        '+JobFlavour = "workday"',
        "Executable = /bin/sh",
    } <= set(lines)
    (arguments,) = (line for line in lines if line.startswith("Arguments"))
    assert arguments.startswith("Arguments = \"-c 'export OMP_NUM_THREADS=4; ")
    assert "; source venv/bin/activate; python -m distributed.cli.dask_worker" in arguments


SBATCH = """#!/bin/sh
cp "$1" {folder}/script.$$
setsid sh {folder}/script.$$ >{folder}/log.$$ 2>&1 </dev/null &
echo "Submitted batch job $!" | tee -a {folder}/submitted
"""
CONDOR_SUBMIT = """#!{python}
import pathlib, subprocess, sys
(line,) = [line for line in pathlib.Path(sys.argv[1]).read_text().splitlines() if line.startswith("Arguments")]
option, command = line.removeprefix('Arguments = "').removesuffix('"').split(" ", 1)
command = command.strip("'").replace("''", "'").replace('""', '"')
log = open("{folder}/log", "w")
job = subprocess.Popen(["/bin/sh", option, command], start_new_session=True, stdin=-3, stdout=log, stderr=log)
print("1 job(s) submitted to cluster", job.pid, ".")
job.returncode = 0
"""
KILL = """#!/bin/sh
kill -TERM -- "-${{1%.0}}" && echo "$1" >> {folder}/removed
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Put commands of a batch system on the path, which start each worker here, in a session of its own."""
    place = folder / "bin"
    place.mkdir()
    for name, text in commands.items():
        (place / name).write_text(text.format(folder=folder, python=sys.executable))
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setattr(batch, "LOOK_EVERY_S", 0.3)


def test_slurm_workers_that_die_with_their_machine_are_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, sbatch=SBATCH, scancel=KILL)
    farm = Slurm(workers=1, interface="lo", scratch=str(tmp_path / "scratch"))
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0.3s"}):
        found = list(completed(farm, farm_jobs.machine_dies, [(str(tmp_path), i) for i in range(4)]))
    assert sorted(o.value for o in found) == [0, 1, 2, 3]
    assert farm_jobs.times_begun(tmp_path, 1) == 2
    assert len((tmp_path / "submitted").read_text().splitlines()) == 2
    until(lambda: not any(alive(pid) for i in range(4) for pid in farm_jobs.pids(tmp_path, i)))


def test_a_worker_that_leaves_before_its_walltime_costs_no_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, condor_submit=CONDOR_SUBMIT, condor_rm=KILL)
    farm = HTCondor(workers=1, interface="lo", scratch=str(tmp_path), worker_options=["--lifetime", "3s"])
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "0.3s"}):
        (outcome,) = completed(farm, farm_jobs.goes_on_once, [(str(tmp_path), 7)], attempts=1)
    assert (outcome.value, outcome.error) == (7, None)
    assert farm_jobs.times_begun(tmp_path, 7) == 2


def test_what_the_batch_system_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(OSError, match="^farm: sbatch is not found; slurm is not on this machine$"),
        Slurm(workers=1).open(),
    ):
        pass
    refuses = "#!/bin/sh\necho 'sbatch: error: invalid partition specified: shrt' >&2\nexit 1\n"
    install(tmp_path, monkeypatch, sbatch=refuses, scancel=KILL)
    said = "^farm: sbatch failed: sbatch: error: invalid partition specified: shrt$"
    with pytest.raises(OSError, match=said), Slurm(workers=3, queue="shrt", interface="lo").open():
        pass
