"""Table and figure of the study ``trainability``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.studies.gradients import two_design_variance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["trainability_figure", "trainability_table"]

Rows = Sequence[Mapping[str, Any]]


def trainability_table(results: Mapping[str, Any]) -> RenderableType:
    """The rates at which gradients fall with the qubits, and what the circuits can do.

    Args:
        results: of :func:`experiments.studies.trainability.trainability`.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    settings = results["settings"]
    falls = Table(
        title="fall of the mean squared derivative, r of 2^(-r qubits); in brackets that of the variance",
        caption="mean over all angles; in a circuit as random as can be 1 for an observable of one qubit and 2 for a "
        "projector on all; 0 is as strong a gradient for any number of qubits",
        box=box.SIMPLE_HEAD,
    )
    falls.add_column("loss")
    falls.add_column("initialisation")
    for n_layers in settings["layers"]:
        falls.add_column(f"{n_layers} layer{'s' * (n_layers > 1)}", justify="right")
    found = {(row["loss"], row["initialisation"], row["layers"]): row for row in results["falls"]}
    for loss in settings["losses"]:
        for initialisation in settings["initialisations"]:
            cells = [_rate(found.get((loss, initialisation, n_layers))) for n_layers in settings["layers"]]
            falls.add_row(loss, initialisation, *cells)
    if not results["circuits"]:
        return falls
    circuits = Table(title="circuits (Haar-random states in brackets)", box=box.SIMPLE_HEAD)
    circuits.add_column("ansatz")
    for heading in ("qubits", "layers", "parameters", "expressibility [nat]", "entangling capability"):
        circuits.add_column(heading, justify="right")
    for row in sorted(results["circuits"], key=lambda row: (row["ansatz"], row["qubits"], row["layers"])):
        measured = (
            f"{row[what]:.3f} ± {row[f'{what}_uncertainty']:.3f} ({row[level]:.3f})"
            for what, level in (("expressibility", "expressibility_floor"), ("entangling", "entangling_haar"))
        )
        circuits.add_row(row["ansatz"], *(str(row[name]) for name in ("qubits", "layers", "parameters")), *measured)
    return Group(falls, circuits)


def _rate(row: Mapping[str, Any] | None) -> str:
    if row is None or row["mean_square"] is None:
        return "-"
    variance = "-" if row["variance"] is None else f"{row['variance']:.2f}"
    return f"{row['mean_square']:.2f} ± {row['mean_square_uncertainty']:.2f} ({variance})"


def trainability_figure(results: Mapping[str, Any]) -> Figure:
    """Mean squared derivative against qubits: a row of panels for each initialisation, one for each loss.

    Args:
        results: of :func:`experiments.studies.trainability.trainability`.
    """
    from matplotlib.figure import Figure

    from experiments.report.style import WIDTH, styled

    settings = results["settings"]
    losses, initialisations = settings["losses"], settings["initialisations"]
    n_rows = len(initialisations) + bool(results["circuits"])
    with styled():
        figure = Figure(figsize=(WIDTH, 2.5 * n_rows + 0.4), layout="constrained")
        grid = figure.add_gridspec(n_rows, 1)
        place = grid[: len(initialisations)].subgridspec(len(initialisations), len(losses))
        panels = place.subplots(sharex=True, sharey="col", squeeze=False)
        for row, initialisation in zip(panels, initialisations, strict=True):
            for panel, loss in zip(row, losses, strict=True):
                rows = [r for r in results["gradients"] if (r["initialisation"], r["loss"]) == (initialisation, loss)]
                _panel(panel, rows, settings["layers"])
                if loss in ("global", "local"):
                    expected = [two_design_variance(n, loss) for n in settings["qubits"]]
                    panel.plot(settings["qubits"], expected, color="#222222", lw=0.9, ls=":", label="2-design")
            row[0].set_ylabel(f"{initialisation}\nmean squared derivative")
        for panel, loss in zip(panels[0], losses, strict=True):
            panel.set_title(loss)
        for panel in panels[-1]:
            panel.set_xlabel("qubits")
            panel.set_xticks(settings["qubits"])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        if results["circuits"]:
            _circuits(figure, grid[-1], results["circuits"], settings["layers"])
    return figure


def _colours(layers: Sequence[int]) -> dict[int, Any]:
    from matplotlib import colormaps

    return {
        n: colormaps["viridis"](0.9 - 0.9 * place / max(1, len(layers) - 1)) for place, n in enumerate(sorted(layers))
    }


def _panel(panel: Axes, rows: Rows, layers: Sequence[int]) -> None:
    for n_layers, colour in _colours(layers).items():
        found = [row for row in rows if row["layers"] == n_layers and row["mean_square"] > 0]
        panel.errorbar(
            [row["qubits"] for row in found],
            [row["mean_square"] for row in found],
            [row["mean_square_uncertainty"] for row in found],
            color=colour,
            marker="o",
            markersize=3,
            label=f"{n_layers} layer{'s' * (n_layers > 1)}",
        )
    panel.set_yscale("log")


def _circuits(figure: Figure, place: Any, circuits: Rows, layers: Sequence[int]) -> None:
    ansatze = sorted({row["ansatz"] for row in circuits})
    panels = place.subgridspec(1, 2).subplots()
    for panel, what, level, title in (
        (panels[0], "expressibility", "expressibility_floor", "expressibility [nat], dotted: of Haar-random states"),
        (panels[1], "entangling", "entangling_haar", "entangling capability, dotted: of Haar-random states"),
    ):
        for ansatz, line in zip(ansatze, ("-", "--"), strict=False):
            for n_layers, colour in _colours(layers).items():
                found = [row for row in circuits if (row["ansatz"], row["layers"]) == (ansatz, n_layers)]
                panel.errorbar(
                    [row["qubits"] for row in found],
                    [row[what] for row in found],
                    [row[f"{what}_uncertainty"] for row in found],
                    color=colour,
                    ls=line,
                    marker="o",
                    markersize=3,
                )
        known = sorted({(row["qubits"], row[level]) for row in circuits if row["ansatz"] == ansatze[0]})
        panel.plot(*zip(*known, strict=True), color="#222222", lw=0.9, ls=":")
        panel.set_title(title)
        panel.set_xlabel("qubits")
        panel.set_xticks(sorted({row["qubits"] for row in circuits}))
    panels[0].set_yscale("log")
    for ansatz, line in zip(ansatze, ("-", "--"), strict=False):
        panels[1].plot([], [], color="#222222", ls=line, label=ansatz)
    panels[1].legend(frameon=False)
