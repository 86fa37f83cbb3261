"""Running an experiment: a folder with everything needed to resume, re-score, re-draw or publish it."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from circuits.metering import metering
from experiments.cost import mean_cost, model_cost
from experiments.experiment import Evaluation, Experiment
from experiments.judging import Judge, over_seeds
from experiments.scores import COMPLETED, DISCRETISED_TRUTH
from experiments.strings import STRINGS, StringJudging, check_strings, string_options
from experiments.trained import JOBS, Reporter, as_json, backend_for, built, named, put_on_backend, steps_of, trained
from qgen.data import DATASETS, Dataset, Discretiser
from qgen.data.transforms import Transform
from qgen.device import find_device
from qgen.generator import DiscreteGenerator, Generator
from qgen.metrics import MINIMUM_EVENTS, evaluate, find_metrics
from qgen.metrics.bins import condition_bins
from qgen.metrics.columns import Columns
from qgen.random import derive_seed, new_generator
from qgen.run import CONFIG, ENVIRONMENT, RESULTS, SAMPLES, load_run, truth_for_judging
from qgen.statefile import write_atomically
from qgen.training import OBJECTIVES, TrainingDivergedError, fit
from qgen.training.layerwise import Growth

__all__ = [
    "JOBS",
    "Reporter",
    "backend_for",
    "claimed",
    "discretised_truth",
    "environment",
    "load_dataset",
    "rehearse",
    "run_experiment",
]


def run_experiment(
    experiment: Experiment,
    out: Path | str | None = None,
    *,
    resume: bool = False,
    device: str = "cpu",
    reporter: Reporter | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Train and judge every model of an experiment for every seed.

    Args:
        experiment: what to do.
        out: the run's folder, ``runs/NAME`` if not given.
        resume: go on with the run that is in the folder; finished trainings are not repeated, a broken one goes on
            from its last checkpoint.
        device: where models train, ``cpu`` or ``cuda``.
        reporter: is told of progress.
        dataset: the experiment's events, if they are loaded already.

    Returns:
        The run's folder: ``config.yaml``, ``environment.json``, ``results.json`` and, for each seed and model,
        checkpoint, training records, generator and samples.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is false.
        ValueError: the folder holds another experiment, or the device is not there.
        BlockingIOError: another process is at work in the folder.
    """
    folder = Path(out) if out is not None else Path("runs") / experiment.name
    reporter = reporter or Reporter()
    target = find_device(device)
    with claimed(folder):
        new = _is_new(folder, experiment, resume)
        threads = torch.get_num_threads()
        torch.set_num_threads(experiment.threads)
        try:
            dataset = load_dataset(experiment) if dataset is None else dataset
            if new:
                rehearse(experiment, dataset, target)
                write_atomically(folder / CONFIG, experiment.to_yaml().encode())
            write_atomically(folder / ENVIRONMENT, as_json(environment(target, dataset)))
            scores = [_run_seed(experiment, dataset, seed, folder, target, reporter) for seed in experiment.seeds]
        finally:
            torch.set_num_threads(threads)
        write_atomically(folder / RESULTS, as_json(_results(experiment, scores)))
        _judge_elsewhere(experiment, folder, device, reporter)
    return folder


def load_dataset(experiment: Experiment) -> Dataset:
    """The events of an experiment."""
    dataset: Dataset = DATASETS[experiment.dataset.kind](**experiment.dataset.options)
    return dataset


def environment(device: torch.device, dataset: Dataset | None = None) -> dict[str, Any]:
    """Versions, machine and data of a run, JSON values."""
    packages = (
        "qgen-hep",
        "torch",
        "numba",
        "numpy",
        "scipy",
        "scikit-learn",
        "zuko",
        "pennylane",
        "qiskit",
        "qiskit-aer",
        "qiskit-ibm-runtime",
        "mthree",
        "h5py",
    )
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "packages": {name: _version(name) for name in packages},
        "data": None if dataset is None else {"events": len(dataset), "sha256": dataset.checksum, **dataset.provenance},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _run_seed(
    experiment: Experiment, dataset: Dataset, seed: int, folder: Path, device: torch.device, reporter: Reporter
) -> dict[str, Any]:
    """Scores of every model for one seed, by model."""
    generators, records = {}, {}
    for name, config in experiment.models.items():
        place = folder / f"seed-{seed}" / name
        place.mkdir(parents=True, exist_ok=True)
        reporter.stage(name, seed, steps_of(config))
        generators[name], records[name] = trained(
            name, config, dataset, seed, place, device, reporter, experiment.checkpoint_every
        )
    return _judged(experiment, dataset, seed, folder, generators, records, reporter)


def _judged(
    experiment: Experiment,
    dataset: Dataset,
    seed: int,
    folder: Path,
    generators: Mapping[str, Generator],
    trainings: Mapping[str, dict[str, Any]],
    reporter: Reporter,
) -> dict[str, Any]:
    judge = Judge.of(dataset, experiment.evaluation)
    samples: dict[str, Dataset] = {}
    facts: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    for name, generator in generators.items():
        with metering() as drawing:
            drawn = judge.draw(name, generator, seed, folder / f"seed-{seed}" / name / SAMPLES)
        if drawn.events is not None:
            samples[name] = drawn.events
        else:
            problems[name] = drawn.problem
        facts[name] = {
            "kind": experiment.models[name].generator.kind,
            "n_parameters": generator.n_parameters,
            "train_seconds": trainings[name]["seconds"],
            "sample_seconds": drawn.seconds,
            "status": trainings[name]["status"],
            "sampled": drawn.events is not None,
            "cost": model_cost(generator, trainings[name], len(judge.other), drawn.seconds, drawing),
        }
    own = dict(samples)
    for label, discretised in discretised_truth(generators, judge.other, seed).items():
        samples[label] = discretised
        facts[label] = {
            "kind": DISCRETISED_TRUTH,
            "n_parameters": 0,
            "train_seconds": 0.0,
            "sample_seconds": 0.0,
            "status": COMPLETED,
        }
    reporter.stage("judging", seed, 0)
    table = judge.scores(samples, seed, reporter.warning) if samples else {}
    by_strings: dict[str, dict[str, dict[str, float]]] = {}
    if (options := string_options(experiment.evaluation, generators, dataset)) is not None:
        judging = StringJudging.of(judge, generators, options, seed, reporter.warning)
        by_strings, kept = judging.scores(own, generators, reporter.warning)
        write_atomically(folder / f"seed-{seed}" / STRINGS, as_json(kept))
    for name, problem in problems.items():
        status = facts[name]["status"]
        if generators[name].no_samples:
            how = "no samples, judged by expectation values alone" if name in by_strings else "not judged, no samples"
            problem = f"{how}: {generators[name].no_samples}"
        if status == COMPLETED and name not in by_strings:
            status = ""
        facts[name]["status"] = f"{status}; {problem}".removeprefix("; ")
        reporter.warning(f"{name}, seed {seed}: {problem}")
    return {name: {**facts[name], "metrics": table.get(name, {}) | by_strings.get(name, {})} for name in facts}


def _judge_elsewhere(experiment: Experiment, folder: Path, device: str, reporter: Reporter) -> None:
    """Score the trained models on the evaluation's backends as well; one that fails costs only its own scores."""
    from experiments.rescore import rescore  # which builds on this module

    if not experiment.evaluation.backends:
        return
    backends = experiment.evaluation.backends
    found = rescore(folder, backends, experiment.models_on_backends, device=device, reporter=reporter)
    for label, reason in found.failures.items():
        reporter.warning(f"{label}: {reason}; `qgen run {folder} --resume` tries again")


def discretised_truth(generators: Mapping[str, Generator], events: Dataset, seed: int) -> dict[str, Dataset]:
    """Independent true events to the cells of each discrete generator and back: the best that a model on them can do.

    Generators whose cells are the same in physical units share one sample, however they number or encode them.
    """
    found: dict[str, tuple[list[str], Dataset]] = {}
    for name, generator in generators.items():
        if isinstance(generator, DiscreteGenerator):
            transform = Transform.from_spec(generator.transform.spec())
            edges = [feature.tolist() for feature in generator.discretiser.edges]
            key = json.dumps([generator.transform.spec(), edges])
            if key not in found:
                rng = new_generator(derive_seed(seed, name, "discretised"))
                values = transform(events.samples, events.conditions)
                values = Discretiser(edges, code="unary").roundtrip(values, rng)
                found[key] = ([], events.with_samples(transform.inverse(values, events.conditions)))
            found[key][0].append(name)
    if len(found) == 1:
        ((_, events),) = found.values()
        return {DISCRETISED_TRUTH: events}
    return {f"{DISCRETISED_TRUTH} ({', '.join(names)})": events for names, events in found.values()}


def _results(experiment: Experiment, scores: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with the spread between them, and every seed's own numbers."""
    models = {}
    for name in scores[0]:
        each = [score[name] for score in scores]
        models[name] = {
            "kind": each[0]["kind"],
            "n_parameters": each[0]["n_parameters"],
            "train_seconds": statistics.fmean(one["train_seconds"] for one in each),
            "sample_seconds": statistics.fmean(one["sample_seconds"] for one in each),
            "cost": mean_cost([one.get("cost", {}) for one in each]),
            "status": _status({seed: one["status"] for seed, one in zip(experiment.seeds, each, strict=True)}),
            "metrics": over_seeds([one["metrics"] for one in each if one["metrics"]]),
            "seeds": {str(seed): one for seed, one in zip(experiment.seeds, each, strict=True)},
        }
    return {"name": experiment.name, "seeds": experiment.seeds, "models": models}


def _status(of_seeds: Mapping[int, str]) -> str:
    """The status of a model over its seeds: what went wrong, and in which of them if not in all.

    >>> _status({0: "completed", 1: "completed; collapsed", 2: "completed; collapsed"})
    'completed; seed 1, 2: collapsed'
    """
    troubles: dict[str, list[str]] = {}
    for seed, status in of_seeds.items():
        troubles.setdefault(status.removeprefix(COMPLETED).removeprefix("; "), []).append(str(seed))
    parts = [COMPLETED] if any(status.startswith(COMPLETED) for status in of_seeds.values()) else []
    for trouble, seeds in troubles.items():
        if trouble:
            parts.append(trouble if len(seeds) == len(of_seeds) else f"seed {', '.join(seeds)}: {trouble}")
    return "; ".join(parts)


def _is_new(folder: Path, experiment: Experiment, resume: bool) -> bool:
    """Whether the folder is free for a new run; if not, it holds this experiment and is to be resumed."""
    config = folder / CONFIG
    if not config.exists():
        others = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        if others:
            raise FileExistsError(f"{folder}: holds {others[0]!r} but no {CONFIG}; choose another folder with --out")
        return True
    if not resume:
        raise FileExistsError(f"{folder}: holds a run; go on with it by --resume, or choose another folder with --out")
    if load_run(folder).config != experiment.plain():
        raise ValueError(
            f"{config}: is of another experiment; `qgen run {folder} --resume` goes on with it, "
            "or choose another folder with --out"
        )
    return False


def rehearse(experiment: Experiment, dataset: Dataset, device: torch.device) -> None:
    """Build every model and take one training step with it, so that what cannot work is said before hours are spent.

    A backend elsewhere is asked whether it is there, and the step is taken on the model's exact one: a job may queue
    and cost.

    Raises:
        ValueError: the model is named, or there are too few events to judge by.
    """
    truth = truth_for_judging(dataset, experiment.evaluation.max_events)
    if len(truth) < MINIMUM_EVENTS:
        raise ValueError(f"dataset: {len(truth)} test events; at least {MINIMUM_EVENTS} are needed to judge a model")
    _rehearse_judging(truth, dataset, experiment.evaluation)
    if experiment.evaluation.strings:
        check_strings(experiment, dataset)
    for name, config in experiment.models.items():
        seed = experiment.seeds[0]
        generator = built(name, config, dataset, seed).to(device)
        if put_on_backend(generator, name, config, seed, device):
            generator = built(name, config, dataset, seed).to(device)
        if config.objective is None or config.training is None:
            continue
        objective = OBJECTIVES[config.objective.kind](**config.objective.options)
        # a training that diverges at once is no mistake of the configuration: the run reports it as any other
        with suppress(TrainingDivergedError), named(name):
            if config.training["layerwise"] is not None:
                Growth(generator, config.training["layerwise"], config.training["steps"])
            fit(generator, dataset, objective, **{**config.training, "steps": 1, "seconds": None, "layerwise": None})
        if name in experiment.models_on_backends:
            _rehearse_elsewhere(experiment, generator, name, dataset.train, device)


def _rehearse_judging(truth: Dataset, dataset: Dataset, evaluation: Evaluation) -> None:
    """Look at bins and metrics, and judge true events by the metrics that have options.

    Raises:
        ValueError: a bin has too few events, a named metric is not defined for them, or an option is impossible.
    """
    for part in condition_bins(truth, evaluation.bins):
        held = int(part.holds(truth).sum())
        if held < MINIMUM_EVENTS:
            raise ValueError(
                f"evaluation.bins: {part.label} holds {held} test events; at least {MINIMUM_EVENTS} are needed"
            )
    for metric in find_metrics(evaluation.metrics):
        problem = metric.problem(Columns(truth, metric.view))
        if problem and metric.name in (evaluation.metrics or ()):
            raise ValueError(f"evaluation.metrics: {problem}")
        if problem or metric.slow or not evaluation.options.get(metric.name):
            continue
        try:
            evaluate(
                truth,
                truth,
                reference=truth,
                training=dataset.train,
                metrics=[metric.name],
                options={metric.name: evaluation.options[metric.name]},
                n_bootstrap=2,
            )
        except ValueError as error:
            raise ValueError(f"evaluation.options.{metric.name}: {error}") from None


def _rehearse_elsewhere(
    experiment: Experiment, generator: Any, name: str, events: Dataset, device: torch.device
) -> None:
    """Draw two events on each backend of the evaluation; one elsewhere is only asked whether it is there."""
    for label, config in experiment.evaluation.backends.items():
        try:
            backend = backend_for(config, name, experiment.seeds[0], device)
            if not backend.capabilities.remote:
                generator.backend = backend
                generator.sample(2, events.conditions[:2], new_generator(0))
        except ValueError as error:
            raise ValueError(f"evaluation.backends.{label}: {name}: {error}") from error


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the hold ends with the process, however that ends.

    Raises:
        ValueError: there is a file instead.
        BlockingIOError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{folder}: a file is in the way; the name of a folder is needed") from error
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise BlockingIOError(f"{folder}: in use by process {lock.read().strip() or '(unknown)'}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
