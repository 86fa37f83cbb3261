"""``write_evaluation``: the page about files of events that were judged against a file of truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.evaluation import Judged
from experiments.report.calorimeter import calorimeter
from experiments.report.correlations import correlations
from experiments.report.distributions import distributions
from experiments.report.events import Events
from experiments.report.page import environment
from experiments.report.style import looks, styled
from experiments.report.summary import PULL_STEPS, cell, metric_notes
from experiments.scores import Score, measured, score_of
from qgen.data import Dataset
from qgen.files import check_place
from qgen.metrics import METRICS, MetricRow
from qgen.metrics.columns import rows_of
from qgen.random import derive_seed, new_generator
from qgen.statefile import write_atomically

__all__ = ["write_evaluation"]

DRAWN = 20_000
"""Most events of each sample in the pictures."""


@dataclass(frozen=True)
class Entry:
    """A number of the table, its colour (see :class:`~experiments.report.summary.Cell`) and what stands below it."""

    number: str
    step: int | None
    notes: list[str]


@dataclass(frozen=True)
class Line:
    """A metric, or a metric of a feature: a number for each generator, and the floor if it is that of all."""

    name: str
    unit: str
    floor: str
    cells: dict[str, Entry]


def write_evaluation(judged: Judged, path: Path) -> Path:
    """Write one self-contained HTML page: the table, distributions, images and correlations.

    Args:
        judged: from :func:`experiments.evaluation.judge_files`.
        path: the file to write; one that exists is replaced when the new one is complete.

    Returns:
        ``path``.

    Raises:
        ValueError: the folder of ``path`` does not exist.
    """
    path = Path(path)
    check_place(path)
    shown = {name: [_drawn(events)] for name, events in judged.generated.items()}
    events = Events(_drawn(judged.truth), shown, looks(dict.fromkeys(shown, True)))
    table = [row for row in judged.table if not row.bin]
    observables = events.observables()
    samples = [judged.truth, *judged.generated.values()]
    with styled():
        page = (
            environment()
            .get_template("evaluation.html.j2")
            .render(
                title=f"{', '.join(judged.generated)} against {Path(judged.files['truth']).name}",
                names=list(judged.generated),
                section=events,
                n_truth=len(judged.truth),
                n_generated={name: len(one) for name, one in judged.generated.items()},
                outside=judged.outside,
                rows=_lines(row for row in table if not row.feature),
                per_feature=_lines(row for row in table if row.feature),
                bins={
                    label: _lines(row for row in judged.table if row.bin == label and not row.feature)
                    for label in dict.fromkeys(row.bin for row in judged.table if row.bin)
                },
                notes=metric_notes(list(dict.fromkeys(row.metric for row in table))),
                left_out=[*judged.left_out.values(), *map(str, judged.table.refused)],
                steps=PULL_STEPS,
                distributions=distributions(observables, events.looks),
                images=calorimeter(events),
                correlations=correlations(events.features()) or correlations(observables),
                drawn=DRAWN if max(map(len, samples)) > DRAWN else 0,
                weighted=any(one.weights is not None for one in samples),
                files=[(what.removeprefix("generated "), str(file)) for what, file in judged.files.items()],
            )
        )
    write_atomically(path, page.encode())
    return path


def _drawn(events: Dataset) -> Dataset:
    if len(events) <= DRAWN:
        return events
    order = torch.randperm(len(events), generator=new_generator(derive_seed(0, "drawn")))
    return rows_of(events, order[:DRAWN])


def _lines(rows: Iterable[MetricRow]) -> list[Line]:
    """A line for each metric and feature, in the order of the table."""
    together: dict[str, list[MetricRow]] = {}
    for row in rows:
        together.setdefault(f"{row.metric} / {row.feature}" if row.feature else row.metric, []).append(row)
    found = []
    for name, some in together.items():
        floors = {_floor(score_of(row)) for row in some}
        floor = floors.pop() if len(floors) == 1 else ""
        unit = METRICS[some[0].metric].unit if some[0].metric in METRICS and not some[0].feature else ""
        found.append(Line(name, unit, floor, {row.generator: _entry(row, with_floor=not floor) for row in some}))
    return found


def _floor(score: Score) -> str:
    return str(measured(score.floor, score.floor_uncertainty))


def _entry(row: MetricRow, *, with_floor: bool) -> Entry:
    score = score_of(row)
    made = cell(score, row.target)
    notes = [f"floor {_floor(score)}"] if with_floor else []
    if made.pull:
        notes.append(f"pull {made.pull}" if score.pull is not None else made.pull)
    if score.extrapolated is not None:
        notes.append(f"N → ∞ {measured(score.extrapolated, score.uncertainty)}")
    return Entry(str(made.number), made.step, notes)
