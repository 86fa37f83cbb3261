"""The runs, sweeps and searches of a folder: what each is, how far it is and how well it did.

A finished run is read from its ``results.json``, one that is not from its ``environment.json``: its configuration, in
YAML, is read where it is asked for. A damaged one says why and never stops the list.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from experiments.claim import in_work
from experiments.provenance import dotted
from experiments.scores import Results, Score, read_results
from qgen.plain import read_yaml_file
from qgen.run import CONFIG, ENVIRONMENT, RESULTS, read_config, read_json

__all__ = ["FAILED", "SWEEP", "Entry", "Status", "best_of", "entry_of", "runs_in", "size_text"]

SWEEP, JOBS, SEARCH, BEST, FAILED = "sweep.yaml", "jobs", "tuning.json", "best.yaml", "failed.json"

DEEPEST = 4
"""Folders below the one that is asked for in which runs are looked for."""

Status = Literal["finished", "in work", "unfinished", "failed", "damaged"]


@dataclass(frozen=True)
class Entry:
    """A run, a sweep of runs or a search for settings.

    Args:
        folder: where it is.
        what: of these.
        name: of the experiment.
        status: how far it is.
        reason: why it is damaged or failed; of a sweep, how many jobs are finished.
        models: kinds by name.
        seeds: of the trainings; of a sweep, none.
        when: last change of its results, or else of its configuration, seconds since 1970.
        size: bytes on disk.
        results: of a finished run.
    """

    folder: Path
    what: Literal["run", "sweep", "search"]
    name: str
    status: Status
    reason: str
    models: dict[str, str]
    seeds: list[int]
    when: float
    size: int
    results: Results | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration by path, as ``models.flow.layers``; nothing if it cannot be read."""
        try:
            found = read_yaml_file(self.folder / CONFIG)
        except (OSError, ValueError):
            return {}
        return dotted(found) if isinstance(found, dict) else {}

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of its results."""
        models = {} if self.results is None else self.results.generators
        return list(dict.fromkeys(metric for model in models.values() for metric in model.metrics))

    def best(self, metric: str | None = None) -> tuple[str, str, Score] | None:
        """The metric, the model that is nearest to a perfect generator's value, and its score; None without one."""
        return None if self.results is None else best_of(self.results, metric)


def best_of(results: Results, metric: str | None = None) -> tuple[str, str, Score] | None:
    """A metric, or the first one, with the model that is nearest to a perfect one's value and its score."""
    asked = metric if metric is not None else next(iter(results.headline), None)
    model = None if asked is None else results.best(asked)
    return None if asked is None or model is None else (asked, model, results.models[model].metrics[asked])


def runs_in(folder: Path | str, *, inside: bool = False) -> Iterator[Entry]:
    """What is in a folder and those below it; a folder that is itself a run, or a sweep, is told of alone.

    Links are not followed.

    Args:
        folder: where to look.
        inside: also tell of the jobs of sweeps.

    Raises:
        ValueError: there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ValueError(f"{place}: no such folder")
    yield from _found(place, inside, DEEPEST)


def entry_of(folder: Path) -> Entry | None:
    """The run, sweep or search that a folder is; None if it is none."""
    if (folder / SWEEP).is_file():
        return _sweep(folder)
    if (folder / SEARCH).is_file():
        return _search(folder)
    signs = (folder / ENVIRONMENT).is_file() or (folder / RESULTS).is_file() or (folder / FAILED).is_file()
    if signs or ((folder / CONFIG).is_file() and (folder / ".lock").exists()):
        return _run(folder)
    return None


def size_text(size: float) -> str:
    """Bytes for a reader.

    >>> size_text(512), size_text(2_300_000)
    ('512 B', '2.3 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _found(folder: Path, inside: bool, depth: int) -> Iterator[Entry]:
    entry = entry_of(folder)
    if entry is not None:
        yield entry
        if entry.what == "sweep" and inside and (folder / JOBS).is_dir():
            for job in _folders(folder / JOBS):
                yield from _found(job, inside, 0)
        return
    if depth > 0:
        for below in _folders(folder):
            yield from _found(below, inside, depth - 1)


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder, by name; hidden ones, links and what cannot be read are left out."""
    try:
        with os.scandir(folder) as found:
            names = [one.name for one in found if not one.name.startswith(".") and one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _run(folder: Path) -> Entry:
    """A run, finished or not."""
    results: Results | None = None
    facts: dict[str, Any] = {}
    reason = ""
    finished = (folder / RESULTS).exists()
    try:
        if not (folder / CONFIG).is_file():
            raise ValueError(f"{CONFIG} is missing")
        if finished:
            results = read_results(read_json(folder / RESULTS), RESULTS)
            models = {name: model.kind for name, model in results.generators.items()}
            facts = {"name": results.name, "models": models, "seeds": results.seeds}
        else:
            facts = _facts(folder)
    except (OSError, ValueError) as error:
        reason = _short(error, folder)
    status: Status = "finished" if finished else "unfinished"
    if not reason and not finished and (folder / FAILED).exists():
        status, reason = "failed", _failure(folder)
    elif reason:
        status = "damaged"
    if _held(folder):
        status = "in work"
    return Entry(
        folder=folder,
        what="run",
        name=str(facts.get("name", folder.name)),
        status=status,
        reason=reason,
        models=facts.get("models", {}),
        seeds=facts.get("seeds", []),
        when=_when(folder, (RESULTS, ENVIRONMENT, CONFIG)),
        size=_size(folder),
        results=results,
    )


def _facts(folder: Path) -> dict[str, Any]:
    """Name, models and seeds of a run without results."""
    if (folder / ENVIRONMENT).is_file():
        facts = read_json(folder / ENVIRONMENT)
        models, seeds = (facts.get("models"), facts.get("seeds")) if isinstance(facts, dict) else (None, None)
        plain = isinstance(models, dict) and all(isinstance(kind, str) for kind in models.values())
        if plain and isinstance(seeds, list) and all(isinstance(seed, int) for seed in seeds):
            return dict(facts)
    config = read_config(folder / CONFIG)
    kinds = {name: section["kind"] for name, section in config["models"].items()}
    return {"name": config.get("name", folder.name), "models": kinds, "seeds": config["seeds"]}


def _sweep(folder: Path) -> Entry:
    """A sweep; how far it is say its jobs."""
    from experiments.sweep.folder import read_setup
    from experiments.sweep.grid import count

    jobs = _folders(folder / JOBS)
    done = sum((job / RESULTS).exists() for job in jobs)
    failed = sum((job / FAILED).exists() and not (job / RESULTS).exists() for job in jobs)
    name, status, reason = folder.name, "unfinished", ""
    models: dict[str, str] = {}
    try:
        setup = read_setup(folder)
        asked = count(setup.grids)
        experiment = setup.base.experiment
        name, models = experiment.name, {name: model.generator.kind for name, model in experiment.models.items()}
        reason = f"{done} of {asked} jobs finished" + (f", {failed} failed" if failed else "")
        status = "finished" if done >= asked else "failed" if done + failed >= asked else "unfinished"
    except (OSError, ValueError) as error:
        status, reason = "damaged", _short(error, folder)
    if any(_held(one) for one in (folder, *jobs)):
        status = "in work"
    return _entry(folder, "sweep", name, status, reason, models)


def _search(folder: Path) -> Entry:
    """A search for settings."""
    name, reason = folder.name, ""
    models: dict[str, str] = {}
    status = "finished" if (folder / BEST).exists() else "unfinished"
    try:
        config = read_config(folder / CONFIG)
        settings = read_json(folder / SEARCH)
        chosen = settings.get("models") if isinstance(settings, dict) else None
        name = str(config.get("name", folder.name))
        models = {key: one["kind"] for key, one in config["models"].items() if chosen is None or key in chosen}
    except (OSError, ValueError) as error:
        status, reason = "damaged", _short(error, folder)
    if _held(folder):
        status = "in work"
    return _entry(folder, "search", name, status, reason, models)


def _entry(folder: Path, what: Any, name: str, status: Any, reason: str, models: dict[str, str]) -> Entry:
    when = _when(folder, ("results.parquet", BEST, SWEEP, SEARCH))
    return Entry(folder, what, name, status, reason, models, [], when, _size(folder))


def _held(folder: Path) -> bool:
    """Whether a process works there: at the run, on a backend, at the job or a trial."""
    locks = [path for names in (".*lock", "backends/*/.lock", "*/.trial-*.lock") for path in folder.glob(names)]
    return any(in_work(lock.parent, lock.name) for lock in locks)


def _failure(folder: Path) -> str:
    try:
        found = read_json(folder / FAILED)
    except (OSError, ValueError) as error:
        return _short(error, folder)
    return " ".join(str(found.get("message", "") if isinstance(found, dict) else "").split())


def _short(error: Exception, folder: Path) -> str:
    """What is wrong, without the folder, which stands beside it."""
    return " ".join(str(error).split()).replace(f"{folder}/", "").replace(f"{folder}: ", "")


def _when(folder: Path, names: tuple[str, ...]) -> float:
    for path in (*(folder / name for name in names), folder):
        try:
            return path.stat().st_mtime
        except OSError:  # the next one may be there
            continue
    return 0.0


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; links count as what they are."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 (a path object costs more than this)
            except OSError:  # gone by now
                continue
    return total
