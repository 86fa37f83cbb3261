"""Executors of this machine: this very process, and processes that are replaced when they die."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import Any

from experiments.farm.worker import prepare

__all__ = ["InProcess", "WorkerProcesses", "visible_gpus", "workers_here"]


class InProcess(Executor):
    """Runs a function when it is submitted; Ctrl-C in it is not an outcome."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future of a function, done already."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class WorkerProcesses(ThreadPoolExecutor):
    """Processes, each watched by a thread of its own: when one dies, the job that it ran is known and it alone fails.

    A job whose process dies has the exception :class:`~concurrent.futures.BrokenExecutor`; the next job of that thread
    gets a new process. (One common pool would fail all jobs that run, and not tell which one was to blame.)

    Args:
        workers: number of processes; each is started when it is first needed.
        threads: of each.
        gpus: one for each worker, as in ``CUDA_VISIBLE_DEVICES``; none for workers that are not told.
    """

    def __init__(self, workers: int, threads: int = 1, gpus: Sequence[str] = ()) -> None:
        super().__init__(workers, thread_name_prefix="farm")
        self._workers = [_Worker(threads, gpus[place] if gpus else None) for place in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future of a function that some worker runs."""
        return super().submit(self._run, function, args, kwargs)

    def _run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        worker = self._idle.get()
        try:
            return worker.run(function, args, kwargs)
        finally:
            self._idle.put(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers when they are idle; without ``wait`` they end when this process does."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for worker in self._workers:
                worker.close()

    def end(self) -> None:
        """End the workers at once, whatever they do."""
        super().shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self.shutdown()


class _Worker:
    """One process, started when it has work, and again after it died."""

    def __init__(self, threads: int, gpu: str | None) -> None:
        self._given = (threads, gpu)
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0
        self._ended = False

    def run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        try:
            if self._pool is None:
                spawn = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, spawn, initializer=prepare, initargs=self._given)
                self._pid = self._pool.submit(os.getpid).result()
            if self._ended:  # while the process started, whose number nobody knew
                raise BrokenProcessPool("the worker was ended")
            return self._pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            self.close()
            raise

    def end(self) -> None:
        self._ended = True
        for process in multiprocessing.active_children():
            if process.pid == self._pid:
                process.terminate()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as in ``CUDA_VISIBLE_DEVICES``."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def workers_here(asked: int | None, threads: int, gpus: Sequence[str] | None) -> int:
    """How many workers this machine has.

    Args:
        asked: how many are wanted; as many as possible if None.
        threads: of each.
        gpus: those of this machine if every worker needs one, else None.

    Raises:
        ValueError: there are no GPUs, or fewer than workers.

    >>> workers_here(None, 1, ["0", "1", "2"])
    3
    """
    if gpus is None:
        return asked or max(1, len(os.sched_getaffinity(0)) // threads)
    if not gpus:
        raise ValueError("farm: device is cuda, and no GPU is visible here")
    if asked is not None and asked > len(gpus):
        raise ValueError(f"farm: {asked} workers on cuda, and {len(gpus)} GPUs are visible here; each needs its own")
    return asked or len(gpus)
