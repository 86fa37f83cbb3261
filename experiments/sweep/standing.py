"""How the points of a sweep compare: each metric of each model at each point, over its seeds."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.scores import DISCRETISED_TRUTH, MOST_FIRST, Score, string_score, target
from experiments.sweep.points import SEED

if TYPE_CHECKING:
    from experiments.sweep.reading import Sweep

__all__ = ["Standing", "metrics_of", "ranked", "shown_metrics", "standings"]

MOST_SHOWN = 6
"""Metrics of a sweep that are shown if nothing else is asked for."""


@dataclass(frozen=True)
class Standing:
    """A model at a point, by one metric.

    Args:
        model: its name.
        point: what is varied of it but for the seed, as it stands in the table; not what is varied of others alone.
        score: mean over the seeds, their spread, and the floor.
        values: of each seed.
        n_parameters: of the model.
        train_seconds: mean over the seeds.
        jobs: by seed, the job's name.
    """

    model: str
    point: dict[str, Any]
    score: Score
    values: tuple[float, ...]
    n_parameters: int
    train_seconds: float
    jobs: dict[int, str]

    def distance(self, metric: str) -> float:
        """How far the value is from that of a perfect generator."""
        return abs(self.score.value - target(metric))


def metrics_of(sweep: Sweep) -> list[str]:
    """The metrics that the results have, in their order."""
    return [name for name in sweep.table["metric"].unique().to_pylist() if name is not None]


def shown_metrics(sweep: Sweep, asked: Sequence[str] = ()) -> list[str]:
    """The metrics to show: those that are asked for, else those of whole samples, of many the first by default.

    Raises:
        ValueError: the results have no such metric.
    """
    from qgen.metrics import METRICS
    from qgen.text import unknown

    found = metrics_of(sweep)
    for name in asked:
        if name not in found:
            raise ValueError(f"{sweep.folder}: {unknown('metric', name, found)}")
    if asked:
        return list(dict.fromkeys(asked))
    whole = [name for name in found if "/" not in name and " @ " not in name]
    first = [name for name in whole if string_score(name) or (name in METRICS and METRICS[name].by_default)]
    return ((first or whole) if len(whole) > MOST_FIRST else whole)[:MOST_SHOWN]


def standings(sweep: Sweep, metric: str) -> list[Standing]:
    """Every model at every point that has the metric, in the order of the grid; truth through cells is no model."""
    import pyarrow.compute as pc

    table = sweep.table.filter(pc.equal(sweep.table["metric"], metric))
    table = table.filter(pc.not_equal(table["kind"], DISCRETISED_TRUTH))
    models = table["model"].unique().to_pylist()
    paths = [path for path in sweep.paths if path != SEED]
    own = {model: [path for path in paths if sweep.setup.base.concerns(path, model)] for model in models}
    together: dict[str, dict[int, dict[str, Any]]] = {}
    for row in table.to_pylist():
        key = json.dumps([row["model"], *(row[path] for path in own[row["model"]])])
        # a model of which nothing is varied is the same in every job of a seed: the first one counts
        together.setdefault(key, {}).setdefault(row["seed"], row)
    return [_standing(list(rows.values()), own) for rows in together.values()]


def ranked(found: Sequence[Standing], metric: str) -> list[Standing]:
    """Those with a finite value, the nearest to a perfect generator first."""
    finite = [one for one in found if math.isfinite(one.score.value)]
    return sorted(finite, key=lambda one: one.distance(metric))


def _standing(rows: Sequence[dict[str, Any]], own: Mapping[str, Sequence[str]]) -> Standing:
    model = rows[0]["model"]
    values = [row["value"] for row in rows]
    score = Score(
        value=statistics.fmean(values),
        uncertainty=_mean(rows, "uncertainty"),
        floor=_mean(rows, "floor"),
        floor_uncertainty=_mean(rows, "floor_uncertainty"),
        spread=statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else None,
        seeds=len(values),
    )
    return Standing(
        model=model,
        point={path: rows[0][path] for path in own[model]},
        score=score,
        values=tuple(values),
        n_parameters=rows[0]["n_parameters"],
        train_seconds=_mean(rows, "train_seconds"),
        jobs={row["seed"]: row["job"] for row in rows},
    )


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.fmean(math.nan if row[name] is None else row[name] for row in rows)
