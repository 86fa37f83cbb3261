"""The table of a sweep for the terminal: the best points by each metric."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.report.summary import cell
from experiments.scores import measured, target
from experiments.sweep.grid import plain_value, point_text
from experiments.sweep.points import SEED
from experiments.sweep.reading import Sweep
from experiments.sweep.standing import ranked, shown_metrics, standings

__all__ = ["sweep_table"]

MOST_BEST = 3
MOST_FAILURES = 10


def sweep_table(sweep: Sweep) -> RenderableType:
    """The best points by each metric that is shown first, and below them what failed.

    Args:
        sweep: finished or not.
    """
    varied = [path for path in sweep.paths if path != SEED]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=f"{sweep.name}: the best points", title_style="bold")
    for heading in ("metric", "model", *varied):
        table.add_column(Text(heading), overflow="fold")
    for heading in ("value", "spread", "truth vs truth", "pull", "seeds"):
        table.add_column(heading, justify="right", overflow="fold")
    for metric in shown_metrics(sweep):
        for place, one in enumerate(ranked(standings(sweep, metric), metric)[:MOST_BEST]):
            shown = cell(one.score, target(metric))
            table.add_row(
                Text("" if place else metric),
                Text(one.model),
                *(Text(plain_value(one.point[path]) if path in one.point else "–") for path in varied),
                str(shown.number),
                shown.spread or "–",
                str(measured(one.score.floor, one.score.floor_uncertainty)),
                shown.pull or "–",
                str(len(one.values)),
                style="" if place else "bold",
            )
    lines = [Text(f"{point_text(job.point)}: {job.error}", "yellow") for job in sweep.failures[:MOST_FAILURES]]
    if len(sweep.failures) > MOST_FAILURES:
        lines.append(Text(f"... {len(sweep.failures)} jobs failed in all", "yellow"))
    return Group(table, *lines)
