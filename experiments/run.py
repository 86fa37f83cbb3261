"""Running an experiment: a folder with everything needed to resume, re-score, re-draw or publish it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from circuits.metering import metering
from experiments.claim import claimed
from experiments.cost import mean_cost, model_cost
from experiments.experiment import Experiment
from experiments.judging import Judge, over_seeds
from experiments.provenance import changes, ended, provenance
from experiments.rehearsal import rehearse
from experiments.scores import COMPLETED, DISCRETISED_TRUTH
from experiments.strings import STRINGS, StringJudging, string_options
from experiments.tracking import check_trackers, tracking
from experiments.trained import JOBS, Reporter, as_json, backend_for, steps_of, trained
from qgen.data import DATASETS, Dataset, Discretiser
from qgen.data.transforms import Transform
from qgen.device import find_device
from qgen.files import remove_stale_parts
from qgen.generator import DiscreteGenerator, Generator
from qgen.random import derive_seed, new_generator
from qgen.run import CONFIG, ENVIRONMENT, RESULTS, SAMPLES, load_run
from qgen.statefile import write_atomically
from qgen.training.parallel import Ranks

__all__ = [
    "JOBS",
    "Reporter",
    "backend_for",
    "claimed",
    "discretised_truth",
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
    track: Sequence[str] = (),
    ranks: Ranks | None = None,
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
        track: trackers that are told as well, of :data:`experiments.tracking.TRACKERS`.
        ranks: the processes that train together, of which this is the first; the others wait in
            :func:`experiments.ranks.help_with_trainings`.

    Returns:
        The run's folder: ``config.yaml``, ``environment.json``, ``results.json`` and, for each seed and model,
        checkpoint, training records, generator and samples.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is false.
        ValueError: the folder holds another experiment, the device is not there, or an unknown tracker.
        ImportError: a tracker is not installed.
        BlockingIOError: another process is at work in the folder.
    """
    folder = Path(out) if out is not None else Path("runs") / experiment.name
    reporter = reporter or Reporter()
    target = find_device(device)
    check_trackers(track)
    with claimed(folder):
        new = _is_new(folder, experiment, resume)
        remove_stale_parts(folder)
        threads = torch.get_num_threads()
        torch.set_num_threads(experiment.threads)
        try:
            dataset = load_dataset(experiment) if dataset is None else dataset
            if new:
                rehearse(experiment, dataset, target)
            record = provenance(experiment, target, dataset, folder)
            for line in changes(record):
                reporter.warning(f"{folder}: goes on with {line}")
            if new:
                write_atomically(folder / CONFIG, experiment.to_yaml().encode())
            write_atomically(folder / ENVIRONMENT, as_json(record))
            if ranks is not None:
                ranks.send({"experiment": experiment.plain()})
            with tracking(track, experiment, folder, reporter) as tracked:
                scores = [
                    _run_seed(experiment, dataset, seed, folder, target, tracked.reporter, ranks)
                    for seed in experiment.seeds
                ]
                record = ended(record)
                write_atomically(folder / ENVIRONMENT, as_json(record))
                results = {**_results(experiment, scores), "provenance": record}
                write_atomically(folder / RESULTS, as_json(results))
                tracked.finish(results)
        finally:
            torch.set_num_threads(threads)
        _judge_elsewhere(experiment, folder, device, reporter)
    return folder


def load_dataset(experiment: Experiment) -> Dataset:
    """The events of an experiment."""
    dataset: Dataset = DATASETS[experiment.dataset.kind](**experiment.dataset.options)
    return dataset


def _run_seed(
    experiment: Experiment,
    dataset: Dataset,
    seed: int,
    folder: Path,
    device: torch.device,
    reporter: Reporter,
    ranks: Ranks | None,
) -> dict[str, Any]:
    """Scores of every model for one seed, by model."""
    generators, records = {}, {}
    for name, config in experiment.models.items():
        place = folder / f"seed-{seed}" / name
        place.mkdir(parents=True, exist_ok=True)
        reporter.stage(name, seed, steps_of(config))
        generators[name], records[name] = trained(
            name, config, dataset, seed, place, device, reporter, experiment.checkpoint_every, ranks=ranks
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
