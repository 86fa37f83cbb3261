"""Table and figure of the study ``cv-classifier``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

__all__ = ["classifier_figure", "classifier_table"]


def classifier_table(results: Mapping[str, Any]) -> Table:
    """A row for each classifier, kind of fakes and number of pixels.

    Args:
        results: of :func:`experiments.studies.cv_classifier.cv_classifier`.
    """
    from rich import box
    from rich.table import Table

    settings = results["settings"]
    table = Table(
        title=f"real against fake showers: {settings['events']} of each kind, half of them held out, "
        f"{settings['seeds']} trainings",
        caption="± is the standard error of the mean over the trainings, in brackets the binomial one of a single "
        "training; changed: share of the events that change sides at a higher cutoff",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("pixels", "fakes", "classifier"):
        table.add_column(heading)
    for heading in ("parameters", "accuracy [%]", "AUC", "norm lost, mean", "most", "changed [%]"):
        table.add_column(heading, justify="right")
    for row in results["summary"]:
        spread = "" if row["auc_uncertainty"] is None else f" ± {row['auc_uncertainty']:.3f}"
        table.add_row(
            str(row["pixels"]),
            row["fakes"],
            row["classifier"],
            str(row["parameters"]),
            f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_uncertainty']:.1f} ({100 * row['uncertainty']:.1f})",
            f"{row['auc']:.3f}{spread}",
            *("-" if row[name] is None else f"{row[name]:.1e}" for name in ("norm_lost", "norm_lost_most")),
            "-" if row["changed"] is None else f"{100 * row['changed']:.1f}",
        )
    return table


def classifier_figure(results: Mapping[str, Any]) -> Figure:
    """Accuracies as points with their uncertainties, a panel for each kind of fakes.

    Args:
        results: of :func:`experiments.studies.cv_classifier.cv_classifier`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import COLOURS, WIDTH, styled

    settings, rows = results["settings"], results["summary"]
    names = list(dict.fromkeys(row["classifier"] for row in rows))
    with styled():
        figure = Figure(figsize=(WIDTH, 0.4 * len(names) + 1.2), layout="constrained")
        panels = figure.subplots(1, len(settings["fakes"]), sharey=True, squeeze=False)[0]
        for panel, fakes in zip(panels, settings["fakes"], strict=True):
            for place, (colour, pixels) in enumerate(zip(COLOURS, settings["pixels"], strict=False)):
                some = [row for row in rows if (row["fakes"], row["pixels"]) == (fakes, pixels)]
                height = [names.index(row["classifier"]) + 0.15 * place for row in some]
                accuracies = [100 * row["accuracy"] for row in some]
                error = [100 * row["accuracy_uncertainty"] for row in some]
                look = {"color": colour, "ls": "", "marker": "o", "ms": 4, "label": f"{pixels} pixels"}
                panel.errorbar(accuracies, height, xerr=error, **look)
            panel.set_title(f"{fakes} fakes")
            panel.set_xlabel("accuracy on held-out events [%]")
            panel.set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        panels[-1].legend(frameon=False)
    return figure
