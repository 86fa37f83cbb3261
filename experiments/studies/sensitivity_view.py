"""Tables and figure of the study ``sensitivity``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.marked_page import put
from qgen.metrics import GROUPS, METRICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["NAME", "SEEN", "sensitivity_figure", "sensitivity_markdown", "sensitivity_table", "write_page"]

SEEN = 3.0
"""Standard deviations from which on a fault counts as seen."""

NAME = "sensitivity"
"""Of the marks between which the tables stand in a page."""

Cells = Mapping[tuple[str, str], float | None]


def matrix(results: Mapping[str, Any], source: str) -> tuple[list[str], list[str], Cells]:
    """Metrics (by group), faults and the mean excess of each pair, of one source of events."""
    rows = [row for row in results["rows"] if row["source"] == source]
    cells = {(row["metric"], row["fault"]): row["mean"] for row in rows}
    metrics = sorted(dict.fromkeys(row["metric"] for row in rows), key=lambda m: GROUPS.index(METRICS[m].group))
    return metrics, list(results["settings"]["faults"]), cells


def sensitivity_table(results: Mapping[str, Any]) -> RenderableType:
    """A table for each source of events.

    Args:
        results: of :func:`experiments.studies.sensitivity.sensitivity`.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    tables = []
    for source in results["settings"]["sources"]:
        metrics, faults, cells = matrix(results, source)
        table = Table(title=f"{source}: standard deviations beyond the floor", box=box.SIMPLE_HEAD)
        for heading in ("metric", *faults):
            table.add_column(heading, justify="left" if heading == "metric" else "right")
        for metric in metrics:
            values = [cells.get((metric, fault)) for fault in faults]
            table.add_row(metric, *(f"[bold]{_shown(x)}[/bold]" if _seen(x) else _shown(x) for x in values))
        tables.append(table)
    return Group(*tables)


def sensitivity_markdown(results: Mapping[str, Any]) -> str:
    """The same as Markdown: what is seen in bold.

    Args:
        results: of :func:`experiments.studies.sensitivity.sensitivity`.
    """
    settings = results["settings"]
    lines = [
        f"{settings['events']} events in each sample, means over {settings['seeds']} "
        f"seed{'s' * (settings['seeds'] > 1)}; standard deviations beyond the floor, in bold from {SEEN:g} on.",
    ]
    for source in settings["sources"]:
        metrics, faults, cells = matrix(results, source)
        lines += ["", f"### {source[0].upper()}{source[1:]}", ""]
        lines += [f"| metric | {' | '.join(faults)} |", "|---|" + "---:|" * len(faults)]
        for metric in metrics:
            values = [cells.get((metric, fault)) for fault in faults]
            shown = (f"**{_shown(x)}**" if _seen(x) else _shown(x) for x in values)
            lines.append(f"| `{metric}` | {' | '.join(shown)} |")
    if results["refused"]:
        lines += ["", "Not scored:", ""]
        lines += [f"- {where}: {line}" for where, line in results["refused"].items()]
    return "\n".join(lines) + "\n"


def write_page(page: Path, results: Mapping[str, Any]) -> None:
    """Put the tables between the marks of a page, and the figure beside it.

    Args:
        page: Markdown with ``<!-- sensitivity: begin -->`` and ``<!-- sensitivity: end -->``.
        results: of :func:`experiments.studies.sensitivity.sensitivity`.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing.
    """
    put(page, NAME, sensitivity_markdown(results))
    sensitivity_figure(results).savefig(page.with_suffix(".png"), dpi=110)


def sensitivity_figure(results: Mapping[str, Any]) -> Figure:
    """Heat maps, a panel for each source of events: metrics against faults.

    Args:
        results: of :func:`experiments.studies.sensitivity.sensitivity`.
    """
    import numpy as np
    from matplotlib.figure import Figure

    from experiments.report.style import WIDTH, styled

    sources: Sequence[str] = results["settings"]["sources"]
    panels = [matrix(results, source) for source in sources]
    tallest = max(len(metrics) for metrics, _, _ in panels)
    with styled():
        figure = Figure(figsize=(1.5 * WIDTH * len(sources) / 3, 2.6 + 0.2 * tallest), layout="constrained")
        axes = figure.subplots(1, len(sources), squeeze=False)[0]
        for axis, source, (metrics, faults, cells) in zip(axes, sources, panels, strict=True):
            values = np.array([[_number(cells.get((m, f))) for f in faults] for m in metrics])
            shown = axis.imshow(np.clip(values, 0, 10), vmin=0, vmax=10, cmap="Blues", aspect="auto")
            axis.set_xticks(range(len(faults)), faults, rotation=60, ha="right", fontsize=8)
            axis.set_yticks(range(len(metrics)), metrics, fontsize=7)
            axis.set_title(source)
            axis.tick_params(length=0, which="both")
            for (i, j), value in np.ndenumerate(values):
                if value >= SEEN:
                    colour = "white" if value > 6 else "black"
                    axis.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour)
        figure.colorbar(shown, ax=axes, label="standard deviations beyond the floor (10 and more alike)", shrink=0.6)
    return figure


def _seen(value: float | None) -> bool:
    return value is not None and value >= SEEN


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if abs(value) < 99.95 else f"{value:.0f}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
