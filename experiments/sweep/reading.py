"""``load_sweep``: a sweep, finished or not, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.scores import read_results
from experiments.space import at
from experiments.sweep.folder import JOBS, SWEEP, Setup, is_sweep, read_setup
from experiments.sweep.grid import Point
from experiments.sweep.job import FAILED, JOB, failure
from experiments.sweep.table import tidy
from qgen.plain import read_yaml_file
from qgen.run import CONFIG, RESULTS, read_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Job", "Sweep", "load_sweep"]


@dataclass(frozen=True)
class Job:
    """A job that was begun.

    Args:
        id: its name, which comes from its configuration.
        point: of the grid.
        folder: of its run, as ``qgen.load_run`` takes it.
        status: ``finished``; ``failed`` at the last attempt; or ``unfinished``: in work, or broken off.
        error: of a failed one, one line.
    """

    id: str
    point: Point
    folder: Path
    status: Literal["finished", "failed", "unfinished"]
    error: str = ""


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder.

    Args:
        folder: where it is.
        setup: configuration, grids and farm.
        untold: errors of jobs that failed just now and could not keep them in their folders.
    """

    folder: Path
    setup: Setup
    untold: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the experiment that is varied."""
        return self.setup.base.experiment.name

    @property
    def paths(self) -> list[str]:
        """Everything that is varied."""
        return self.setup.paths

    @cached_property
    def jobs(self) -> list[Job]:
        """The jobs that were begun, in the order of the grid; read once."""
        found = []
        for place in sorted((self.folder / JOBS).glob("*")):
            if (point := _point(place)) is not None:
                whole = {path: point[path] if path in point else _from_run(place, path) for path in self.paths}
                found.append(_job(place, whole))
        return sorted(found, key=lambda job: self._rank(job.point))

    @property
    def failures(self) -> list[Job]:
        """The jobs whose last attempt failed."""
        return [job for job in self.jobs if job.status == "failed"]

    @cached_property
    def table(self) -> pa.Table:
        """All results, tidy; see :func:`experiments.sweep.table.tidy`."""
        return tidy(self.jobs, self.paths)

    @cached_property
    def _order(self) -> dict[str, dict[str, int]]:
        """The place of every value among those of its path."""
        found: dict[str, dict[str, int]] = {path: {} for path in self.paths}
        for grid in self.setup.grids:
            for path, values in grid.items():
                for value in values:
                    found[path].setdefault(json.dumps(value, sort_keys=True), len(found[path]))
        return found

    def _rank(self, point: Mapping[str, Any]) -> list[int]:
        return [places.get(json.dumps(point[path], sort_keys=True), -1) for path, places in self._order.items()]


def load_sweep(folder: Path | str) -> Sweep:
    """Open a sweep's folder.

    Args:
        folder: that ``qgen sweep`` wrote, or writes.

    Raises:
        FileNotFoundError: the folder holds no sweep.
        ValueError: its configuration is damaged.
    """
    folder = Path(folder)
    if not is_sweep(folder):
        raise FileNotFoundError(f"{folder}: no sweep is here ({SWEEP} is missing)")
    return Sweep(folder, read_setup(folder))


def _point(place: Path) -> Point | None:
    """The point of a job; None if it has not begun."""
    try:
        found = read_json(place / JOB)["point"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _from_run(place: Path, path: str) -> Any:
    """What a job has at a path that was not varied when it ran; None if nothing is there."""
    try:
        config = read_yaml_file(place / CONFIG)
    except (OSError, ValueError):
        return None
    first, _, rest = path.partition(".")
    if path == "seed":
        return config["seeds"][0] if len(config["seeds"]) == 1 else None
    if first != "model":
        return at(config, path)
    found = [value for model in config["models"].values() if (value := at(model, rest)) is not None]
    return found[0] if found else None


def _job(place: Path, point: Point) -> Job:
    """A job as its folder shows it; one may fail when its results are there, judged on a further backend."""
    if (place / RESULTS).is_file() and not (place / FAILED).exists():
        try:
            read_results(read_json(place / RESULTS))
        except ValueError as error:
            return Job(place.name, point, place, "unfinished", str(error))
        return Job(place.name, point, place, "finished")
    if (place / FAILED).exists():
        return Job(place.name, point, place, "failed", str(failure(place).get("message", "")))
    return Job(place.name, point, place, "unfinished")
