"""Tables and figure of the study ``cv-limits``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.studies.cv_limits import SHARES, summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["limits_figure", "limits_tables"]

Rows = Sequence[Mapping[str, Any]]

LINES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))


def limits_tables(results: Mapping[str, Any]) -> RenderableType:
    """The cutoffs that the data need, and what the trainings came to.

    Args:
        results: of :func:`experiments.studies.cv_limits.cv_limits`.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    settings = results["settings"]
    cutoffs = Table(
        title=f"{settings['pixels']} pixels: cutoff (of all photons together) at which showers lose less than 1 %",
        box=box.SIMPLE_HEAD,
    )
    cutoffs.add_column("normalisation")
    for heading in ("strength", "photons, mean", "most"):
        cutoffs.add_column(heading, justify="right")
    for share in SHARES:
        cutoffs.add_column(f"cutoff for {100 * (1 - share):g} % of the showers", justify="right")
    for row in results["needed"]:
        wanted = (row[f"cutoff_{share:g}"] for share in SHARES)
        cutoffs.add_row(
            row["normalisation"],
            f"{row['strength']:g}",
            f"{row['photons']:.2g}",
            f"{row['photons_most']:.2g}",
            *(f"> {max(settings['cutoffs'])}" if value is None else str(value) for value in wanted),
        )
    if not results["trainings"]:
        return cutoffs
    trainings = Table(
        title=f"trained generators, {settings['steps']} steps, means over {settings['seeds']} seeds",
        caption=f"raised: the same weights at a cutoff higher by {settings['raised']}; shift: r.m.s. change of a "
        "feature, in its standard deviations; distance: of generated events from each other over that of true ones",
        box=box.SIMPLE_HEAD,
    )
    columns = {
        "cutoff": "d",
        "penalty": "g",
        "photons": ".2f",
        "lost": ".1e",
        "lost_most": ".1e",
        "shift": ".3f",
        "wasserstein_trained": ".3f",
        "wasserstein_raised": ".3f",
        "floor": ".3f",
    }
    headings = (
        "cutoff",
        "norm_penalty",
        "photons",
        "norm lost, mean",
        "most",
        "shift",
        "Wasserstein",
        "raised",
        "floor",
    )
    for heading in (*headings, "distance of each seed"):
        trainings.add_column(heading, justify="right")
    for row in summary(results["trainings"]):
        distances = " ".join(f"{value:.2f}" for value in row["distance"])
        trainings.add_row(*(format(row[name], form) for name, form in columns.items()), distances)
    return Group(cutoffs, trainings)


def limits_figure(results: Mapping[str, Any]) -> Figure:
    """Errors against the cutoff, and norm lost, photons and distances during the trainings.

    Args:
        results: of :func:`experiments.studies.cv_limits.cv_limits`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import WIDTH, styled

    n_rows = 2 if results["trainings"] else 1
    with styled():
        figure = Figure(figsize=(WIDTH, 3.6 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, 3, squeeze=False)
        normalisations = list(dict.fromkeys(row["normalisation"] for row in results["cutoff"]))
        for panel, what, label in zip(
            panels[0],
            ("lost", "too_much", "error"),
            ("mean norm lost", "share of showers that lose more than 1 %", "r.m.s. error of the means / their spread"),
            strict=True,
        ):
            _cutoffs(panel, results["cutoff"], what, results["settings"]["strengths"], normalisations)
            panel.set_ylabel(label)
        panels[0, 1].legend(frameon=False, fontsize="small")
        if results["trainings"]:
            for panel, what, label in zip(
                panels[1],
                ("lost", "photons", "distance"),
                ("mean norm lost", "mean photons", "distance of events / that of true ones"),
                strict=True,
            ):
                _histories(panel, results["trainings"], what)
                panel.set_ylabel(label)
            panels[1, 0].set_yscale("log")
            panels[1, 2].axhline(1.0, color="#222222", lw=0.9, ls=":")
            panels[1, 0].legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def _cutoffs(panel: Axes, rows: Rows, what: str, strengths: Sequence[float], normalisations: Sequence[str]) -> None:
    from experiments.report.style import COLOURS

    for colour, strength in zip(COLOURS, strengths, strict=False):
        for line, normalisation in zip(LINES, normalisations, strict=False):
            some = [row for row in rows if (row["strength"], row["normalisation"]) == (strength, normalisation)]
            shown = [(row["cutoff"], row[what]) for row in some if row[what] > 1e-9]
            label = f"strength {strength:g}, {normalisation}"
            panel.plot(
                [x for x, _ in shown], [y for _, y in shown], color=colour, ls=line, marker="o", ms=3, label=label
            )
    panel.set_yscale("log")
    panel.set_xlabel("cutoff")


def _histories(panel: Axes, rows: Rows, what: str) -> None:
    from experiments.report.style import COLOURS

    cutoffs = list(dict.fromkeys(row["cutoff"] for row in rows))
    penalties = list(dict.fromkeys(row["penalty"] for row in rows))
    named: set[tuple[int, float]] = set()
    for row in rows:
        place = (row["cutoff"], row["penalty"])
        label = None if place in named else f"cutoff {row['cutoff']}, norm_penalty {row['penalty']:g}"
        named.add(place)
        steps = [entry["step"] for entry in row["history"]]
        values = [entry[what] for entry in row["history"]]
        colour, line = COLOURS[cutoffs.index(row["cutoff"])], LINES[penalties.index(row["penalty"]) % len(LINES)]
        panel.plot(steps, values, color=colour, ls=line, lw=1.0, label=label)
    panel.set_xlabel("step")
