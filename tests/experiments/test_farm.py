from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farm_jobs
from experiments.farm import Dask, Farm, Here, HTCondor, Processes, Slurm, WorkerLostError, completed, farm_from
from experiments.farm import outcomes as outcomes_module
from experiments.farm.description import KINDS
from experiments.farm.local import WorkerProcesses
from farm_jobs import DEADLINE_S, alive, until
from qgen.plain import read_yaml


@pytest.mark.parametrize(
    ("line", "farm"),
    [
        ("here", Here()),
        ("processes", Processes()),
        (" processes = 4 ", Processes(workers=4)),
        ("dask", Dask()),
        ("dask=2", Dask(workers=2)),
        ("dask=tcp://node.site.org:8786", Dask(address="tcp://node.site.org:8786")),
        ("dask=tls://[::1]:1", Dask(address="tls://[::1]:1")),
        ("slurm=20", Slurm(workers=20)),
        ("htcondor=20", HTCondor(workers=20)),
        ({"kind": "processes", "workers": 2, "threads": 3}, Processes(workers=2, threads=3)),
        ({"kind": "slurm", "workers": 5, "memory": "2.5 GiB"}, Slurm(workers=5, memory="2.5 GiB")),
    ],
)
def test_a_farm_is_one_line_and_stands_in_yaml_as_it_was(line: Any, farm: Farm) -> None:
    assert farm_from(line) == farm
    assert farm_from(farm.plain()) == farm


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("proceses=2", "farm: kind 'proceses' is unknown; did you mean 'processes'? Known: here, processes, dask, "),
        ("", "farm: kind '' is unknown"),
        ({"workers": 3}, "farm: kind None is unknown"),
        (3, "farm: found 3; expected a line such as processes=4, or keys and values"),
        ("here=2", "farm: here takes no value (found '2')"),
        ("processes=0", "farm.workers: input should be greater than or equal to 1 (found 0)"),
        ("processes=two", "farm: 'processes=two': expected a number of workers after processes="),
        ("slurm", "farm.workers: field required"),
        ("dask=host:8786", "farm.address: expected tcp://host:port (found 'host:8786')"),
        (
            {"kind": "processes", "cores": 2},
            "farm.cores: key 'cores' is unknown; did you mean 'workers'? Known: kind, threads, device, workers",
        ),
        ({"kind": "slurm", "workers": 2, "memory": "4"}, "farm.memory: expected a size such as 4GB (found '4')"),
        ({"kind": "slurm", "workers": 2, "walltime": "00:05:00"}, "farm: walltime is 00:05:00; at least 00:10:00"),
        (
            {"kind": "slurm", "workers": 2, "threads": 2},
            "farm: threads is 2, and a worker has cores 1; at most as many",
        ),
        ({"kind": "slurm", "workers": 2, "prologue": ["a\nb"]}, "farm.prologue.0: expected one line of text"),
        ({"kind": "htcondor", "workers": 2, "queue": "short"}, "farm.queue: key 'queue' is unknown"),
        ({"kind": "dask", "workers": 2, "address": "tcp://a:1"}, "farm: workers and address are both given"),
    ],
)
def test_a_mistake_is_one_line(described: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}[^\n]*$"):
        farm_from(described)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(sorted({name for kind in KINDS.values() for name in kind.model_fields}))


@settings(deadline=None, max_examples=100)
@given(
    described=st.text(max_size=30)
    | st.builds("{}={}".format, st.sampled_from(sorted(KINDS)), st.text(max_size=12))
    | plain
    | st.builds(
        lambda kind, rest: {**rest, "kind": kind}, st.sampled_from(sorted(KINDS)), st.dictionaries(fields, plain)
    )
)
def test_anything_is_a_farm_or_one_clear_line(described: Any) -> None:
    said, farm = "", None
    try:
        farm = farm_from(described)
    except ValueError as error:
        said = str(error)
    if farm is None:
        assert said.startswith("farm")
        assert len(said.splitlines()) == 1
    else:
        assert farm_from(farm.plain()) == farm


@pytest.mark.parametrize(
    ("farm", "lacking", "module"),
    [(Dask(workers=1), "distributed", "dask"), (Slurm(workers=1), "dask_jobqueue.htcondor", "batch")],
)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, farm: Farm, lacking: str, module: str) -> None:
    monkeypatch.delitem(sys.modules, f"experiments.farm.{module}", raising=False)
    monkeypatch.setitem(sys.modules, lacking, None)
    monkeypatch.setattr("shutil.which", lambda command: command)
    said = rf"^this farm needs {lacking}; install it with: pip install 'qgen-hep\[dask\]'$"
    with pytest.raises(ImportError, match=said), farm.open():
        pass


def test_here_jobs_run_in_their_order_and_are_read_as_they_run() -> None:
    read: list[int] = []

    def arguments() -> Iterator[tuple[int]]:
        for x in range(5):
            read.append(x)
            yield (x,)

    found = completed(Here(), farm_jobs.square, arguments())
    for x in range(5):
        outcome = next(found)
        assert (outcome.index, outcome.value, outcome.error) == (x, x * x, None)
        assert read == list(range(x + 1))
    assert list(found) == []


def test_a_job_that_fails_keeps_its_error_and_stops_no_other(tmp_path: Path) -> None:
    for farm in (Here(), Processes(workers=2)):
        folder = tmp_path / farm.kind
        folder.mkdir()
        found = {o.index: o for o in completed(farm, farm_jobs.fails, [(str(folder), i) for i in range(6)])}
        assert sorted(found) == list(range(6))
        for i, outcome in found.items():
            assert farm_jobs.times_begun(folder, i) == 1
            if i % 2:
                assert (type(outcome.error), str(outcome.error)) == (ValueError, f"job {i} failed")
                assert "in fails" in outcome.error.__notes__[0]  # where, in the worker
            else:
                assert (outcome.value, outcome.error) == (i, None)


def test_an_error_that_cannot_travel_is_told_and_costs_no_worker() -> None:
    with WorkerProcesses(1) as executor:
        (stubborn,) = completed(executor, farm_jobs.stubborn, [()])
        assert str(stubborn.error) == "Stubborn: 1 and 2"
        (left,) = completed(executor, farm_jobs.leaves, [()])
        assert isinstance(left.error, SystemExit)
        (lambda_,) = completed(executor, lambda: None, [()])
        assert "pickle" in str(lambda_.error).lower()
        assert [o.value for o in completed(executor, farm_jobs.square, [(3,)])] == [9]


def test_ctrl_c_here_is_no_outcome() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(completed(Here(), farm_jobs.interrupted, [()]))


def test_one_attempt_at_least() -> None:
    with pytest.raises(ValueError, match="attempts is 0; at least 1 is needed"):
        completed(Here(), farm_jobs.square, [(1,)], attempts=0)


def test_a_dead_worker_costs_its_own_job_an_attempt_and_no_other(tmp_path: Path) -> None:
    arguments = [(str(tmp_path), i, [1, 4], 1 if i == 1 else 99) for i in range(8)]
    found = {o.index: o for o in completed(Processes(workers=2), farm_jobs.dies, arguments, attempts=2)}
    assert sorted(found) == list(range(8))
    assert isinstance(found[4].error, WorkerLostError)
    assert str(found[4].error) == "its worker died, 2 times (killed, out of memory or crashed)"
    assert {i: o.value for i, o in found.items() if o.error is None} == {i: i for i in range(8) if i != 4}
    assert {i: farm_jobs.times_begun(tmp_path, i) for i in range(8)} == {i: 1 + (i in (1, 4)) for i in range(8)}


def test_a_farm_of_gpus_is_not_quietly_one_without() -> None:
    with pytest.raises(ValueError, match="^farm: device is 'cuda', and models train on 'cpu'; ask for GPUs with"):
        farm_from({"kind": "processes", "device": "cuda"}).on("cpu")


def test_workers_are_capped_and_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-7f")
    farm = farm_from({"kind": "processes", "threads": 2}).on("cuda")
    seen: dict[int, str | None] = {}
    with farm.open() as executor:
        while len(seen) < 2:
            for outcome in completed(executor, farm_jobs.worker, [(0.2,), (0.2,)]):
                pid, gpu, caps, ignores = outcome.value
                assert caps == ["2"] * 4
                assert ignores
                assert seen.setdefault(pid, gpu) == gpu
    assert sorted(seen.values(), key=str) == ["4", "GPU-7f"]
    assert not any(alive(pid) for pid in seen)
    with (
        pytest.raises(ValueError, match="3 workers on cuda, and 2 GPUs are visible here"),
        Processes(workers=3, device="cuda").open(),
    ):
        pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="no GPU is visible here"), farm.open():
        pass


def test_libraries_that_are_loaded_are_capped_as_well() -> None:
    script = (
        "import sys, torch, numba; torch.set_num_threads(2); from experiments.farm.worker import limit_threads;"
        "limit_threads(1); from threadpoolctl import threadpool_info;"
        "print(torch.get_num_threads(), numba.get_num_threads(), {p['num_threads'] for p in threadpool_info()})"
    )
    environment = {**os.environ, **dict.fromkeys(farm_jobs.VARIABLES, "2")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["1", "1", "{1}"]


def test_leaving_the_iterator_ends_workers_and_what_has_not_begun(tmp_path: Path) -> None:
    found = completed(Processes(workers=2), farm_jobs.goes_on, [(str(tmp_path), i, i > 0) for i in range(6)])
    assert next(found).index == 0
    until(lambda: bool(farm_jobs.pids(tmp_path, 1) and farm_jobs.pids(tmp_path, 2)))
    found.close()  # type: ignore[attr-defined]
    assert not any(alive(pid) for i in (1, 2) for pid in farm_jobs.pids(tmp_path, i))
    assert [farm_jobs.times_begun(tmp_path, i) for i in range(6)] == [1, 1, 1, 0, 0, 0]


def test_workers_that_still_start_are_ended_as_well(tmp_path: Path) -> None:
    executor = WorkerProcesses(2)
    futures = [executor.submit(farm_jobs.goes_on, str(tmp_path), i, True) for i in range(3)]
    until(lambda: bool(multiprocessing.active_children()))
    workers = multiprocessing.active_children()
    assert not any(farm_jobs.pids(tmp_path, i) for i in range(2))
    executor.end()
    assert all(future.done() for future in futures)
    assert not any(farm_jobs.times_begun(tmp_path, i) for i in range(3))
    assert not any(worker.is_alive() for worker in workers)


PARENT = """
import sys
import farm_jobs
from experiments.farm import Dask, Processes, completed

if __name__ == "__main__":
    farm = {"processes": Processes(workers=2), "dask": Dask(workers=2)}[sys.argv[1]]
    try:
        list(completed(farm, farm_jobs.goes_on, [(sys.argv[2], i, True) for i in range(5)]))
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.parametrize("kind", ["processes", "dask"])
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(tmp_path: Path, kind: str, by: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "error"}
    parent = subprocess.Popen(
        [sys.executable, str(script), kind, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    with parent:
        until(lambda: bool(farm_jobs.pids(tmp_path, 0) and farm_jobs.pids(tmp_path, 1)))
        workers = [pid for i in (0, 1) for pid in farm_jobs.pids(tmp_path, i)]
        if by == signal.SIGINT:
            os.killpg(parent.pid, by)  # as a terminal does
            assert parent.communicate(timeout=DEADLINE_S) == ("stopped\n", "")
        else:
            os.kill(parent.pid, by)
        until(lambda: not any(alive(pid) for pid in workers))
    assert [farm_jobs.times_begun(tmp_path, i) for i in range(5)] == [1, 1, 0, 0, 0]


def test_few_jobs_are_held_and_any_executor_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes_module, "IN_FLIGHT", 3)
    read: list[int] = []
    gate = threading.Semaphore(0)

    def arguments() -> Iterator[tuple[int]]:
        for x in range(20):
            read.append(x)
            yield (x,)

    def waits(x: int) -> int:
        gate.acquire()
        return x

    with ThreadPoolExecutor(2) as executor:
        gate.release()
        found = completed(executor, waits, arguments())
        got = [next(found).value]
        assert len(read) <= 3
        gate.release(19)
        got += [outcome.value for outcome in found]
    assert sorted(got) == list(range(20))


def test_a_pool_that_cannot_be_mended_fails_what_is_left(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1) as executor:
        found = list(completed(executor, farm_jobs.dies, [(str(tmp_path), i, [2], 99) for i in range(5)]))
    assert sorted(o.index for o in found) == list(range(5))
    assert {o.index for o in found if o.error is None} <= {0, 1}
    assert all(isinstance(o.error, WorkerLostError) for o in found if o.error is not None)


class Forgetful(Executor):
    """Cancels everything the first time, as dask does when the connection to its scheduler breaks."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if args[1] in self.seen:
            future.set_result(fn(*args, **kwargs))
        else:
            self.seen.add(args[1])
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


def test_a_job_that_an_executor_forgets_is_submitted_again_and_not_counted() -> None:
    found = list(completed(Forgetful(), farm_jobs.square, [(i,) for i in range(4)], attempts=1))
    assert sorted((o.index, o.value) for o in found) == [(i, i * i) for i in range(4)]


def test_the_farms_of_the_page_are_farms() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    sections = [
        read_yaml(text, "page")["farm"] for text in re.findall(r"```\{code-block\} yaml\n(.*?)```", page, re.DOTALL)
    ]
    lines = re.findall(r"^\| `([a-z]+(?:=[^`]*)?)` +\|", page.partition("## SLURM")[0], re.MULTILINE)
    kinds = {farm_from(described).kind for described in [*sections, *lines]}
    assert kinds == set(KINDS)
    fields = {name for kind in (Slurm, HTCondor) for name in kind.model_fields} - set(Farm.model_fields)
    assert set(re.findall(r"^\| `([a-z_]+)` +\|", page, re.MULTILINE)) >= fields
