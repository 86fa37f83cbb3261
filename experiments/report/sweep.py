"""A sweep as a page: metrics against what is varied, the best runs and the failures, in HTML or in Markdown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from experiments.markdown_table import markdown_table, without_html
from experiments.report.page import environment
from experiments.report.style import styled
from experiments.report.summary import PULL_STEPS, Cell, cell, metric_notes
from experiments.scores import COMPLETED, Measured, measured, target
from experiments.sweep.grid import plain_value, point_text
from experiments.sweep.job import failure
from experiments.sweep.points import SEED
from experiments.sweep.standing import Standing, ranked, shown_metrics, standings
from qgen.files import check_place, write_atomically

if TYPE_CHECKING:
    from experiments.sweep import Job, Sweep

__all__ = ["sweep_markdown", "write_sweep"]

MOST_BEST = 8
MOST_FAILURES = 50
MOST_TROUBLES = 30


@dataclass(frozen=True)
class BestRow:
    """A model at a point, in the table of the best of a metric."""

    model: str
    values: list[str]
    cell: Cell
    floor: Measured
    n_parameters: int
    seconds: str
    links: list[tuple[int, str]]


@dataclass(frozen=True)
class Best:
    """The best by a metric."""

    metric: str
    rows: list[BestRow]


@dataclass(frozen=True)
class Failure:
    """A job that failed."""

    job: str
    link: str
    point: str
    error: str
    attempts: int
    traceback: str


def write_sweep(sweep: Sweep, path: Path, metrics: Sequence[str] = ()) -> Path:
    """Write a page about a sweep: HTML, or Markdown if the name ends in ``.md``.

    The HTML holds its images and styles, needs no network and runs no script; every name in it is escaped.

    Args:
        sweep: finished or not, from :func:`experiments.sweep.load_sweep`.
        path: the file to write; one that exists is replaced when the new one is complete.
        metrics: to show; a few of whole samples if none is named.

    Returns:
        ``path``.

    Raises:
        ValueError: the results have no such metric, or the folder of ``path`` does not exist.
    """
    check_place(path)
    shown = shown_metrics(sweep, metrics)
    if path.suffix == ".md":
        write_atomically(path, sweep_markdown(sweep, shown).encode())
        return path
    from experiments.report.sweep_figures import drawn

    varied = [name for name in sweep.paths if name != SEED]
    found = {metric: standings(sweep, metric) for metric in shown}
    with styled():
        figures = [figure for metric in shown if (figure := drawn(metric, found[metric], varied)) is not None]
    experiment = sweep.setup.base.experiment
    page = (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=f"{sweep.name}: {', '.join(sweep.paths)}",
            description=experiment.description,
            summary=_summary(sweep),
            varied=_varied(sweep),
            paths=varied,
            bests=[_best(sweep, metric, found[metric], varied, path.parent) for metric in shown],
            most=MOST_BEST,
            steps=PULL_STEPS,
            figures=figures,
            notes=metric_notes(shown),
            failures=[_failure(job, path.parent) for job in sweep.failures[:MOST_FAILURES]],
            n_failures=len(sweep.failures),
            troubles=_troubles(sweep),
            folder=str(sweep.folder),
            config=sweep.setup.to_yaml(),
        )
    )
    write_atomically(path, page.encode())
    return path


def sweep_markdown(sweep: Sweep, metrics: Sequence[str]) -> str:
    """The same in Markdown, without figures.

    Args:
        sweep: finished or not.
        metrics: to show.
    """
    varied = [name for name in sweep.paths if name != SEED]
    title, about = f"{sweep.name}: {', '.join(sweep.paths)}", sweep.setup.base.experiment.description.strip()
    varied_over = [f"- `{path}`: {without_html(values)}" for path, values in _varied(sweep)]
    lines = [f"# {without_html(title)}", "", without_html(about), "", _summary(sweep), "", *varied_over, ""]
    for metric in metrics:
        rows = []
        for one in ranked(standings(sweep, metric), metric)[:MOST_BEST]:
            shown = cell(one.score, target(metric))
            number = f"{shown.number} ({shown.pull})" if shown.pull else str(shown.number)
            floor = str(measured(one.score.floor, one.score.floor_uncertainty))
            seeds = ", ".join(map(str, one.jobs))
            rows.append([one.model, *_texts(one.point, varied), number, shown.spread or "–", floor, seeds])
        header = ["model", *varied, metric, "spread", "truth vs truth", "seeds"]
        lines += [f"## {metric}", "", *markdown_table(header, rows), ""]
    if sweep.failures:
        header = ["failed", "error"]
        rows = [[_flat(point_text(job.point)), _flat(job.error)] for job in sweep.failures[:MOST_FAILURES]]
        lines += ["## Failures", "", *markdown_table(header, rows, left=(0, 1)), ""]
    return "\n".join(lines)


def _summary(sweep: Sweep) -> str:
    """One sentence on what was done."""
    n = {status: sum(job.status == status for job in sweep.jobs) for status in ("finished", "failed", "unfinished")}
    text = f"{n['finished']} {'jobs are' if n['finished'] != 1 else 'job is'} finished"
    if n["failed"]:
        text += f", {n['failed']} failed"
    if n["unfinished"]:
        text += f", {n['unfinished']} {'are' if n['unfinished'] > 1 else 'is'} in work or broken off"
    return f"{text}."


def _varied(sweep: Sweep) -> list[tuple[str, str]]:
    """What is varied, with the values of the jobs."""
    rows = []
    for path in sweep.paths:
        values = list(dict.fromkeys(plain_value(job.point.get(path)) for job in sweep.jobs))
        more = f", ... ({len(values)} in all)" if len(values) > 16 else ""
        rows.append((path, ", ".join(values[:16]) + more))
    return rows


def _best(sweep: Sweep, metric: str, found: Sequence[Standing], varied: Sequence[str], beside: Path) -> Best:
    folders = {job.id: job.folder for job in sweep.jobs}
    rows = [
        BestRow(
            model=one.model,
            values=_texts(one.point, varied),
            cell=cell(one.score, target(metric), best=k == 0),
            floor=measured(one.score.floor, one.score.floor_uncertainty),
            n_parameters=one.n_parameters,
            seconds=f"{one.train_seconds:.1f}",
            links=[(seed, _link(folders[job], beside)) for seed, job in one.jobs.items()],
        )
        for k, one in enumerate(ranked(found, metric)[:MOST_BEST])
    ]
    return Best(metric, rows)


def _failure(job: Job, beside: Path) -> Failure:
    record = failure(job.folder)
    attempts = record.get("attempts")
    return Failure(
        job=job.id,
        link=_link(job.folder, beside),
        point=point_text(job.point),
        error=f"{record.get('type', '')}: {job.error}",
        attempts=attempts if isinstance(attempts, int) else 0,
        traceback=str(record.get("traceback", "")),
    )


def _troubles(sweep: Sweep) -> list[str]:
    """What went wrong in trainings of finished jobs, the first of many."""
    columns = [path for path in sweep.paths if path != SEED]
    table = sweep.table.select(["model", "seed", "status", *columns])
    found: dict[str, None] = {}
    for batch in table.to_batches():
        for row in batch.to_pylist():
            parts = [part for part in row["status"].split("; ") if part != COMPLETED] if row["model"] else []
            if parts:
                at = point_text({path: row[path] for path in columns} | {SEED: row["seed"]})
                found[f"{row['model']} at {at}: {'; '.join(parts)}"] = None
    lines = list(found)
    more = [f"... and {len(lines) - MOST_TROUBLES} more"] if len(lines) > MOST_TROUBLES else []
    return lines[:MOST_TROUBLES] + more


def _link(folder: Path, beside: Path) -> str:
    """From the page to a run: its report if there is one, else its folder."""
    to = folder / "report.html" if (folder / "report.html").is_file() else folder
    return quote(os.path.relpath(to.absolute(), beside.absolute()))


def _texts(point: Mapping[str, Any], varied: Sequence[str]) -> list[str]:
    """The values of a row; of what does not concern the model, a dash."""
    return [_flat(plain_value(point[path])) if path in point else "–" for path in varied]


def _flat(text: str) -> str:
    return " ".join(text.split())
