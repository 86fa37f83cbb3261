"""Tables and figure of the study ``amplification``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.markdown_table import markdown_table
from experiments.marked_page import put

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["NAME", "amplification_figure", "amplification_markdown", "amplification_table", "write_page"]

NAME = "amplification"
"""Of the marks between which the tables stand in a page."""

Rows = Sequence[Mapping[str, Any]]


def _models(rows: Rows, source: str, n: int) -> list[tuple[str, int | None, Rows]]:
    """Name, parameters and rows, smallest sample first, of every model of a case."""
    some = [row for row in rows if (row["source"], row["events"]) == (source, n)]
    names = dict.fromkeys(row["model"] for row in some)
    return [(name, _first(some, name)["parameters"], [row for row in some if row["model"] == name]) for name in names]


def _first(rows: Rows, name: str) -> Mapping[str, Any]:
    return next(row for row in rows if row["model"] == name)


def _cases(results: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """Source, training events and a title of each table."""
    cells = results["cells"]
    return [
        (source, n, f"{source[0].upper()}{source[1:]}, {n:,} training events, {cells[source]} cells")
        for source in results["settings"]["sources"]
        for n in results["settings"]["events"]
    ]


def _table(results: Mapping[str, Any], source: str, n: int) -> list[list[str]]:
    """Heading and lines of a table."""
    sizes = [factor * n for factor in results["settings"]["factors"]]
    lines = [["model", "parameters", *(f"{size:,} generated" for size in sizes), "expected", "amplification"]]
    for name, parameters, rows in _models(results["rows"], source, n):
        by_size = {row["size"]: row for row in rows}
        last = rows[-1]
        lines.append(
            [
                name,
                "" if parameters is None else str(parameters),
                *(_worth(by_size[size]) if size in by_size else "" for size in sizes),
                "" if last["expected"] is None else _number(last["expected"]),
                _interval(*(None if last[end] is None else last[end] / n for end in ("worth", "low", "high"))),
            ]
        )
    return lines


def amplification_table(results: Mapping[str, Any]) -> RenderableType:
    """A table for each source and number of training events.

    Args:
        results: of :func:`experiments.studies.amplification.amplification_study`.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    tables = []
    for source, n, title in _cases(results):
        heading, *lines = _table(results, source, n)
        table = Table(title=f"{title}: worth in true events", box=box.SIMPLE_HEAD)
        for word in heading:
            table.add_column(word, justify="left" if word == "model" else "right")
        for line in lines:
            table.add_row(*line)
        tables.append(table)
    return Group(*tables)


def amplification_markdown(results: Mapping[str, Any]) -> str:
    """The same as Markdown.

    Args:
        results: of :func:`experiments.studies.amplification.amplification_study`.
    """
    parts = []
    for source, n, title in _cases(results):
        heading, *lines = _table(results, source, n)
        parts += [f"### {title}", "", *markdown_table(heading, lines), ""]
    return "\n".join(parts)


def write_page(page: Path, results: Mapping[str, Any]) -> None:
    """Put the tables between the marks of a page, and the figure beside it.

    Args:
        page: Markdown with ``<!-- amplification: begin -->`` and ``<!-- amplification: end -->``.
        results: of :func:`experiments.studies.amplification.amplification_study`.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing.
    """
    put(page, NAME, amplification_markdown(results))
    amplification_figure(results).savefig(page.with_suffix(".png"), dpi=110)


def amplification_figure(results: Mapping[str, Any]) -> Figure:
    """Worth of each model's samples, a panel for each source and number of training events, which are the line.

    Args:
        results: of :func:`experiments.studies.amplification.amplification_study`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import COLOURS, TRUTH, WIDTH, styled

    cases = _cases(results)
    of_cases = [_models(results["rows"], source, n) for source, n, _ in cases]
    tallest = max(len(models) for models in of_cases)
    columns = min(2, len(cases))
    lines = -(-len(cases) // columns)
    with styled():
        figure = Figure(figsize=(WIDTH * columns / 2, lines * (1.4 + 0.26 * tallest)), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).flatten()
        for panel in panels[len(cases) :]:
            panel.set_axis_off()
        for panel, (_, n, title), models in zip(panels, cases, of_cases, strict=False):
            for place, (_, parameters, rows) in enumerate(models):
                colour = TRUTH if parameters is None else COLOURS[0]
                known = [row for row in rows if row["worth"] is not None]
                for i, row in enumerate(known):
                    low, high = row["low"] or row["worth"], row["high"] or row["worth"]
                    look = {"color": colour, "alpha": (i + 1) / len(known)}
                    panel.plot([low, high], [place, place], lw=1.6, **look)
                    panel.plot(row["worth"], place, marker="o", ms=3 + 2 * i, **look)
                    if row["expected"] is not None:
                        panel.plot(row["expected"], place, marker="|", ms=11, color=COLOURS[1])
            panel.axvline(n, color=TRUTH, lw=0.9, ls=":")
            panel.set_xscale("log")
            panel.set_yticks(range(len(models)), [name for name, _, _ in models])
            panel.invert_yaxis()
            panel.set_title(title)
            panel.set_xlabel("worth in true events; larger dots: more generated; red: expected")
    return figure


def _worth(row: Mapping[str, Any]) -> str:
    return _interval(row["worth"], row["low"], row["high"])


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    """A value with the ends of its interval, ``∞`` for one that is not known."""
    shown = ("∞" if x is None else _number(x) for x in (value, low, high))
    return "{} ({}-{})".format(*shown)


def _number(value: float) -> str:
    """Two digits at least, and no more than three that matter, in thousands' groups."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 99.5 else f"{value:.2g}"
