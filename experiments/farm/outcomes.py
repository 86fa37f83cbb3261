"""Many jobs through an executor: outcomes as they end, none lost, whatever happens to the workers."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from experiments.farm.description import Farm

__all__ = ["Outcome", "WorkerLostError", "completed"]

IN_FLIGHT = 4096
"""Most jobs that an executor holds at a time; the others wait in the iterable of arguments."""


class WorkerLostError(RuntimeError):
    """A job was given up because its worker died each time that it ran."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        index: its place among the arguments, from 0.
        value: what the function returned; None if it failed.
        error: what it raised, with the traceback of the worker as a note, or a :class:`WorkerLostError`; None if it
            returned.
    """

    index: int
    value: Any
    error: BaseException | None


@dataclass
class _Job:
    index: int
    arguments: Sequence[Any]
    begun: int = 0


def completed(
    farm: Farm | Executor,
    function: Callable[..., Any],
    arguments: Iterable[Sequence[Any]],
    *,
    attempts: int = 3,
) -> Generator[Outcome, None, None]:
    """Run a function once for each of many arguments, and give the outcomes as they end, in any order.

    A function that raises has failed and is not run again. A job whose worker dies is run again, by another worker,
    until it was begun ``attempts`` times; jobs of other workers are not touched by that. So a function may be begun
    more than once, but there is one outcome of each job. An executor of a farm replaces dead workers; one that does
    not, as a ``ProcessPoolExecutor``, fails all that is left.

    Jobs that have not begun are cancelled when the iterator is closed or Ctrl-C is pressed; the workers of a farm end
    then at once.

    Args:
        farm: where; a farm is opened and closed here, an executor is left open.
        function: of a module, not a lambda.
        arguments: of each job, values that can be sent to another process; read as jobs end, there may be millions.
        attempts: most times that a job is begun.

    Raises:
        ValueError: ``attempts`` is below 1.

    >>> from experiments.farm import farm_from
    >>> [outcome.value for outcome in completed(farm_from("here"), pow, [(2, 3), (2, 4)])]
    [8, 16]
    """
    if attempts < 1:
        raise ValueError(f"attempts is {attempts}; at least 1 is needed")
    return _opened(farm, function, arguments, attempts)


def _opened(
    farm: Farm | Executor, function: Callable[..., Any], arguments: Iterable[Sequence[Any]], attempts: int
) -> Generator[Outcome, None, None]:
    if isinstance(farm, Farm):
        with farm.open() as executor:
            yield from _outcomes(executor, function, arguments, attempts)
    else:
        yield from _outcomes(farm, function, arguments, attempts)


def _outcomes(
    executor: Executor, function: Callable[..., Any], arguments: Iterable[Sequence[Any]], attempts: int
) -> Iterator[Outcome]:
    new = (_Job(index, given) for index, given in enumerate(arguments))
    again: deque[_Job] = deque()
    running: dict[Future[Any], _Job] = {}
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    try:
        while True:
            while ended.empty() and len(running) < IN_FLIGHT:
                job = again.popleft() if again else next(new, None)
                if job is None:
                    break
                job.begun += 1
                try:
                    future = executor.submit(_portable, function, job.arguments)
                except BrokenExecutor as error:
                    yield Outcome(job.index, None, _given_up(job, error))
                    continue
                running[future] = job
                future.add_done_callback(ended.put)
            if not running:
                return
            future = ended.get()
            job = running.pop(future)
            if future.cancelled():  # by the executor, as when the connection to a scheduler was lost
                job.begun -= 1
                again.append(job)
                continue
            outcome = _outcome(future, job)
            if isinstance(outcome.error, WorkerLostError) and job.begun < attempts:
                again.append(job)
            else:
                yield outcome
    finally:
        for future in running:
            future.cancel()


def _portable(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, BaseException | None]:
    """In the worker: the value, or an error that can be sent home.

    An exception that another process cannot build again would take the pool with it.
    """
    try:
        return function(*arguments), None
    except (Exception, SystemExit) as error:
        error.add_note(traceback.format_exc().rstrip())
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            told = RuntimeError(f"{type(error).__name__}: {error}")
            told.add_note(traceback.format_exc().rstrip())
            return None, told
        return None, error


def _outcome(future: Future[Any], job: _Job) -> Outcome:
    try:
        value, error = future.result()
    except BaseException as trouble:
        if isinstance(trouble, KeyboardInterrupt):
            raise
        return Outcome(job.index, None, _given_up(job, trouble) if _lost(trouble) else trouble)
    return Outcome(job.index, value, error)


def _lost(error: BaseException) -> bool:
    distributed = sys.modules.get("distributed")  # only if an executor of dask is in use
    killed = () if distributed is None else (distributed.scheduler.KilledWorker,)
    return isinstance(error, (BrokenExecutor, *killed))


def _given_up(job: _Job, error: BaseException) -> WorkerLostError:
    times = "once" if job.begun == 1 else f"{job.begun} times"
    lost = WorkerLostError(f"its worker died, {times} (killed, out of memory or crashed)")
    lost.__cause__ = error
    return lost
