"""Workers of ``dask.distributed``: on this machine, or of a scheduler that runs already."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin

from experiments.farm.client import ClientExecutor
from experiments.farm.local import visible_gpus, workers_here
from experiments.farm.worker import THREAD_VARIABLES, limit_threads

__all__ = ["NO_PROFILE", "OWN_SCHEDULER", "connected", "executor_of", "lab", "workers_of_this_machine"]

OWN_SCHEDULER = {
    "distributed.scheduler.allowed-failures": 0,  # attempts are counted in one place, by `completed`
    "distributed.scheduler.worker-saturation": 1.0,  # a worker holds the job that it runs, none that could die with it
}
"""How a scheduler is set up that belongs to one farm."""

NO_PROFILE = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
"""In the environment of a worker: it does not keep an hour of call stacks, tens of kilobytes for each small job."""

CONNECT_S = 15
"""How long a scheduler is waited for that does not answer, or does not any more."""


def lab() -> dict[str, str]:
    """The versions that must be the same wherever jobs of one farm run."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: importlib.metadata.version(name) for name in ("qgen-hep", "torch")}}


@contextmanager
def workers_of_this_machine(workers: int | None, threads: int, device: str) -> Iterator[Executor]:
    """A scheduler in this process and workers in processes of their own, which are replaced when they die.

    No dashboard, and no limit of memory but the machine's.
    """
    gpus = visible_gpus() if device == "cuda" else []
    count = workers_here(workers, threads, gpus if device == "cuda" else None)
    variables = {name: str(threads) for names in THREAD_VARIABLES.values() for name in names}
    variables |= {**NO_PROFILE, "DASK_LOGGING__DISTRIBUTED": "critical"}
    with (
        tempfile.TemporaryDirectory(prefix="qgen-dask-") as scratch,
        dask.config.set({**OWN_SCHEDULER, "temporary-directory": scratch}),
    ):
        options = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL}
        specified = {}
        for place in range(count):
            environment = variables | ({"CUDA_VISIBLE_DEVICES": gpus[place]} if gpus else {})
            own = {**options, "local_directory": scratch, "env": environment}
            specified[place] = {"cls": Nanny, "options": own}
        scheduler = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        with (
            SpecCluster(
                specified, {"cls": Scheduler, "options": scheduler}, silence_logs=logging.CRITICAL, name="qgen"
            ) as cluster,
            executor_of(cluster, threads, ours=True) as executor,
        ):
            yield executor


@contextmanager
def connected(address: str, threads: int) -> Iterator[Executor]:
    """The workers of a scheduler that runs already.

    Raises:
        OSError: no scheduler answers.
        ValueError: a worker has another version of the lab, or runs several tasks at a time.
    """
    with executor_of(address, threads, ours=False) as executor:
        yield executor


@contextmanager
def executor_of(scheduler: SpecCluster | str, threads: int, *, ours: bool) -> Iterator[Executor]:
    """An executor on the workers of a scheduler, after a look at them.

    Args:
        scheduler: a cluster, or an address.
        threads: of each worker.
        ours: the workers end with this process and leave Ctrl-C to it.
    """
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise OSError(f"farm: no dask scheduler answers at {scheduler}") from error
    with client:
        preparation = Preparation(lab(), threads, ours)
        for address, problem in _problems(client, preparation).items():
            raise ValueError(f"farm: the worker {address} {problem}")
        client.register_plugin(preparation, name=preparation.name)
        executor = ClientExecutor(client)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
        else:
            executor.shutdown()
        finally:
            if not ours and client.status == "running":
                client.unregister_worker_plugin(preparation.name)


class Preparation(WorkerPlugin):
    """Caps the threads of each worker, also of those that come later, and sends away one with another lab.

    Args:
        expected: versions, as of :func:`lab`.
        threads: of each worker.
        ours: the worker leaves Ctrl-C to the process that started it.
    """

    name = "qgen"

    def __init__(self, expected: dict[str, str], threads: int, ours: bool) -> None:
        self.expected, self.threads, self.ours = expected, threads, ours

    def setup(self, worker: Worker) -> None:
        """Prepare a worker that has just come, or was there before."""
        if self.ours:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        limit_threads(self.threads)
        if problem := self.problem(worker):
            worker.log_event("warn", f"farm: the worker {worker.address} {problem}; it was sent away")
            worker.loop.add_callback(worker.close, reason=problem)

    def problem(self, worker: Worker) -> str:
        """Why a worker cannot be used, empty if it can."""
        found = lab()
        if found != self.expected:
            return f"has {_versions(found)}, this side has {_versions(self.expected)}; they must be the same"
        if worker.state.nthreads != 1:
            return f"runs {worker.state.nthreads} tasks at a time; start it with --nthreads 1"
        return ""


def _problems(client: Client, preparation: Preparation) -> dict[str, str]:
    """What is wrong with the workers that are there, by their addresses."""
    try:
        found: dict[str, str] = client.run(_problem, preparation)
    except ImportError as error:  # there is no lab at all
        return {"of this scheduler": f"cannot import {error.name}; install qgen-hep where it runs"}
    return {address: problem for address, problem in found.items() if problem}


def _problem(preparation: Preparation, dask_worker: Any) -> str:
    return preparation.problem(dask_worker)


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
