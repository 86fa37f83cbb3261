"""Tables and figure of the study ``bits``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.markdown_table import markdown_table
from experiments.marked_page import put

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["NAME", "bits_figure", "bits_markdown", "bits_table", "write_page"]

NAME = "bits"
"""Of the marks between which the tables stand in a page."""


def _rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table, the floors last."""
    rows, floors = results["rows"], results["floors"]
    of_images = rows[0]["energy"] is not None
    lost = ["no bits", "pixels", "total", "shift"] if of_images else ["error"]
    headings = ["cells", "bits", "bit entropy", "cell entropy", *lost, *floors]
    table = []
    for row in rows:
        cells = [_name(row, results["features"]), str(row["n_bits"])]
        cells += [f"{row[name]:.{0 if row[name] >= 100 else 1}f}" for name in ("bit_entropy", "cell_entropy")]
        if of_images:
            energy = row["energy"]
            cells += [_percent(energy[name]) for name in ("without_bits", "pixels", "total")]
            cells.append(f"{100 * energy['shift']:+.1f} %")
        else:
            cells.append(f"{row['error']:.3f}")
        table.append([*cells, *(_score(row["scores"][name]) for name in floors)])
    table.append(["truth (floor)", *[""] * (3 + len(lost)), *(_score(floors[name]) for name in floors)])
    return headings, table


def bits_table(results: Mapping[str, Any]) -> RenderableType:
    """The table of all encodings.

    Args:
        results: of :func:`experiments.studies.bits.bits_study`.
    """
    from rich import box
    from rich.table import Table

    headings, rows = _rows(results)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for row in rows:
        table.add_row(*row)
    return table


def bits_markdown(results: Mapping[str, Any]) -> str:
    """The same as Markdown.

    Args:
        results: of :func:`experiments.studies.bits.bits_study`.
    """
    return "\n".join(markdown_table(*_rows(results))) + "\n"


def write_page(page: Path, results: Mapping[str, Any]) -> None:
    """Put the table between the marks of a page.

    Args:
        page: Markdown with ``<!-- bits: begin -->`` and ``<!-- bits: end -->``.
        results: of :func:`experiments.studies.bits.bits_study`.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing.
    """
    put(page, NAME, bits_markdown(results))


def bits_figure(results: Mapping[str, Any]) -> Figure:
    """Errors, and the first score with its floor, against the number of bits.

    Args:
        results: of :func:`experiments.studies.bits.bits_study`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import WIDTH, styled

    metric, floor = next(iter(results["floors"].items()))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        groups.setdefault(_kind(row), []).append(row)
    with styled():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, rows in groups.items():
            n = [row["n_bits"] for row in rows]
            errors = [row["error"] if row["energy"] is None else row["energy"]["pixels"] for row in rows]
            scores, widths = zip(*(row["scores"][metric] for row in rows), strict=True)
            left.plot(n, errors, "o", label=name)
            right.errorbar(n, scores, widths, fmt="o")
        right.axhline(floor[0], color="grey", linestyle=":", label="floor")
        left.set_ylabel("error of the pixels" if results["rows"][0]["energy"] else "error of the features")
        right.set_ylabel(metric)
        for axis in (left, right):
            axis.set_xscale("log")
            axis.set_xlabel("bits")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _name(row: Mapping[str, Any], features: int) -> str:
    """An encoding in words."""
    of_each = f"{row['bits']} bit{'s' * (row['bits'] > 1)}, {_kind(row)}"
    if row["threshold"] is not None:
        of_each += f", at least {row['threshold']:g} MeV"
    return of_each if row["energy"] is None else f"{of_each}, {row['voxels'] or 'all'} of {features}"


def _kind(row: Mapping[str, Any]) -> str:
    code = f"{row['code']}, " if row["bits"] > 1 else ""
    return f"{code}{row['edges']}{', uniform draws' if row['frame'] == 'features' else ''}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _score(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3f} ± {pair[1]:.3f}"
