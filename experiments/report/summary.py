"""The tables of the report: the models' scores beside their floors, and the facts of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.scores import Measured, ModelScores, Results, Score, measured, p_text, string_score, target

__all__ = ["PULL_STEPS", "Cell", "MetricNote", "Row", "cell", "flat", "headline_rows", "metric_notes", "verdict"]

PULL_STEPS = (1.0, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Where the colour of a cell changes."""

COMPATIBLE = 2.0


@dataclass(frozen=True)
class Cell:
    """A number of the table.

    Args:
        number: value and uncertainty; None if the model lacks the metric.
        pull: as text, with the p-value of a test; empty for a floor.
        step: colour, 0 (compatible with the floor) to ``len(PULL_STEPS)``; None for none.
        spread: between seeds, as text, empty for one seed.
        best: whether no other model is nearer to the target.
    """

    number: Measured | None
    pull: str = ""
    step: int | None = None
    spread: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: the floor (``role`` floor), truth sent through cells (cells), or a model (model)."""

    name: str
    role: str
    cells: dict[str, Cell]
    scores: ModelScores | None = None


@dataclass(frozen=True)
class MetricNote:
    """What a metric is."""

    name: str
    description: str
    unit: str
    target: str
    reference: str


def headline_rows(results: Results, metrics: list[str]) -> list[Row]:
    """Floors first, then truth through cells, then the models."""
    floors = results.floors
    rows = []
    for floor in floors:
        name = "truth vs truth" + (f" (for {', '.join(floor.of)})" if len(floors) > 1 else "")
        cells = {m: Cell(measured(*floor.metrics[m])) if m in floor.metrics else Cell(None) for m in metrics}
        rows.append(Row(name, "floor", cells))
    best = {metric: results.best(metric) for metric in metrics}
    for role, models in (("cells", results.cells), ("model", results.generators)):
        for name, scores in models.items():
            cells = {
                metric: cell(scores.metrics.get(metric), target(metric), best=role == "model" and best[metric] == name)
                for metric in metrics
            }
            rows.append(Row(name, role, cells, scores))
    return rows


def cell(score: Score | None, goal: float, *, best: bool = False) -> Cell:
    """The cell of a score whose perfect value is ``goal``."""
    if score is None:
        return Cell(None)
    excess = score.excess(goal)
    step = None if excess is None else sum(excess >= edge for edge in PULL_STEPS)
    pull = "" if score.pull is None else pull_text(score.pull)
    if score.p_value is not None:
        pull += f"{', ' if pull else ''}p {p_text(score.p_value)}"
    spread = "" if score.spread is None else f"{score.spread:.2g}"
    return Cell(measured(score.value, score.sigma), pull, step, spread, best)


def pull_text(pull: float) -> str:
    """A pull with its sign, to a tenth, from 100 on to the unit.

    >>> pull_text(3.14159), pull_text(-0.04), pull_text(1234.5)
    ('+3.1', '-0.0', '+1234')
    """
    return f"{pull:+.1f}" if abs(pull) < 100 else f"{pull:+.0f}"


def verdict(results: Results) -> list[tuple[str, int, int]]:
    """For each model, in how many of its headline metrics it is compatible with truth (pull below 2), best first."""
    found = []
    for name, scores in results.generators.items():
        excess = [scores.metrics[m].excess(target(m)) for m in results.headline if m in scores.metrics]
        known = [one for one in excess if one is not None]
        found.append((name, sum(one < COMPATIBLE for one in known), len(known)))
    return sorted(found, key=lambda entry: -entry[1])


def metric_notes(metrics: list[str]) -> list[MetricNote]:
    """What the metrics are, as far as they are installed here."""
    from qgen.metrics import METRICS

    known = [
        MetricNote(
            name, METRICS[name].description, METRICS[name].unit, f"{METRICS[name].target:g}", METRICS[name].reference
        )
        for name in metrics
        if name in METRICS
    ]
    return known + [MetricNote(name, string_score(name), "", "0", "") for name in metrics if string_score(name)]


def flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested facts as rows of a table.

    >>> flat({"python": "3.11", "packages": {"torch": "2.13"}, "files": ["a", "b"]})
    [('python', '3.11'), ('packages torch', '2.13'), ('files', 'a, b')]
    """
    rows = []
    for key, value in values.items():
        name = f"{before} {key}".strip()
        if isinstance(value, Mapping):
            rows += flat(value, name)
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value))))
        else:
            rows.append((name, "–" if value is None else str(value)))
    return rows
