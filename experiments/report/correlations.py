"""Correlation matrices of truth and models, and their differences."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments.report.events import Columns
from experiments.report.style import WIDTH, Picture, label, picture, short

__all__ = ["correlations", "pearson"]

MOST_COLUMNS = 100
MAP = "RdBu_r"
MODELS_A_ROW = 7
MOST_NAMES = 24


def correlations(columns: Columns) -> Picture | None:
    """Matrices of Pearson's coefficients; None if there are fewer than two columns, or more than 100."""
    n = len(columns.features)
    if not 2 <= n <= MOST_COLUMNS:
        return None
    truth = pearson(columns.truth)
    models = {name: np.mean([pearson(table) for table in each], axis=0) for name, each in columns.models.items()}
    n_blocks = max(1, -(-len(models) // MODELS_A_ROW))
    a_row = max(1, -(-len(models) // n_blocks))
    blocks = [list(models.items())[k : k + a_row] for k in range(0, len(models), a_row)] or [[]]
    across = max(a_row + 1, 4)
    side = (WIDTH - 1.7) / across
    height = 0.15 + n_blocks * (2 * side + 0.76)
    figure = Figure(figsize=(WIDTH, height))
    norm = Normalize(-1, 1)
    names = [label(feature.label or feature.name) for feature in columns.features]

    def place(row: float, column: int) -> Axes:
        """Axes with their top ``row`` inches below the figure's."""
        box = (0.75 + column * side, height - row - side, side - 0.1, side - 0.1)
        return figure.add_axes((box[0] / WIDTH, box[1] / height, box[2] / WIDTH, box[3] / height))

    for k, block in enumerate(blocks):
        top = 0.34 + k * (2 * side + 0.76)
        _matrix(place(top, 0), truth, "truth", norm, names)
        for j, (name, matrix) in enumerate(block, start=1):
            _matrix(place(top, j), matrix, short(name, across), norm, size=7.5)
            difference = matrix - truth
            off = np.abs(difference[np.triu_indices(n, 1)])
            title = f"Δ: mean {off.mean():.3f}, max {off.max():.2f}"
            _matrix(place(top + side + 0.2, j), difference, title, norm, size=7)
    bar = figure.colorbar(
        ScalarMappable(norm, MAP),
        cax=figure.add_axes((1 - 0.72 / WIDTH, 1 - (side + 0.24) / height, 0.13 / WIDTH, (side - 0.1) / height)),
    )
    bar.set_label("correlation, or Δ", fontsize=7.5)
    bar.ax.tick_params(labelsize=6.5)
    return picture(
        figure,
        "Correlation matrices of truth and every model, and the differences to truth",
        f"Pearson correlations of {n} quantities (means over seeds), and below each model Δ, its difference to "
        "truth, all on one scale from -1 to 1; the title gives the mean and the largest of |Δ| over all pairs.",
    )


def pearson(table: np.ndarray) -> np.ndarray:
    """Pearson's coefficients of the columns of ``(N, d)``, shape ``(d, d)``; 0 where a column is constant.

    >>> pearson(np.array([[0.0, 1.0, 5.0], [1.0, -1.0, 5.0]])).tolist()
    [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    scale = np.abs(table).max(0, initial=0.0)
    table = table / np.where(scale > 0, scale, 1.0)
    centred = table - table.mean(0)
    deviation = np.sqrt((centred**2).mean(0))
    varies = deviation > 1e-12
    centred = np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)
    matrix: np.ndarray = centred.T @ centred / len(table)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _matrix(
    axes: Axes, matrix: np.ndarray, title: str, norm: Normalize, names: list[str] | None = None, size: float = 8.5
) -> None:
    axes.imshow(matrix, norm=norm, cmap=MAP, interpolation="nearest")
    axes.set_title(title, parse_math=False, fontsize=size, pad=3)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([])
    if names is not None and len(names) <= MOST_NAMES:
        font = 7 if len(names) <= 10 else 5
        axes.set_yticks(range(len(names)), names, fontsize=font)
        axes.set_xticks(range(len(names)), names, fontsize=font, rotation=90)
