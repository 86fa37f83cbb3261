"""Workers that SLURM or HTCondor starts, through dask-jobqueue."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import dask
from distributed import SpecCluster
from distributed.core import Status
from tornado.ioloop import PeriodicCallback

from experiments.farm.dask import NO_PROFILE, OWN_SCHEDULER, executor_of
from experiments.farm.description import Batch, HTCondor, Slurm, needs_dask
from experiments.farm.worker import THREAD_VARIABLES

__all__ = ["job_script", "submitted"]

LEAVE_BEFORE_S = 120
"""How long before its walltime a worker leaves, so that its job is not counted as one that killed it."""

LOOK_EVERY_S = 30
"""How often workers that are gone are submitted again."""

AT_ONCE = 8
"""Most commands of the batch system at a time."""


@contextmanager
def submitted(farm: Batch) -> Iterator[Executor]:
    """A scheduler in this process, and workers in the queue of the batch system.

    Raises:
        OSError: the batch system is not here, or refuses the job; what it says is told.
    """
    command = "sbatch" if isinstance(farm, Slurm) else "condor_submit"
    if shutil.which(command) is None:
        raise OSError(f"farm: {command} is not found; {farm.kind} is not on this machine")
    told: SimpleQueue[Exception | None] = SimpleQueue()
    with dask.config.set(OWN_SCHEDULER), _cluster(farm, told) as cluster:
        cluster.scale(farm.workers)
        if (problem := told.get()) is not None:
            raise OSError(f"farm: {command} failed: {_last_line(problem)}")
        keeper = PeriodicCallback(lambda: _keep(cluster, farm.workers), 1000 * LOOK_EVERY_S)
        cluster.loop.add_callback(keeper.start)
        try:
            with executor_of(cluster, farm.threads, ours=False) as executor:
                yield executor
        finally:
            cluster.loop.add_callback(keeper.stop)


def job_script(farm: Batch) -> str:
    """What is submitted for each worker, with a placeholder for the scheduler's address."""
    of_system, options = _job(farm)
    with tempfile.TemporaryDirectory() as folder:  # the folder of logs is made at once
        logs = {"log_directory": folder} if farm.logs is not None else {}
        made = of_system.job_cls("tcp://SCHEDULER", name="qgen-0", **{**options, **logs})
        script: str = made.job_script()
        return script.replace(folder, farm.logs or "")


def _cluster(farm: Batch, told: SimpleQueue[Exception | None]) -> SpecCluster:
    of_system, options = _job(farm)
    scheduler: dict[str, Any] = {"dashboard": False, "dashboard_address": ":0", "port": farm.port or 0}
    if farm.interface is not None:
        scheduler["interface"] = farm.interface
    return of_system(
        name="qgen",
        job_cls=_telling(of_system.job_cls, told),
        scheduler_options=scheduler,
        silence_logs=logging.CRITICAL,
        **options,
    )


def _job(farm: Batch) -> tuple[type[Any], dict[str, Any]]:
    """The kind of cluster, and what dask-jobqueue is told of each job."""
    condor, slurm = _systems()
    variables = {name: str(farm.threads) for names in THREAD_VARIABLES.values() for name in names} | NO_PROFILE
    exports = [f"export {name}={value}" for name, value in variables.items()]
    lifetime = f"{farm.walltime_seconds - LEAVE_BEFORE_S}s"
    options: dict[str, Any] = {
        "cores": 1,  # tasks at a time
        "processes": 1,
        "memory": farm.memory,
        "python": farm.python,
        "job_name": "qgen",
        "local_directory": farm.scratch,
        "log_directory": farm.logs,
        "interface": farm.interface,
        "job_script_prologue": [*exports, *farm.prologue],
        "worker_extra_args": ["--no-dashboard", "--lifetime", lifetime, *farm.worker_options],
    }
    gpu = farm.device == "cuda"
    if isinstance(farm, Slurm):
        directives = (["--gpus-per-task=1"] if gpu else []) + farm.directives
        own = {"queue": farm.queue, "account": farm.account, "walltime": farm.walltime, "job_cpu": farm.cores}
        return slurm, {**options, **own, "job_extra_directives": directives}
    if isinstance(farm, HTCondor):
        lines: dict[str, Any] = {"RequestCpus": farm.cores, "MY.MaxRuntime": farm.walltime_seconds}
        lines |= {"request_gpus": 1} if gpu else {}
        lines |= {} if farm.account is None else {"accounting_group": farm.account}
        return condor, {**options, "disk": farm.disk, "job_extra_directives": {**lines, **farm.directives}}
    raise TypeError(f"{type(farm).__name__} is no batch system")


def _systems() -> tuple[type[Any], type[Any]]:
    """The clusters of dask-jobqueue, which when it is imported makes Ctrl-C end the process; that is undone."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    with needs_dask():
        from dask_jobqueue.htcondor import HTCondorCluster
        from dask_jobqueue.slurm import SLURMCluster
    if signal.getsignal(signal.SIGINT) is not on_interrupt:
        signal.signal(signal.SIGINT, on_interrupt)
    return HTCondorCluster, SLURMCluster


def _telling(job: type[Any], told: SimpleQueue[Exception | None]) -> type[Any]:
    """A kind of job that tells whether it could be submitted, and of which few are submitted at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    class Job(job):
        async def start(self) -> None:
            async with gate:
                try:
                    await super().start()
                except (RuntimeError, ValueError, OSError) as error:
                    self.status = Status.failed
                    told.put(error)
                    raise
                told.put(None)

    return Job


def _keep(cluster: SpecCluster, workers: int) -> None:
    """Submit again what could not be submitted, or ended."""
    for name, job in list(cluster.workers.items()):
        if job.job_id is None:
            del cluster.workers[name]
    cluster.scale(workers)


def _last_line(error: Exception) -> str:
    """What a command said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
