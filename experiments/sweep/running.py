"""``sweep``: every point of a grid as a job of its own, on any farm, in any number of processes at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.claim import held
from experiments.farm import Farm, completed, farm_from
from experiments.run import rehearse
from experiments.sweep.folder import JOBS, LOCK, Setup, is_sweep, keep, merged, read_setup
from experiments.sweep.grid import Point, point_text
from experiments.sweep.job import CLAIM, Ended, events_of, forget, one_line, run_job, tried, write_failure
from experiments.sweep.points import planned
from experiments.sweep.reading import Sweep, load_sweep
from experiments.sweep.table import write_table
from experiments.tracking import check_trackers
from qgen.device import find_device

__all__ = ["Told", "sweep"]

SECONDS_BETWEEN = 30.0
"""Least time between two writings of the table while jobs run."""

SHARE = 0.05
"""Most of the time that goes into writing it."""


@dataclass(frozen=True)
class Told:
    """What a sweep tells while it goes.

    Args:
        ended: the point of a job, how many of all are done, and how many there are.
        remark: a line about a job, or about the sweep.
    """

    ended: Callable[[str, int, int], None] = lambda point, done, of: None
    remark: Callable[[str], None] = lambda line: None


def sweep(
    source: str | Path | Mapping[str, Any],
    grid: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    overrides: Sequence[str] = (),
    farm: str | Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    device: str = "cpu",
    track: Sequence[str] = (),
    told: Told | None = None,
) -> Sweep:
    """Run an experiment at every point of a grid.

    Every point is resolved before anything runs. Each is a job: an ordinary run in ``jobs/ID`` of the sweep's folder,
    ID being the hash of its configuration, so that a finished job is never run again and one that was broken off goes
    on from its last checkpoint, whatever was added to the grid since. A job that fails leaves ``failed.json`` in its
    folder and the others go on; the next ``resume`` tries it again. Several processes may work on one folder: each
    job is done by whoever claims it first.

    Args:
        source: as :func:`experiments.config.load_config` takes it; or a file with ``config``, ``grid``, ``set`` and
            ``farm``, or the folder of a sweep.
        grid: the values of each path, ``{"model.layers": [2, 4], "seed": range(10)}``, or texts
            ``["model.layers=2,4", "seed=0:10"]``; added to the grid of the folder.
        overrides: ``a.b=value`` each, for all points.
        farm: where the jobs run, as :func:`experiments.farm.farm_from` takes it; this process if nothing says.
        out: the sweep's folder; ``runs/NAME-sweep`` if not given.
        resume: go on with the sweep that is in the folder.
        device: where models train, ``cpu`` or ``cuda``.
        track: trackers that are told of every job, of :data:`experiments.tracking.TRACKERS`.
        told: is told of progress.

    Returns:
        The sweep, its table written to ``results.parquet`` and ``results.csv``.

    Raises:
        FileExistsError: the folder holds a sweep and ``resume`` is false.
        FileNotFoundError: no such configuration.
        ValueError: a path, a value or a point is impossible, the folder holds a sweep of another configuration, the
            first job cannot work, or an unknown tracker.
        ImportError: the farm or a tracker needs a package that is not installed.
        OSError: the folder takes no files, or the farm cannot be opened.
    """
    told = told or Told()
    check_trackers(track)
    given = read_setup(source, grid, overrides, farm)
    folder = Path(out) if out is not None else _own_folder(source, given)
    folder = folder.absolute()  # a worker may be elsewhere
    setup = merged(folder, given, resume)
    jobs = list(planned(setup.base, setup.grids))
    place = (setup.farm or farm_from("here")).on(device)
    try:
        if not any((folder / JOBS).glob("*")):
            _rehearse(setup, jobs[0][1], place)
        work = _Work(folder, jobs, partial(run_job, device=device, track=tuple(track)), told)
        with place.open() as executor:
            keep(folder, setup, resume)  # only now: a farm that cannot be opened leaves no sweep behind
            work.run(executor)
    finally:
        forget()
        if is_sweep(folder):
            _write(folder)
    found = load_sweep(folder)
    known = {job.id for job in found.jobs if job.status != "unfinished"}
    untold = tuple(error for job, error in work.failed.items() if job not in known)
    return replace(found, untold=untold)


class _Work:
    """The jobs of a sweep on their way."""

    def __init__(
        self, folder: Path, jobs: Sequence[tuple[str, Point]], do: Callable[..., dict[str, Any]], told: Told
    ) -> None:
        self.folder, self.jobs, self.do, self.told = folder, jobs, do, told
        self.attempts = {job: tried(folder / JOBS / job) for job, _ in jobs}
        self.failed: dict[str, str] = {}
        self.done = 0
        self._next = time.monotonic() + SECONDS_BETWEEN

    def run(self, workers: Executor) -> None:
        """Run what is left, and look once more at what another process had claimed.

        Raises:
            KeyboardInterrupt: as it came; jobs that were in work can be resumed.
        """
        left = self._pass(self.jobs, workers)
        still = self._pass(left, workers) if left else []
        for _, point in still:
            self.told.remark(f"{point_text(point)}: in work elsewhere, left alone")

    def _pass(self, jobs: Sequence[tuple[str, Point]], workers: Executor) -> list[tuple[str, Point]]:
        """Try every job once; those that another process is at are given back."""
        elsewhere = []
        arguments = ((str(self.folder), job, point, self.attempts[job]) for job, point in jobs)
        with closing(completed(workers, self.do, arguments)) as outcomes:
            for outcome in outcomes:
                job, point = jobs[outcome.index]
                ended = Ended(**outcome.value) if outcome.error is None else self._lost(job, outcome.error)
                for remark in ended.remarks:
                    self.told.remark(f"{point_text(point)}: {remark}")
                if ended.status == "elsewhere":
                    elsewhere.append((job, point))
                    continue
                if ended.status == "failed":
                    self.failed[job] = ended.error
                    self.told.remark(f"{point_text(point)}: failed: {ended.error}")
                self.done += 1
                if ended.status != "before":
                    self.told.ended(point_text(point), self.done, len(self.jobs))
                if (began := time.monotonic()) >= self._next:
                    _write(self.folder)
                    now = time.monotonic()
                    self._next = now + max(SECONDS_BETWEEN, (now - began) / SHARE)
        return elsewhere

    def _lost(self, job: str, error: BaseException) -> Ended:
        """A job that could not say itself what happened to it."""
        place = self.folder / JOBS / job
        if place.is_symlink() or not place.is_dir():
            return Ended("failed", one_line(error))
        with held(place / CLAIM) as mine:
            remarks = write_failure(place, error) if mine else []
        return Ended("failed" if mine else "elsewhere", one_line(error), tuple(remarks))


def _write(folder: Path) -> None:
    """The table of what is there now; the last to look is the last to write."""
    with held(folder / LOCK, wait=True):
        write_table(folder, load_sweep(folder).table)


def _own_folder(source: str | Path | Mapping[str, Any], setup: Setup) -> Path:
    if not isinstance(source, Mapping) and is_sweep(Path(source)):
        return Path(source)
    return Path("runs") / f"{setup.base.experiment.name}-sweep"


def _rehearse(setup: Setup, point: Point, farm: Farm) -> None:
    """See whether the first job can work, here; on the processor if the farm is elsewhere.

    Raises:
        ValueError: it cannot.
    """
    experiment = setup.base.at(point)
    device = farm.device if farm.kind in ("here", "processes") else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(experiment.threads)
    try:
        rehearse(experiment, events_of(experiment), find_device(device))
    except ValueError as error:
        raise ValueError(f"grid at {point_text(point)}: {error}") from error
    finally:
        torch.set_num_threads(threads)
