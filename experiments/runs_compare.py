"""Runs side by side: what differs in their configurations and how they were made, and every metric of every model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.provenance import dotted
from experiments.scores import ModelScores, Results, Score, read_results
from qgen.run import RESULTS, Run
from qgen.text import unknown

__all__ = ["BEYOND", "Comparison", "MetricLine", "compared"]

BEYOND = 2.0
"""Standard deviations from which a difference is told from the uncertainties."""

MADE = ("python", "device", "cpu", "threads", "data.sha256", "git.commit", "lab_git.commit", "packages.")


@dataclass(frozen=True)
class MetricLine:
    """A metric of one model in every run.

    Args:
        model: its name; of runs with one model each, the names of all.
        metric: its name.
        scores: of each run, None where it is missing.
    """

    model: str
    metric: str
    scores: list[Score | None]

    @property
    def differences(self) -> list[float | None]:
        """Of each run to the first one, over the uncertainty of both: finite samples and the spread between seeds."""
        first = self.scores[0]
        return [None if score is None or first is None else _difference(first, score) for score in self.scores]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        folders: of the runs.
        config: the fields that differ, by path, with the value of each run; None where a run has no such field.
        made: the same of versions, machine and data.
        lines: the metrics.
    """

    folders: list[str]
    config: dict[str, list[Any]]
    made: dict[str, list[Any]]
    lines: list[MetricLine]

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        lines = [
            {
                "model": line.model,
                "metric": line.metric,
                "values": [None if one is None else one.value for one in line.scores],
                "uncertainties": [None if one is None else one.sigma for one in line.scores],
                "differences_in_sigma": line.differences,
            }
            for line in self.lines
        ]
        return {"runs": self.folders, "config": self.config, "made": self.made, "metrics": lines}


def compared(runs: Sequence[Run], metrics: Sequence[str] = ()) -> Comparison:
    """Compare finished runs.

    Args:
        runs: two at least; differences are to the first.
        metrics: names; the headline ones if not given.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: fewer than two runs, a metric that none has, or a damaged run.
    """
    if len(runs) < 2:
        raise ValueError("one run is given; at least two are compared")
    results = [read_results(run.results, str(run.folder / RESULTS)) for run in runs]
    known = list(dict.fromkeys(metric for one in results for metric in _metrics(one)))
    for metric in metrics:
        if metric not in known:
            raise ValueError(unknown("metric", metric, known))
    shown = list(metrics) or list(dict.fromkeys(metric for one in results for metric in one.headline))
    facts = [{path: value for path, value in dotted(run.environment).items() if path.startswith(MADE)} for run in runs]
    return Comparison(
        folders=[str(run.folder) for run in runs],
        config=_differing([dotted(run.config) for run in runs], leave=("name", "description")),
        made=_differing(facts),
        lines=_lines(results, shown),
    )


def _metrics(results: Results) -> list[str]:
    return list(dict.fromkeys(metric for model in results.generators.values() for metric in model.metrics))


def _differing(values: Sequence[Mapping[str, Any]], leave: Sequence[str] = ()) -> dict[str, list[Any]]:
    paths = dict.fromkeys(path for one in values for path in one if path not in leave)
    rows = {path: [one.get(path) for one in values] for path in paths}
    return {path: row for path, row in rows.items() if any(value != row[0] for value in row)}


def _lines(results: Sequence[Results], metrics: Sequence[str]) -> list[MetricLine]:
    together: dict[str, list[ModelScores | None]]
    if all(len(one.generators) == 1 for one in results):
        alone = [next(iter(one.generators.items())) for one in results]
        together = {" | ".join(dict.fromkeys(name for name, _ in alone)): [model for _, model in alone]}
    else:
        names = dict.fromkeys(name for one in results for name in one.generators)
        together = {name: [one.generators.get(name) for one in results] for name in names}
    lines = []
    for name, models in together.items():
        for metric in metrics:
            scores = [None if model is None else model.metrics.get(metric) for model in models]
            if any(score is not None for score in scores):
                lines.append(MetricLine(name, metric, scores))
    return lines


def _difference(first: Score, other: Score) -> float | None:
    sigma = math.hypot(first.sigma, other.sigma)
    shift = other.value - first.value
    return shift / sigma if sigma > 0 and math.isfinite(shift) and math.isfinite(sigma) else None
