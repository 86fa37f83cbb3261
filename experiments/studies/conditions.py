"""``qgen study conditions``: the models of a run asked at, between and beyond the conditions they were trained with.

At each energy new true events are had, and every trained model is asked for as many under the same energy. A metric
says how far a model is; its *excess* is that distance less its floor, the same metric between two samples of truth. It
is set against the distance :math:`|\\ln(E/E_t)|` to the nearest trained energy :math:`E_t`.
"""

from __future__ import annotations

import json
import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.judging import over_seeds
from experiments.run import discretised_truth
from experiments.scores import COMPLETED, Score
from qgen.data import DATASETS, Dataset, Feature, simulate_muon
from qgen.files import write_atomically
from qgen.generator import ExtrapolationWarning, Generator
from qgen.metrics import METRICS, MINIMUM_EVENTS, evaluate
from qgen.random import derive_seed, new_generator
from qgen.run import RESULTS, Run, load_run

__all__ = ["HEADLINE", "ConditionsStudy", "Point", "Shown", "excess", "growth", "study_conditions"]

HEADLINE = ("wasserstein", "ks", "correlation", "classifier_auc")
MOST_TRAINED = 12
"""Distinct conditions in training up to which each is one by itself; with more, all of their range is trained."""

Where = Literal["trained", "between", "beyond"]


@dataclass(frozen=True)
class Shown:
    """Events at one energy, to be drawn: the true ones, and those of each model's first training."""

    truth: Dataset
    models: dict[str, Dataset]


@dataclass(frozen=True)
class Point:
    """All models at one energy.

    Args:
        energy: in the unit of the condition.
        where: at a trained energy, between two, or beyond the outermost.
        distance: :math:`|\\ln(E/E_t)|` to the nearest trained one.
        n: events in each sample.
        scores: by model and metric.
        seeds: by model and seed, the metrics of each training, and its status.
        shown: the events, if they were asked for.
    """

    energy: float
    where: Where
    distance: float
    n: int
    scores: dict[str, dict[str, Score]]
    seeds: dict[str, dict[str, dict[str, Any]]]
    shown: Shown | None = None


@dataclass(frozen=True)
class ConditionsStudy:
    """Every model of a run at every energy.

    Args:
        name: of the run.
        condition: its name and unit.
        trained: the energies of the training, or the ends of their range if they are many.
        points: by growing energy.
        trains: for each model whether it is trained by gradients; rows that are no model are left out.
    """

    name: str
    condition: Feature
    trained: tuple[float, ...]
    points: tuple[Point, ...]
    trains: dict[str, bool]

    @property
    def models(self) -> list[str]:
        """Names of models, and of true events that went through a model's cells."""
        return list(dict.fromkeys(name for point in self.points for name in point.scores))

    @property
    def metrics(self) -> list[str]:
        """Metrics of whole samples."""
        names = (metric for point in self.points for scores in point.scores.values() for metric in scores)
        return [name for name in dict.fromkeys(names) if "/" not in name]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        points = [
            {
                "energy": point.energy,
                "where": point.where,
                "distance": point.distance,
                "events": point.n,
                "models": {
                    model: {"metrics": {metric: score.model_dump() for metric, score in scores.items()}}
                    | ({"seeds": point.seeds[model]} if model in point.seeds else {})
                    for model, scores in point.scores.items()
                },
            }
            for point in self.points
        ]
        return {
            "name": self.name,
            "condition": self.condition.name,
            "unit": self.condition.unit,
            "trained": list(self.trained),
            "energies": points,
            "growth": {
                model: {metric: growth(self.points, model, metric) for metric in self.metrics} for model in self.models
            },
        }


def study_conditions(
    run: Run | Path | str,
    at: Sequence[float],
    *,
    n: int = 2500,
    truth: Path | str | None = None,
    window: float = 0.02,
    metrics: Sequence[str] = HEADLINE,
    bootstrap: int = 10,
    seed: int = 0,
    show: Sequence[float] = (),
    out: Path | str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> ConditionsStudy:
    """Ask every trained model of a run for events at trained energies and at others, and judge them.

    Args:
        run: with simulated muon events, or any whose true events at these energies are in a file.
        at: energies besides the trained ones, in the unit of the run's condition.
        n: events in a sample, at most; twice as many true ones are needed.
        truth: a file of true events in place of simulated ones, as the run's own dataset can be read from.
        window: with a file, events within this share of an energy count as events at the energy.
        metrics: names of ``METRICS``.
        bootstrap: replicas of each uncertainty.
        seed: of all random numbers.
        show: energies, of those asked, whose events are kept to be drawn.
        out: folder for ``results.json``; not written without one.
        progress: is told of each energy.

    Raises:
        FileNotFoundError: the folder holds no run, or one that is not trained yet.
        ValueError: an impossible energy, a run without exactly one condition, or no true events at an energy.

    >>> study_conditions("runs/no-such-run", [75.0])
    Traceback (most recent call last):
    FileNotFoundError: runs/no-such-run: no run is here (config.yaml is missing)
    """
    run = run if isinstance(run, Run) else load_run(run)
    events = run.dataset
    if events.n_conditions != 1:
        raise ValueError(f"{run.folder}: its events have {events.n_conditions} conditions; exactly one is needed")
    for energy in (*at, *show):
        if not 0 < energy < math.inf:
            raise ValueError(f"at is {energy:g}; a positive, finite {events.condition_features[0].name} is needed")
    if n < MINIMUM_EVENTS:
        raise ValueError(f"n is {n}; at least {MINIMUM_EVENTS} events are needed to judge a model")
    trained, few = _trained(events)
    asked = sorted({*(trained if few else ()), *map(float, at), *map(float, show)})
    source = _source(run, truth, window, seed)
    samples = {energy: source(energy, n) for energy in asked}
    generators = {name: {s: run.generator(name, s) for s in run.seeds} for name in run.models}
    points = []
    for energy in asked:
        where, distance = _place(energy, trained, few)
        progress(f"{energy:g} {events.condition_features[0].unit}, {where}")
        point = _judged(energy, where, distance, samples[energy], generators, metrics, bootstrap, seed, energy in show)
        points.append(point)
    trains = {name: type(of[run.seeds[0]]).trains for name, of in generators.items()}
    name = str(run.config.get("name", run.folder.name))
    study = ConditionsStudy(name, events.condition_features[0], trained, tuple(points), trains)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(out) / RESULTS, (json.dumps(study.plain(), indent=1) + "\n").encode())
    return study


def excess(score: Score, metric: str) -> float:
    """How much further from a perfect generator's value than the floor.

    >>> score = Score(value=0.7, uncertainty=0.01, floor=0.49, floor_uncertainty=0.01)
    >>> round(excess(score, "classifier_auc"), 3)
    0.19
    """
    name, _, feature = metric.partition("/")
    target = METRICS[name].target_of(feature)
    return abs(score.value - target) - abs(score.floor - target)


def growth(points: Iterable[Point], model: str, metric: str) -> dict[str, float | None]:
    """Mean excess of a model at trained energies, between and beyond, and how fast it grows with the distance.

    ``slope_between`` and ``slope_beyond`` are the least-squares slopes, per unit of :math:`|\\ln(E/E_t)|`, of the lines
    that start at distance 0 with the mean excess at trained energies. What there are no points for is None.
    """
    of: dict[Where, list[tuple[float, float]]] = {"trained": [], "between": [], "beyond": []}
    for point in points:
        if metric in point.scores.get(model, {}):
            of[point.where].append((point.distance, excess(point.scores[model][metric], metric)))
    found: dict[str, float | None] = {
        where: statistics.fmean(e for _, e in pairs) if pairs else None for where, pairs in of.items()
    }
    start = found["trained"]
    for where in ("between", "beyond"):
        pairs = of[where]
        found[f"slope_{where}"] = (
            sum(d * (e - start) for d, e in pairs) / sum(d * d for d, _ in pairs)
            if pairs and start is not None
            else None
        )
    return found


def _trained(events: Dataset) -> tuple[tuple[float, ...], bool]:
    """The conditions of the training, and whether they are few; else the ends of their range."""
    distinct = torch.unique(events.train.conditions[:, 0]).tolist()
    if len(distinct) <= MOST_TRAINED:
        return tuple(distinct), True
    return (distinct[0], distinct[-1]), False


def _place(energy: float, trained: Sequence[float], few: bool) -> tuple[Where, float]:
    low, high = trained[0], trained[-1]
    distance = min(abs(math.log(energy / one)) for one in trained)
    if distance < 1e-9 or (not few and low <= energy <= high):
        return "trained", 0.0
    return ("between" if low < energy < high else "beyond"), distance


def _source(
    run: Run, truth: Path | str | None, window: float, seed: int
) -> Callable[[float, int], tuple[Dataset, Dataset]]:
    """A function of an energy and a number that gives two independent samples of true events."""
    options = dict(run.config["dataset"])
    kind = options.pop("kind")
    if truth is None:
        if kind != "muon" or options.get("path") is not None:
            raise ValueError(
                f"{run.folder}: its events are not simulated here; give a file of true events at the energies (--truth)"
            )
        keep = {name: options[name] for name in ("mediator_mass", "target", "mediator")}

        def simulated(energy: float, n: int) -> tuple[Dataset, Dataset]:
            drawn = simulate_muon(2 * n, energy, seed=derive_seed(seed, "truth", f"{energy:g}"), **keep)
            return _halves(run, drawn.select(*options["features"]), n)

        return simulated
    limits = {key: None for key in ("n", "max_events", "energy_window") if key in options}
    stored = DATASETS[kind](**{**options, **limits, "path": str(truth)})

    def read(energy: float, n: int) -> tuple[Dataset, Dataset]:
        beam = stored.conditions[:, 0]
        rows = ((beam / energy).log().abs() <= window).nonzero()[:, 0]
        if len(rows) < 2 * MINIMUM_EVENTS:
            raise ValueError(
                f"{truth}: {len(rows)} events within {100 * window:g} % of {energy:g} "
                f"{stored.condition_features[0].unit}; at least {2 * MINIMUM_EVENTS} are needed (it holds "
                f"{beam.min():g} to {beam.max():g})"
            )
        order = torch.randperm(len(rows), generator=new_generator(derive_seed(seed, "truth", f"{energy:g}")))
        return _halves(run, stored.take(rows[order[: 2 * n]]), min(n, len(rows) // 2))

    return read


def _halves(run: Run, events: Dataset, n: int) -> tuple[Dataset, Dataset]:
    first, second = (events.take(range(i * n, (i + 1) * n)) for i in (0, 1))
    return (
        run.dataset.with_samples(first.samples, first.conditions),
        run.dataset.with_samples(second.samples, second.conditions),
    )


def _judged(
    energy: float,
    where: Where,
    distance: float,
    true: tuple[Dataset, Dataset],
    generators: Mapping[str, Mapping[int, Generator]],
    metrics: Sequence[str],
    bootstrap: int,
    seed: int,
    show: bool,
) -> Point:
    truth, other = true
    drawn: dict[tuple[str, int], Dataset] = {}
    seeds: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in generators}
    for name, of in generators.items():
        for training, generator in of.items():
            status = COMPLETED
            rng = new_generator(derive_seed(seed, name, training, f"{energy:g}"))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExtrapolationWarning)  # what is beyond is the study's subject
                    values = generator.sample(len(other), other.conditions, rng)
                drawn[name, training] = other.with_samples(values, other.conditions)
            except ValueError as error:  # a model that generates nonsense must not cost the others their scores
                status = f"not judged: {error}"
            seeds[name][str(training)] = {"status": status, "metrics": {}}
    first = {name: next(iter(of.values())) for name, of in generators.items()}
    cells = discretised_truth(first, other, seed)
    table = evaluate(
        truth,
        {f"model {name}/{training}": events for (name, training), events in drawn.items()}
        | {f"cells {name}": events for name, events in cells.items()},
        reference=other,
        metrics=metrics,
        n_bootstrap=bootstrap,
        seed=derive_seed(seed, "evaluation"),
    ).to_dict()
    for name, training in drawn:
        seeds[name][str(training)]["metrics"] = table[f"model {name}/{training}"]
    each = {name: [one["metrics"] for one in of.values() if one["metrics"]] for name, of in seeds.items()}
    each |= {name: [table[f"cells {name}"]] for name in cells}
    scores = {
        name: {metric: Score(**numbers, seeds=len(ones)) for metric, numbers in over_seeds(ones).items()}
        for name, ones in each.items()
        if ones
    }
    shown = None
    if show:
        start = {name: next(iter(of)) for name, of in generators.items()}
        shown = Shown(truth, {name: drawn[name, one] for name, one in start.items() if (name, one) in drawn})
    return Point(energy, where, distance, len(truth), scores, seeds, shown)
