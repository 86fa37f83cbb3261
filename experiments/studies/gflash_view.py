"""Tables and figure of the study ``gflash``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.markdown_table import markdown_table
from experiments.marked_page import put

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["NAME", "gflash_figure", "gflash_markdown", "gflash_table", "write_page"]

NAME = "gflash"
"""Of the marks between which the tables stand in a page, and of the figure."""

QUANTITY_HEADINGS = ("quantity", "at", "Geant4", "GFLASH", "off", "bound", "within")
METRIC_HEADINGS = ("image", "metric", "GFLASH", "truth vs truth")


def gflash_table(results: Mapping[str, Any]) -> RenderableType:
    """Quantities with their bounds, and metrics with their floors.

    Args:
        results: of :func:`experiments.studies.gflash.gflash_study`.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    tables = []
    for headings, rows in ((QUANTITY_HEADINGS, _quantities(results)), (METRIC_HEADINGS, _metrics(results))):
        table = Table(box=box.SIMPLE_HEAD)
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="left" if place < 2 else "right")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return Group(*tables, _outcome(results))


def gflash_markdown(results: Mapping[str, Any]) -> str:
    """The same as Markdown, and the fitted constants.

    Args:
        results: of :func:`experiments.studies.gflash.gflash_study`.
    """
    tuning = results["tuning"]
    constants = [(name, f"{tuning['built in'][name]:.3g}", f"{value:.3g}") for name, value in tuning["fitted"].items()]
    parts = [
        markdown_table(("constant", "built in", "fitted to the first half"), constants),
        [_outcome(results)],
        markdown_table(QUANTITY_HEADINGS, _quantities(results), left=(0, 1)),
        markdown_table(METRIC_HEADINGS, _metrics(results), left=(0, 1)),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def write_page(page: Path, results: Mapping[str, Any]) -> None:
    """Put the tables between the marks of a page, and the figure into the folder ``images`` beside it.

    Args:
        page: Markdown with ``<!-- gflash: begin -->`` and ``<!-- gflash: end -->``.
        results: of :func:`experiments.studies.gflash.gflash_study`.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing.
    """
    put(page, NAME, gflash_markdown(results))
    images = page.parent / "images"
    images.mkdir(exist_ok=True)
    gflash_figure(results).savefig(images / f"{NAME}.png", dpi=110)


def _outcome(results: Mapping[str, Any]) -> str:
    bounded = [row for row in results["rows"] if row["bound"] is not None]
    return f"{sum(row['within'] for row in bounded)} of {len(bounded)} quantities are within their bounds."


def _quantities(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            row["quantity"],
            row["where"],
            _pair(row["truth"]),
            _pair(row["gflash"]),
            _percent(row["off"]) if row["relative"] else f"{row['off']:+.3f}",
            "-" if row["bound"] is None else _percent(row["bound"])[1:] if row["relative"] else f"{row['bound']:.3g}",
            {None: "-", True: "yes", False: "**no**"}[row["within"]],
        )
        for row in results["rows"]
    ]


def _metrics(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            grid,
            f"`{name}`",
            _pair((row["value"], row["uncertainty"])),
            _pair((row["floor"], row["floor_uncertainty"])),
        )
        for grid, rows in results["metrics"].items()
        for name, row in rows.items()
    ]


def _pair(pair: tuple[float, float]) -> str:
    """Value and uncertainty, to two digits of the uncertainty.

    >>> _pair((0.015571, 0.000031)), _pair((493.2, 1.9))
    ('0.015571 ± 0.000031', '493.2 ± 1.9')
    """
    from math import floor, log10

    value, uncertainty = pair
    digits = min(6, max(0, 1 - floor(log10(uncertainty)))) if uncertainty > 0 else 3
    return f"{value:.{digits}f} ± {uncertainty:.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:+.1f} %"


def gflash_figure(results: Mapping[str, Any]) -> Figure:
    """Resolution against energy, and energy, its spread and the lateral width against the layer.

    Args:
        results: of :func:`experiments.studies.gflash.gflash_study`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import WIDTH, styled

    with styled():
        figure = Figure(figsize=(WIDTH, 0.62 * WIDTH), layout="constrained")
        axes = figure.subplots(2, 2)
        energy = "resolution x sqrt(E / GeV)"
        _points(axes[0, 0], results, energy, r"$\sigma / E \cdot \sqrt{E / \mathrm{GeV}}$")
        axes[0, 0].set_ylim(0, 1.3 * axes[0, 0].get_ylim()[1])
        _points(axes[0, 1], results, "mean energy", "visible energy [MeV]")
        axes[0, 1].set_yscale("log")
        _points(axes[1, 0], results, "its relative spread", "its relative spread")
        axes[1, 0].set_ylim(bottom=0)
        _points(axes[1, 1], results, "lateral width", "rms distance from the axis [mm]")
        axes[1, 1].set_ylim(bottom=0)
        axes[0, 0].legend()
    return figure


def _points(axis: Axes, results: Mapping[str, Any], quantity: str, title: str) -> None:
    from experiments.report.style import COLOURS, TRUTH

    rows = [row for row in results["rows"] if row["quantity"] == quantity]
    places = range(len(rows))
    for who, label, colour, mark in (("truth", "Geant4", TRUTH, "s"), ("gflash", "GFLASH", COLOURS[0], "o")):
        values, errors = zip(*(row[who] for row in rows), strict=True)
        axis.errorbar(places, values, errors, fmt=mark, ms=4, color=colour, label=label)
    by_layer = rows[0]["where"].startswith("layer")
    if by_layer:
        axis.set_xlabel("layer")
    else:
        axis.set_xticks(places, [row["where"] for row in rows])
    axis.set_ylabel(title)
