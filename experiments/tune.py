"""``tune``: a search for a model's settings, with the same budget for every model, judged on the validation events.

A trial builds a model with the settings that the search proposes, trains it as a run does, draws as many events as
there are validation events and scores them by one metric. Test events are never looked at. The search is optuna's
tree-structured Parzen estimator (Bergstra et al. 2011), seeded; the first trial is the configuration as it stands.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from experiments.config import resolve, with_compute
from experiments.experiment import Experiment
from experiments.run import claimed, load_dataset
from experiments.scores import COMPLETED
from experiments.space import Range, Space, at, default_space, place, read_space
from experiments.trained import Reporter, as_json, built, steps_of, trained
from qgen.data import Dataset
from qgen.device import find_device
from qgen.files import write_atomically
from qgen.metrics import METRICS, MINIMUM_EVENTS, Metric, MetricResult
from qgen.random import derive_seed, new_generator
from qgen.run import CONFIG, read_json
from qgen.text import unknown

if TYPE_CHECKING:
    import optuna

__all__ = ["BEST", "METRIC", "Trial", "Tuned", "best_of", "tune"]

BEST, SETTINGS, TRIALS = "best.yaml", "tuning.json", "trials.jsonl"

METRIC = "sliced_wasserstein"
"""What trials are judged by: it sees correlations, goes on growing for models that are far off, unlike a classifier,
and has no ties at its floor, unlike an unbiased estimate that is cut off at zero."""

RANDOM_TRIALS = 8
"""Trials of a model before the estimator proposes."""

MOST_EVENTS = 1000
"""Most validation events that trials are judged by."""


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Args:
        number: of the trial, from 0.
        parameters: what was varied, by its place in the model's section; none for a configuration as it stands that has
            settings outside of the space.
        score: distance of the metric from its value for a perfect generator; None if there is none.
        uncertainty: of it.
        steps: of the training.
        seconds: wall time of the whole trial.
        cpu_seconds: processor time of the training.
        n_parameters: of the model.
        status: ``completed``, or what went wrong.
    """

    number: int
    parameters: dict[str, Any]
    score: float | None
    uncertainty: float | None
    steps: int
    seconds: float
    cpu_seconds: float
    n_parameters: int
    status: str


@dataclass(frozen=True)
class Tuned:
    """A finished search.

    Args:
        name: of the experiment.
        folder: where it is: ``config.yaml``, ``tuning.json``, ``trials.jsonl`` of each model and ``best.yaml``.
        seconds: processor time of each training; None for its own steps.
        metric: by which trials are judged.
        floor: its score between validation and training events: what a perfect model has.
        trials: of each model.
    """

    name: str
    folder: Path
    seconds: float | None
    metric: str
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
    resume: bool = False,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> Tuned:
    """Search settings of models of an experiment, each with the same number of trials of the same time.

    What is varied stands under ``tune`` in a model's section; without it, in the space that comes with the lab for its
    kind. A model of a given ``n_parameters`` keeps its size then: only its training is varied. Every trial has a
    training seed of its own, so that no lucky seed is searched for.

    Args:
        experiment: data and models.
        models: which; all that train if not given.
        out: the search's folder, ``runs/NAME-tune`` if not given.
        trials: of each model.
        seconds: processor time of each training; its own number of steps if not given.
        metric: by which a trial is judged, one of ``qgen.metrics.METRICS``.
        seed: of proposals and trainings.
        resume: go on with the search that is in the folder; it ends as if it had not been interrupted.
        device: where models train.
        reporter: is told of progress.

    Raises:
        ImportError: optuna is not installed.
        ValueError: an unknown model or metric, a model of which no events can be drawn, a metric that is not defined
            for the events, or other settings than those of the search in the folder.
        FileExistsError: the folder holds something, and ``resume`` is false.
        BlockingIOError: another process is at work in the folder.
    """
    _optuna()
    if trials < 1:
        raise ValueError(f"trials is {trials}; at least 1 is needed")
    if seconds is not None:
        experiment = with_compute(experiment, seconds)
    spaces = {name: _space(experiment, name) for name in _chosen(experiment, models)}
    folder = Path(out) if out is not None else Path("runs") / f"{experiment.name}-tune"
    reporter = reporter or Reporter()
    target = find_device(device)
    threads = torch.get_num_threads()
    with claimed(folder):
        judge = _Judge.of(load_dataset(experiment), metric, seed)
        for name in spaces:
            _check_samples(experiment, name, judge.dataset)
        settings = {"models": list(spaces), "trials": trials, "seconds": seconds, "metric": metric, "seed": seed}
        _open(folder, experiment, settings, resume)
        torch.set_num_threads(experiment.threads)
        try:
            found = {
                name: _search(experiment, name, space, trials, folder, judge, seed, target, reporter)
                for name, space in spaces.items()
            }
        finally:
            torch.set_num_threads(threads)
        _write_best(experiment, found, folder)
    return Tuned(experiment.name, folder, seconds, metric, judge.floor, found)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial of the lowest score; None if all failed."""
    return min((t for t in trials if t.score is not None), key=lambda t: t.score or 0.0, default=None)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tuning needs optuna; install it with: pip install 'qgen-hep[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


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


def _space(experiment: Experiment, name: str) -> Space:
    """What is varied of a model, checked."""
    model = experiment.models[name]
    if model.tune is None:
        objective = model.objective.kind if model.objective is not None else ""
        space = default_space(model.generator.kind, objective)
        if model.generator.options.get("n_parameters") is not None:
            space = {path: values for path, values in space.items() if "." in path}
        return space
    return read_space(model.tune, f"models.{name}.tune")


@dataclass(frozen=True)
class _Judge:
    """How trials are judged."""

    metric: Metric
    dataset: Dataset
    truth: Dataset
    other: Dataset
    seed: int
    floor: MetricResult

    @classmethod
    def of(cls, dataset: Dataset, name: str, seed: int) -> _Judge:
        """The judge, who has scored training events already; what the metric lacks is said before anything trains."""
        if name not in METRICS:
            raise ValueError(unknown("metric", name, METRICS))
        metric, truth = METRICS[name], dataset.validation
        if "training" in metric.asks:
            raise ValueError(f"metric {name!r} compares with the training events; choose one that does not")
        truth = truth.take(range(min(len(truth), len(dataset.train), MOST_EVENTS)))
        if len(truth) < MINIMUM_EVENTS:
            raise ValueError(f"dataset: {len(truth)} validation events; at least {MINIMUM_EVENTS} are needed to judge")
        other = dataset.train.take(range(len(truth)))
        return cls(metric, dataset, truth, other, seed, _score(metric, truth, other, seed))

    def score(self, generator: Any, seed: int) -> MetricResult:
        """Of as many events as there are true ones, under conditions of training events."""
        samples = generator.sample(len(self.other), self.other.conditions, new_generator(derive_seed(seed, "samples")))
        return _score(self.metric, self.truth, self.truth.with_samples(samples, self.other.conditions), self.seed)


def _score(metric: Metric, truth: Dataset, generated: Dataset, seed: int) -> MetricResult:
    found = metric(truth, generated, seed=derive_seed(seed, "validation"))
    return MetricResult(abs(found.value - metric.target), found.uncertainty)


def _open(folder: Path, experiment: Experiment, settings: dict[str, Any], resume: bool) -> None:
    """Lay the search down, or see that the folder holds this very one."""
    path = folder / SETTINGS
    if not path.exists():
        if others := sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")):
            raise FileExistsError(f"{folder}: holds {others[0]!r} but no {SETTINGS}; choose another folder with --out")
        write_atomically(folder / CONFIG, experiment.to_yaml().encode())
        write_atomically(path, as_json(settings))
        return
    if not resume:
        raise FileExistsError(f"{folder}: holds a search; go on with it by --resume, or choose another with --out")
    if (folder / CONFIG).read_text() != experiment.to_yaml():
        raise ValueError(f"{folder / CONFIG}: is of another experiment; choose another folder with --out")
    before = read_json(path)
    for key, value in settings.items():
        if key != "trials" and before.get(key) != value:
            raise ValueError(f"{path}: the search has {key} {before.get(key)!r}, now it is {value!r}")
    write_atomically(path, as_json(settings))


def _search(
    experiment: Experiment,
    name: str,
    space: Space,
    n_trials: int,
    folder: Path,
    judge: _Judge,
    seed: int,
    device: torch.device,
    reporter: Reporter,
) -> list[Trial]:
    """All trials of a model; those that its file holds are not done again."""
    optuna = _optuna()
    (folder / name).mkdir(exist_ok=True)
    path = folder / name / TRIALS
    done = _read_trials(path)
    study = optuna.create_study()
    for trial in done:
        _tell(optuna, study, trial, space)
    own = {place_: at(experiment.models[name].plain(), place_) for place_ in space}
    if len(done) < n_trials:
        _warm_up(experiment, name, folder, judge, device)
    for number in range(len(done), n_trials):
        reporter.stage(f"{name}, trial {number + 1} of {n_trials}", seed, steps_of(experiment.models[name]))
        if number == 0:
            parameters = own if all(own[place_] in values for place_, values in space.items()) else {}
        else:
            proposed = derive_seed(seed, name, "proposal", number) % 2**32
            study.sampler = optuna.samplers.TPESampler(seed=proposed, n_startup_trials=RANDOM_TRIALS)
            parameters = _proposal(study.ask(), space)
        trial = _tried(experiment, name, parameters, number, folder, judge, seed, device, reporter)
        _tell(optuna, study, trial, space)
        done.append(trial)
        with path.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
    return done[:n_trials]


def _proposal(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for path, values in space.items():
        if not isinstance(values, Range):
            parameters[path] = values[trial.suggest_categorical(path, range(len(values)))]
        elif values.whole:
            parameters[path] = trial.suggest_int(path, int(values.low), int(values.high), log=values.log)
        else:
            parameters[path] = trial.suggest_float(path, values.low, values.high, log=values.log)
    return parameters


def _tell(optuna: Any, study: optuna.Study, trial: Trial, space: Space) -> None:
    """Let the search know of a trial; a configuration that is not in the space is none of its business."""
    if trial.parameters:
        study.add_trial(_frozen(optuna, trial, space))


def _frozen(optuna: Any, trial: Trial, space: Space) -> Any:
    """A trial as optuna knows it: values to choose from by their places."""
    distributions: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for path, values in space.items():
        parameters[path] = trial.parameters[path]
        if not isinstance(values, Range):
            distributions[path] = optuna.distributions.CategoricalDistribution(range(len(values)))
            parameters[path] = values.index(trial.parameters[path])
        elif values.whole:
            distributions[path] = optuna.distributions.IntDistribution(int(values.low), int(values.high), values.log)
        else:
            distributions[path] = optuna.distributions.FloatDistribution(values.low, values.high, values.log)
    state = optuna.trial.TrialState.FAIL if trial.score is None else optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(state=state, value=trial.score, params=parameters, distributions=distributions)


def _tried(
    experiment: Experiment,
    name: str,
    parameters: Mapping[str, Any],
    number: int,
    folder: Path,
    judge: _Judge,
    seed: int,
    device: torch.device,
    reporter: Reporter,
) -> Trial:
    started = time.perf_counter()
    told = Reporter(record=reporter.record)  # remarks on a training stand in its status
    training: dict[str, Any] = {"steps": 0, "cpu_seconds": 0.0, "status": COMPLETED}
    score, uncertainty, size = None, None, 0
    try:
        config = _with(experiment, name, parameters).models[name]
        of_trial = derive_seed(seed, name, "trial", number)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".trial-") as place_:
            generator, training = trained(
                name, config, judge.dataset, of_trial, Path(place_), device, told, experiment.checkpoint_every
            )
        size = generator.n_parameters
        found = judge.score(generator, of_trial)
        if not math.isfinite(found.value):
            raise ValueError(f"the score is {found.value}")
        score, uncertainty, status = found.value, found.uncertainty, training["status"]
    except (ValueError, RuntimeError, MemoryError) as error:  # settings that cannot work are a result of the search
        status = f"failed: {' '.join(str(error).split()) or type(error).__name__}"
        reporter.warning(f"{name}, trial {number + 1}: {status}")
    seconds = time.perf_counter() - started
    return Trial(
        number=number,
        parameters=dict(parameters),
        score=score,
        uncertainty=uncertainty,
        steps=training["steps"],
        seconds=seconds,
        cpu_seconds=training["cpu_seconds"],
        n_parameters=size,
        status=status,
    )


def _warm_up(experiment: Experiment, name: str, folder: Path, judge: _Judge, device: torch.device) -> None:
    """Take one step, so that no trial's time goes into compiling; what fails here fails in the first trial again."""
    model = experiment.models[name]
    once = model.model_copy(update={"training": {**(model.training or {}), "steps": 1, "seconds": None}})
    with suppress(ValueError, RuntimeError, MemoryError), tempfile.TemporaryDirectory(dir=folder, prefix=".") as place_:
        trained(name, once, judge.dataset, 0, Path(place_), device, Reporter())


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


def _with(experiment: Experiment, name: str, parameters: Mapping[str, Any]) -> Experiment:
    """The experiment with one model alone, with these parameters."""
    raw = experiment.plain()
    section = {key: value for key, value in raw["models"][name].items() if key != "tune"}
    raw["models"] = {name: place(section, parameters)}
    raw["evaluation"] = {key: raw["evaluation"][key] for key in ("metrics", "bootstrap", "max_events")}
    return resolve(raw)


def _read_trials(path: Path) -> list[Trial]:
    """The trials of a file; a last line that is not whole is of an interruption, and is cut off."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    try:
        trials = [Trial(**json.loads(line)) for line in lines[:-1]]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it to search anew") from error
    if lines[-1]:
        write_atomically(path, "".join(line + "\n" for line in lines[:-1]).encode())
    return trials


def _write_best(experiment: Experiment, found: Mapping[str, Sequence[Trial]], folder: Path) -> None:
    """Lay down the experiment with the best settings of each model; none if all trials of all models failed."""
    models: dict[str, Any] = {}
    for name, trials in found.items():
        if (best := best_of(trials)) is not None:
            tuned = _with(experiment, name, best.parameters).plain()
            models |= tuned["models"]
    if not models:
        first = next(iter(found.values()))[0].status
        raise ValueError(f"{folder}: every trial failed; {TRIALS} of each model says why, first: {first}")
    tuned |= {"name": f"{experiment.name}-tuned", "models": models}
    write_atomically(folder / BEST, resolve(tuned).to_yaml().encode())
