"""A job of a sweep: an ordinary run in a folder of its own, worked on by one process at a time."""

from __future__ import annotations

import json
import os
import platform
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from experiments.claim import held
from experiments.experiment import Experiment
from experiments.rescored import BACKENDS, read_rescoring
from experiments.run import run_experiment
from experiments.scores import read_results
from experiments.sweep.folder import JOBS, SWEEP, read_setup
from experiments.sweep.points import Base, job_id
from experiments.trained import Reporter, as_json
from qgen.data import DATASETS, Dataset
from qgen.files import write_atomically
from qgen.run import CONFIG, RESULTS, read_json

__all__ = [
    "CLAIM",
    "FAILED",
    "JOB",
    "STARTS",
    "Ended",
    "events_of",
    "failure",
    "forget",
    "one_line",
    "run_job",
    "tried",
    "write_failure",
]

JOB, FAILED, STARTS, CLAIM = "job.json", "failed.json", "starts.jsonl", ".job.lock"
MOST_REMARKS = 20


@dataclass(frozen=True)
class Ended:
    """How a look at a job ended.

    Args:
        status: ``finished`` now, ``failed`` now, finished ``before``, or in work ``elsewhere``.
        error: what it failed of, one line.
        remarks: what the run had to say, a line each.
    """

    status: Literal["finished", "failed", "before", "elsewhere"]
    error: str = ""
    remarks: tuple[str, ...] = ()


def run_job(
    folder: str,
    job: str,
    point: Mapping[str, Any],
    attempts: int = 0,
    *,
    device: str = "cpu",
    track: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a job of a sweep unless that is done, or go on with it; what it fails of is written down and returned.

    Args:
        folder: of the sweep.
        job: its name.
        point: of the grid.
        attempts: how often the job had been begun at its last failure when the sweep looked; if it failed once more
            since then, another process has just tried it, and it is left as it is.
        device: where its models train.
        track: trackers that are told of it.

    Returns:
        The fields of :class:`Ended`, plain values.

    Raises:
        OSError: the folder of the job cannot be made.
        ValueError: a link or a file is in its place.
    """
    place = Path(folder) / JOBS / job
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        found = "a link" if place.is_symlink() else "no folder"
        raise ValueError(f"{place}: is {found}; the folder of a job is needed")
    place.mkdir(parents=True, exist_ok=True)
    with held(place / CLAIM) as mine:
        if not mine:
            return asdict(Ended("elsewhere"))
        remarks: list[str] = []
        try:
            experiment = _base(folder).at(point)
            if job_id(experiment) != job:
                raise ValueError("is another job in this process; its version of the lab is not that of the sweep")
            if _done(place, experiment, remarks):
                (place / FAILED).unlink(missing_ok=True)
                return asdict(Ended("before"))
            if tried(place) > attempts:
                return asdict(Ended("failed", str(failure(place).get("message"))))
            _prepare(place, job, point, experiment)
            run_experiment(
                experiment,
                place,
                resume=True,
                device=device,
                reporter=Reporter(warning=remarks.append),
                dataset=events_of(experiment),
                track=track,
            )
            (place / FAILED).unlink(missing_ok=True)
        except BlockingIOError:  # `qgen run` is at work in the job's folder
            return asdict(Ended("elsewhere"))
        except Exception as error:
            remarks += write_failure(place, error)
            return asdict(Ended("failed", one_line(error), tuple(remarks[:MOST_REMARKS])))
        return asdict(Ended("finished", "", tuple(remarks[:MOST_REMARKS])))


def failure(place: Path) -> dict[str, Any]:
    """What stands in a job's ``failed.json``; of a damaged one that it is damaged. Empty if there is none."""
    if not (place / FAILED).exists():
        return {}
    try:
        found = read_json(place / FAILED)
    except ValueError as error:
        return {"type": "ValueError", "message": str(error), "attempts": 0}
    return found if isinstance(found, dict) else {"type": "ValueError", "message": "damaged", "attempts": 0}


def tried(place: Path) -> int:
    """How often a job had been begun when it failed last; 0 if it has not failed."""
    attempts = failure(place).get("attempts", 0)
    return attempts if isinstance(attempts, int) else 0


def write_failure(place: Path, error: BaseException) -> list[str]:
    """Lay down what a job failed of.

    Returns:
        A line if that cannot be written, on a full disk for one.
    """
    starts = place / STARTS
    try:
        record = {
            "type": type(error).__name__,
            "message": one_line(error),
            "traceback": "".join(traceback.format_exception(error)),
            "attempts": len(starts.read_bytes().splitlines()) if starts.is_file() and not starts.is_symlink() else 0,
            "process": os.getpid(),
            "python": platform.python_version(),
        }
        write_atomically(place / FAILED, as_json(record))
    except (OSError, ValueError) as trouble:
        return [f"{place}: why it failed could not be written ({trouble})"]
    return []


def one_line(error: BaseException) -> str:
    """An error in one line, its type before it where that is no plain mistake.

    >>> one_line(KeyError("layers")), one_line(ValueError("layers is 0"))
    ("KeyError: 'layers'", 'layers is 0')
    """
    text = " ".join(str(error).split())
    plain = isinstance(error, ValueError | OSError) and text
    return text if plain else f"{type(error).__name__}: {text}".removesuffix(": ")


def forget() -> None:
    """Let go of the events that are kept for the next job."""
    _events.cache_clear()
    _read_base.cache_clear()


def _prepare(place: Path, job: str, point: Mapping[str, Any], experiment: Experiment) -> None:
    """Lay down what the job is, and that it is begun once more."""
    starts = place / STARTS
    if starts.is_symlink() or (starts.exists() and not starts.is_file()):
        raise ValueError(f"{starts}: is no file of the lab; remove it")
    with starts.open("a") as file:
        file.write(json.dumps({"process": os.getpid()}) + "\n")
    write_atomically(place / JOB, as_json({"job": job, "point": point}))
    text = experiment.to_yaml()
    config = place / CONFIG
    if not config.exists() or config.read_bytes() != text.encode():
        write_atomically(config, text.encode())  # so that the run is none that rehearses: the sweep has done that


def _done(place: Path, experiment: Experiment, remarks: list[str]) -> bool:
    """Whether the run is finished; results that are damaged are none."""
    results = place / RESULTS
    if not results.exists():
        return False
    if not results.is_file():
        raise ValueError(f"{results}: is no file of the lab; remove it")
    try:
        read_results(read_json(results), str(results))
    except ValueError as error:
        remarks.append(f"{error}; the job is judged again")
        results.unlink()
        return False
    backends = experiment.evaluation.backends if experiment.models_on_backends else {}
    return all(_judged_on(place / BACKENDS / label / RESULTS, experiment) for label in backends)


def _judged_on(results: Path, experiment: Experiment) -> bool:
    """Whether all scores of a backend are there; those of a model and a seed are written as soon as they are known."""
    if not results.is_file():
        return False
    try:
        found = read_rescoring(results).models
    except ValueError:
        return False
    seeds = set(map(str, experiment.seeds))
    return all(name in found and seeds <= set(found[name].seeds) for name in experiment.models_on_backends)


def _base(folder: str) -> Base:
    return _read_base(folder, (Path(folder) / SWEEP).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def _read_base(folder: str, text: str) -> Base:
    """What all jobs of the sweep share; ``text`` is that of its file, which may change."""
    return read_setup(folder).base


def events_of(experiment: Experiment) -> Dataset:
    """The events of an experiment; those of the last one are kept, they are those of the next one as a rule."""
    options = experiment.dataset.options
    return _events(experiment.dataset.kind, json.dumps(options), _stamp(options.get("path")))


@lru_cache(maxsize=1)
def _events(kind: str, options: str, stamp: object) -> Dataset:
    dataset: Dataset = DATASETS[kind](**json.loads(options))
    return dataset


def _stamp(path: Any) -> tuple[int, int] | None:
    """What changes when a file of events is replaced."""
    if path is None or not Path(path).exists():
        return None
    facts = Path(path).stat()
    return facts.st_size, facts.st_mtime_ns
