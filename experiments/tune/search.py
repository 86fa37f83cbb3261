"""``tune``: a search for models' settings, with the same budget for every model, judged on the validation events.

A trial builds a model with the settings that the search proposes, trains it as a run does, draws as many events as
there are validation events and scores them by one metric. Test events are never looked at. The search is optuna's
tree-structured Parzen estimator (Bergstra et al. 2011), seeded; the first trial is the configuration as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.claim import held
from experiments.config import resolve, with_compute
from experiments.experiment import Experiment
from experiments.farm import Farm, Here, WorkerLostError, completed, farm_from
from experiments.run import load_dataset
from experiments.trained import Reporter, built
from experiments.tune.judge import METRIC, Judge
from experiments.tune.layout import BEST, Search, laid_down, space_of
from experiments.tune.pruning import check_rungs
from experiments.tune.storage import Storage, load_optuna
from experiments.tune.trainer import Trainer, run_trial, with_parameters
from experiments.tune.trials import TRIALS, Trial, Trials, best_of
from qgen.data import Dataset
from qgen.device import find_device
from qgen.files import write_atomically
from qgen.metrics import MetricResult
from qgen.text import unknown

__all__ = ["Tuned", "tune"]


@dataclass(frozen=True)
class Tuned:
    """A finished search.

    Args:
        name: of the experiment.
        folder: where it is: ``config.yaml``, ``tuning.json``, ``trials.jsonl`` of each model and ``best.yaml``.
        seconds: processor time of each training; None for its own steps.
        metric: by which trials are judged.
        prune: whether some may have been ended early.
        floor: its score between validation and training events: what a perfect model has.
        trials: of each model.
    """

    name: str
    folder: Path
    seconds: float | None
    metric: str
    prune: bool
    floor: MetricResult
    trials: dict[str, list[Trial]]


def tune(
    experiment: Experiment,
    models: Sequence[str] | None = None,
    *,
    out: Path | str | None = None,
    trials: int = 20,
    seconds: float | None = None,
    metric: str = METRIC,
    seed: int = 0,
    prune: bool = False,
    storage: str | None = None,
    farm: Farm | Executor | Mapping[str, Any] | str = "here",
    resume: bool = False,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> Tuned:
    """Search settings of models of an experiment, each with the same number of trials of the same time.

    What is varied stands under ``tune`` in a model's section; without it, in the space that comes with the lab for its
    kind. A model of a given ``n_parameters`` keeps its size then: only its training is varied. Every trial has a
    training seed of its own, so that no lucky seed is searched for.

    With one worker the search is repeated bit for bit by the same call, and one that was interrupted ends as if it had
    not been. With several, what is proposed depends on which trials have ended by then; each trial is still fixed by
    its number and its parameters.

    Args:
        experiment: data and models.
        models: which; all that train if not given.
        out: the search's folder, ``runs/NAME-tune`` if not given.
        trials: of each model.
        seconds: processor time of each training; its own number of steps if not given.
        metric: by which a trial is judged, one of ``qgen.metrics.METRICS``.
        seed: of proposals and trainings.
        prune: end a trial early that does worse than the median of the others at the same step.
        storage: of the trials, a path or the URL of a database; ``journal.jsonl`` in the folder if not given.
        farm: where trials run, see :func:`experiments.farm.farm_from`.
        resume: go on with the search that is in the folder; processes that do it at the same time share the work.
        device: where models train.
        reporter: is told of progress.

    Raises:
        ImportError: optuna, or the driver of the database, is not installed.
        ValueError: an unknown model or metric, a model of which no events can be drawn, a metric that is not defined
            for the events, trials that cannot be compared early, or other settings than those of the search in the
            folder.
        FileExistsError: the folder holds something, and ``resume`` is false.
        OSError: folder or storage cannot be read or written.
    """
    load_optuna()
    if trials < 1:
        raise ValueError(f"trials is {trials}; at least 1 is needed")
    if seconds is not None:
        experiment = with_compute(experiment, seconds)
    chosen = _chosen(experiment, models)
    for name in chosen:
        space = space_of(experiment, name)
        if prune:
            check_rungs(name, experiment.models[name], space)
    if isinstance(farm, str | Mapping):
        farm = farm_from(farm)
    if isinstance(farm, Farm):
        farm = farm.on(device)
    target = find_device(device if isinstance(farm, Here) else "cpu")
    judge = Judge.of(load_dataset(experiment), metric, seed)
    for name in chosen:
        _check_samples(experiment, name, judge.dataset)
    asked = {"models": chosen, "trials": trials, "seconds": seconds, "metric": metric, "seed": seed, "prune": prune}
    asked["data"] = judge.dataset.checksum
    folder = Path(out) if out is not None else Path("runs") / f"{experiment.name}-tune"
    search, place = laid_down(folder, experiment, asked, storage, resume)
    reporter = reporter or Reporter()
    while left := _left(search, place):
        _do(left, Trainer(search, judge, target, reporter), place, farm, device)
    found = _ended(search, place)
    _write_best(search, found)
    return Tuned(experiment.name, folder, seconds, metric, prune, judge.floor, found)


def _chosen(experiment: Experiment, models: Sequence[str] | None) -> list[str]:
    trained_models = [name for name, model in experiment.models.items() if model.training is not None]
    for name in models or ():
        if name not in experiment.models:
            raise ValueError(unknown("model", name, experiment.models))
        if name not in trained_models:
            raise ValueError(f"model {name!r} is fitted when it is built; there is nothing to tune")
    if not trained_models:
        raise ValueError("no model of this experiment trains; there is nothing to tune")
    return list(dict.fromkeys(models)) if models else trained_models


def _check_samples(experiment: Experiment, name: str, dataset: Dataset) -> None:
    """Refuse a model of which no events can be drawn as it stands; what it is built of may fail in the trials."""
    model = experiment.models[name]
    if model.backend is not None:
        return
    problem = ""
    with suppress(ValueError, RuntimeError, MemoryError):
        problem = built(name, model, dataset, 0).no_samples
    if problem:
        raise ValueError(f"model {name!r} cannot be tuned, trials are judged by events: {problem}")


def _left(search: Search, storage: Storage) -> list[tuple[str, int]]:
    """Model and number of each trial that has not ended: a trial of each model, then the next of each."""
    with storage.open() as opened:
        ended = {model: Trials(opened, search.name, model).finished() for model in search.models}
    return [(model, n) for n in range(search.trials) for model in search.models if n not in ended[model]]


def _do(
    left: Sequence[tuple[str, int]], trainer: Trainer, storage: Storage, farm: Farm | Executor, device: str
) -> None:
    """Do trials on a farm; those that other processes are at are waited for, until they end or their process dies."""
    search, reporter = trainer.search, trainer.reporter
    here = isinstance(farm, Here)
    if here:
        running = completed(farm, trainer.run, ((model, number, storage) for model, number in left))
    else:
        folder = str(search.folder.absolute())
        jobs = ((folder, search.name, model, number, storage, device) for model, number in left)
        running = completed(farm, run_trial, jobs)
    elsewhere = []
    with closing(running) as outcomes:
        for outcome in outcomes:
            model, number = left[outcome.index]
            lost = outcome.error if isinstance(farm, Farm) and isinstance(outcome.error, WorkerLostError) else None
            if lost is not None and _given_up(search, model, number, storage, lost):
                continue
            if outcome.error is not None:
                raise outcome.error
            if outcome.value is None:
                elsewhere.append((model, number))
                continue
            if not here:
                reporter.stage(f"{model}, trial {number + 1} of {search.trials}", search.seed, 0)
            if outcome.value.failed:
                reporter.warning(f"{model}, trial {number + 1}: {outcome.value.status}")
    for model, number in elsewhere:
        with held(search.lock_of(model, number), wait=True):
            pass


def _given_up(search: Search, model: str, number: int, storage: Storage, error: WorkerLostError) -> bool:
    """Put down that a trial failed because its workers died; False if it has not even begun."""
    with held(search.lock_of(model, number), wait=True), storage.open() as opened:
        trials = Trials(opened, search.name, model)
        if number >= len(trials.frozen()):
            return False
        if number not in trials.finished():
            parameters = trials.parameters(number)
            trials.end(Trial(number, parameters, None, None, 0, 0.0, 0.0, 0, f"failed: {error}"))
            with held(search.lock, wait=True):
                trials.write(search.table_of(model))
        search.clean(model, number)
    return True


def _ended(search: Search, storage: Storage) -> dict[str, list[Trial]]:
    """All trials that were asked for, by model; what processes that died have left behind is removed."""
    found = {}
    with storage.open() as opened, held(search.lock, wait=True):
        for model in search.models:
            trials = Trials(opened, search.name, model)
            trials.write(search.table_of(model))
            found[model] = [trials.finished()[number] for number in range(search.trials)]
            for number in range(search.trials):
                if (path := search.lock_of(model, number)).exists():
                    with held(path, wait=False) as mine:
                        if mine:
                            search.clean(model, number)
    return found


def _write_best(search: Search, found: Mapping[str, Sequence[Trial]]) -> None:
    """Lay down the experiment with the best settings of each model; none if all trials of all models failed."""
    models: dict[str, Any] = {}
    for name, trials in found.items():
        if (best := best_of(trials)) is not None:
            tuned = with_parameters(search.experiment, name, best.parameters).plain()
            models |= tuned["models"]
    if not models:
        first = next(iter(found.values()))[0].status
        raise ValueError(f"{search.folder}: every trial failed; {TRIALS} of each model says why, first: {first}")
    tuned |= {"name": f"{search.experiment.name}-tuned", "models": models}
    write_atomically(search.folder / BEST, resolve(tuned).to_yaml().encode())
