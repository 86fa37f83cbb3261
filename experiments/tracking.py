"""Runs as TensorBoard and MLflow show them. The run's folder is the truth, trackers are told of it.

A training that is taken up again is told anew from its ``metrics.jsonl``, so that no step is missing or there twice.
A tracker that fails is left out for the rest of the run, with one warning; the training goes on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from experiments.experiment import Experiment
from experiments.trained import Reporter
from qgen.run import RESULTS, Run, load_run
from qgen.text import unknown

__all__ = ["TRACKERS", "Record", "Tracker", "Tracking", "check_trackers", "records_of", "track_again", "tracking"]

TRACKERS = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Their names, and the packages that they need."""

LOG = "metrics.jsonl"

LONGEST_REASON = 200

Record = Mapping[str, float]


class Tracker(Protocol):
    """What shows runs elsewhere. A training is named ``seed-0/model``."""

    def begin(self, training: str, before: Sequence[Record]) -> None:
        """A training begins or goes on; ``before`` are its records so far."""

    def record(self, training: str, record: Record) -> None:
        """The training made a new record."""

    def warning(self, line: str) -> None:
        """Something went wrong."""

    def finish(self, results: Mapping[str, Any] | None) -> None:
        """The run is finished, with these results; None if they are not known yet."""

    def close(self, status: str) -> None:
        """Nothing more is told: ``FINISHED``, ``FAILED`` or ``KILLED``."""


class Tracking:
    """The trackers of one run.

    Args:
        names: keys of :data:`TRACKERS`.
        experiment: that is run.
        folder: of the run; its configuration and environment are there.
        reporter: is told all that trackers are told, and of one that fails.
    """

    def __init__(self, names: Sequence[str], experiment: Experiment, folder: Path, reporter: Reporter) -> None:
        self.experiment, self.folder, self._told = experiment, folder, reporter
        self._trackers: dict[str, Tracker] = {}
        self._begun: set[str] = set()
        self._training = ""
        for name in dict.fromkeys(names):
            self._guarded(name, partial(self._open, name))
        self.reporter = Reporter(self._stage, self._record, self._warning) if self._trackers else reporter

    def finish(self, results: Mapping[str, Any] | None) -> None:
        """Tell of the trainings of which nothing was told yet, and of the results."""
        for seed in self.experiment.seeds:
            for model in self.experiment.models:
                training = f"seed-{seed}/{model}"
                if training not in self._begun:
                    self._begin(training)
        self._each(lambda tracker: tracker.finish(results))

    def close(self, status: str) -> None:
        """Nothing more is told."""
        self._each(lambda tracker: tracker.close(status))

    def _open(self, name: str) -> None:
        self._trackers[name] = _opened(name, self.experiment, self.folder)

    def _begin(self, training: str, until: float = math.inf) -> None:
        """Tell of a training and its records before a step."""
        self._begun.add(training)
        log = self.folder / training / LOG
        self._each(lambda tracker: tracker.begin(training, [one for one in records_of(log) if one["step"] < until]))

    def _stage(self, model: str, seed: int, steps: int) -> None:
        self._training = f"seed-{seed}/{model}" if model in self.experiment.models else ""
        self._told.stage(model, seed, steps)

    def _record(self, record: dict[str, float]) -> None:
        training = self._training
        if training not in self._begun:
            self._begin(training, record["step"])
        self._each(lambda tracker: tracker.record(training, record))
        self._told.record(record)

    def _warning(self, line: str) -> None:
        self._each(lambda tracker: tracker.warning(line))
        self._told.warning(line)

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            self._guarded(name, partial(tell, tracker))

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever a tracker raises costs what it shows, never the training
            self._trackers.pop(name, None)
            said = re.sub(r"://[^/@\s]*@", "://", " ".join(str(error).split()))  # a server's user and password
            reason = said[:LONGEST_REASON] or type(error).__name__
            again = f"`qgen runs track {self.folder} --to {name}` tells it all"
            self._told.warning(f"{name} is told no more of this run ({reason}); {again}")


@contextmanager
def tracking(names: Sequence[str], experiment: Experiment, folder: Path, reporter: Reporter) -> Iterator[Tracking]:
    """Trackers of a run for the time that it works; they are told how it ended."""
    trackers = Tracking(names, experiment, folder, reporter)
    try:
        yield trackers
    except BaseException as error:
        trackers.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    trackers.close("FINISHED")


def check_trackers(names: Sequence[str]) -> None:
    """Say what is missing before anything trains.

    Raises:
        ValueError: an unknown tracker.
        ImportError: its package is not installed.

    >>> check_trackers(["mlfow"])
    Traceback (most recent call last):
    ValueError: tracker 'mlfow' is unknown; did you mean 'mlflow'? Known: tensorboard, mlflow
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(unknown("tracker", name, TRACKERS))
        if find_spec(TRACKERS[name]) is None:
            raise ImportError(f"tracking with {name} needs it; install it with: pip install 'qgen-hep[tracking]'")


def track_again(folder: Path | str, names: Sequence[str], reporter: Reporter | None = None) -> Run:
    """Tell trackers of a run from its folder alone; what they know already is not told twice.

    Args:
        folder: of the run, finished or not.
        names: keys of :data:`TRACKERS`.
        reporter: is told of a tracker that fails.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: an unknown tracker, or a damaged run.
        ImportError: a tracker is not installed.
    """
    from experiments.config import resolve

    check_trackers(names)
    run = load_run(folder)
    finished = (run.folder / RESULTS).is_file()
    trackers = Tracking(names, resolve(run.config), run.folder, reporter or Reporter())
    trackers.finish(run.results if finished else None)
    trackers.close("FINISHED" if finished else "KILLED")
    return run


def records_of(log: Path) -> list[Record]:
    """The records of a training by step, as its log has them: of a step that was taken again, the last.

    A line that is not whole is left out: it is being written, or was when the training was killed.
    """
    found: dict[float, Record] = {}
    if log.is_file():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int | float):
                found[record["step"]] = {key: x for key, x in record.items() if isinstance(x, int | float)}
    return [found[step] for step in sorted(found)]


def _opened(name: str, experiment: Experiment, folder: Path) -> Tracker:
    if name == "tensorboard":
        from experiments.track_tensorboard import TensorBoard

        return TensorBoard(folder)
    from experiments.track_mlflow import MLflow

    return MLflow(experiment, folder)
