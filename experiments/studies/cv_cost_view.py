"""Table and figure of the study ``cv-cost``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table

__all__ = ["cost_figure", "cost_table"]

LINES = {"mode": (0, (4, 1.5)), "total": "-"}


def cost_table(results: Mapping[str, Any]) -> Table:
    """A row for each number of modes, cutoff and basis.

    Args:
        results: of :func:`experiments.studies.cv_cost.cv_cost`.
    """
    from rich import box
    from rich.table import Table

    settings = results["settings"]
    table = Table(
        title=f"{settings['layers']} layers, batch of {settings['batch']}, {settings['dtype']}, one core: state, mean "
        "positions and gradient",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("basis")
    for heading in ("cutoff", "modes", "amplitudes", "time, ms", "memory expected, MB", "found, MB"):
        table.add_column(heading, justify="right")
    for row in results["cases"]:
        refused = row["refused"] is not None
        table.add_row(
            row["basis"],
            str(row["cutoff"]),
            str(row["modes"]),
            f"{row['amplitudes']:,}",
            "refused" if refused else f"{1e3 * row['seconds']:.3g}",
            f"{row['estimate']:.3g}",
            "-" if row["peak"] is None else f"{row['peak']:.3g}",
        )
    return table


def cost_figure(results: Mapping[str, Any]) -> Figure:
    """Time and memory against modes, a colour for each cutoff; what was refused as crosses on the memory's limit.

    Args:
        results: of :func:`experiments.studies.cv_cost.cv_cost`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import COLOURS, WIDTH, styled

    settings, rows = results["settings"], results["cases"]
    limit = settings["memory_limit"] / 1e6
    with styled():
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for colour, cutoff in zip(COLOURS, settings["cutoffs"], strict=False):
            for basis in settings["bases"]:
                some = [row for row in rows if (row["cutoff"], row["basis"]) == (cutoff, basis)]
                done = [row for row in some if row["refused"] is None]
                look = {"color": colour, "ls": LINES[basis]}
                modes = [row["modes"] for row in done]
                label = f"cutoff {cutoff}, {basis} basis"
                panels[0].plot(modes, [row["seconds"] for row in done], marker="o", ms=4, label=label, **look)
                panels[1].plot([row["modes"] for row in some], [row["estimate"] for row in some], **look)
                peaks = [row["peak"] or math.nan for row in done]
                panels[1].plot(modes, peaks, color=colour, ls="", marker="o", ms=4)
                refused = [row["modes"] for row in some if row["refused"] is not None]
                panels[1].plot(refused, [limit] * len(refused), color=colour, ls="", marker="x")
        panels[1].axhline(limit, color="#222222", lw=0.9, ls=":")
        _finish(panels[0], "seconds of a step", settings["modes"])
        _finish(panels[1], "memory [MB]; lines: expected, dots: found, crosses: refused", settings["modes"])
        panels[0].legend(frameon=False)
    return figure


def _finish(panel: Axes, label: str, modes: list[int]) -> None:
    panel.set_yscale("log")
    panel.set_xlabel("modes")
    panel.set_ylabel(label)
    panel.set_xticks(modes)
