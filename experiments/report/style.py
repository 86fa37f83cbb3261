"""Colours, sizes and labels that all figures of the report share."""

from __future__ import annotations

import base64
import io
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.mathtext import MathTextParser

__all__ = [
    "TRUTH",
    "WIDTH",
    "Look",
    "Picture",
    "grid_shape",
    "label",
    "looks",
    "picture",
    "short",
    "styled",
    "two_panels",
]

WIDTH = 12.5
"""Width of a figure that fills the page, in inches."""

DPI = 120
TRUTH = "#4d4d4d"

# Petroff's accessible palette (2107.02270), its greys and near-greys left out: grey is the truth
COLOURS = ("#3f90da", "#bd1f01", "#832db6", "#ffa90e", "#2e8b6f", "#a96b59", "#e76300", "#1f4e9c", "#b9ac70", "#92dadd")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))

_math = MathTextParser("path")


@dataclass(frozen=True)
class Look:
    """How a model is drawn, the same in every figure.

    Args:
        colour: hexadecimal.
        line: matplotlib's line style; dashed for a model that is not trained.
    """

    colour: str
    line: Any

    @property
    def css(self) -> str:
        """The line's style as a CSS border style."""
        return "solid" if self.line == "-" else "dashed" if self.line == DASHES[1] else "dotted"


@dataclass(frozen=True)
class Picture:
    """An image in the page.

    Args:
        source: ``data:`` address of the image.
        description: for readers who do not see it.
        caption: the sentence below.
        width: in CSS pixels.
    """

    source: str
    description: str
    caption: str = ""
    width: int = 1200


def looks(trained: Mapping[str, bool]) -> dict[str, Look]:
    """The look of each model; ``trained`` says for each name whether it is trained.

    >>> looks({"flow": True, "copula": False})["flow"].css
    'solid'
    """
    found: dict[str, Look] = {}
    for i, (name, trains) in enumerate(trained.items()):
        lines = [DASHES[0 if trains else 1], DASHES[2], DASHES[1 if trains else 0]]
        choice = [Look(COLOURS[i % len(COLOURS)], line) for line in lines]
        found[name] = next((look for look in choice if look not in found.values()), choice[0])
    return found


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for the time of drawing."""
    with mpl.rc_context():
        ticks: dict[str, Any] = {"direction": "in", "labelsize": 7.5, "color": "#333333"}
        mpl.rc("font", family="DejaVu Sans", size=8.5)
        mpl.rc("mathtext", fontset="dejavusans")
        mpl.rc("text", color="#222222", usetex=False)
        mpl.rc("axes", titlesize=9, labelsize=8.5, linewidth=0.8, edgecolor="#333333", labelcolor="#222222")
        mpl.rc("axes.formatter", limits=(-3, 4), use_mathtext=True)
        mpl.rc("xtick", top=True, **ticks)
        mpl.rc("ytick", right=True, **ticks)
        mpl.rc("lines", linewidth=1.3)
        yield


def two_panels(figure: Figure, place: SubplotSpec, heights: tuple[float, float]) -> tuple[Axes, Axes]:
    """Two axes, one above the other, that share the x axis; only the lower one has labels there."""
    spec = place.subgridspec(2, 1, height_ratios=heights, hspace=0.06)
    lower = figure.add_subplot(spec[1])
    upper = figure.add_subplot(spec[0], sharex=lower)
    upper.tick_params(labelbottom=False)
    return upper, lower


def label(text: str) -> str:
    r"""A label for matplotlib: mathematics if it is valid, else every ``$`` as it stands.

    >>> label("$p_T$ [GeV]"), label("$5 $notmath{$")
    ('$p_T$ [GeV]', '\\$5 \\$notmath{\\$')
    """
    if text.count("$") >= 2:
        try:
            _math.parse(text)
        except ValueError:
            return text.replace("$", r"\$")
        return text
    return text.replace("$", r"\$")


def picture(
    figure: Figure,
    description: str,
    caption: str = "",
    *,
    dpi: float = DPI,
    width: int | None = None,
    tight: bool = False,
) -> Picture:
    """A figure as a PNG inside the page.

    Args:
        figure: what to draw.
        description: for readers who do not see it.
        caption: the sentence below.
        dpi: dots per inch.
        width: in CSS pixels; by default the figure's share of the page.
        tight: whether to cut empty margins away.
    """
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # a name in a script that the font lacks: the page's own legend spells it out
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(stream, format="png", dpi=dpi, bbox_inches="tight" if tight else None)
    source = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return Picture(source, description, caption, width or round(1200 * min(figure.get_figwidth() / WIDTH, 1.0)))


def grid_shape(n: int, columns: Sequence[int] = (3, 4)) -> tuple[int, int]:
    """Rows and columns for ``n`` panels, the number of columns being the one that leaves fewest places empty.

    >>> grid_shape(6), grid_shape(8), grid_shape(2)
    ((2, 3), (2, 4), (1, 2))
    """
    if n <= columns[0]:
        return 1, n
    best = min(columns, key=lambda c: (-(-n // c) * c - n, c))
    return -(-n // best), best


def short(name: str, columns: int) -> str:
    r"""A name that fits above one of so many columns of a figure, in at most two lines.

    >>> short("born machine, gaussian frame", 8)
    'born machine,\ngaussian frame'
    >>> short("independent marginals of the incident energy", 8)
    'independent\nmarginals of …'
    """
    return "\n".join(textwrap.wrap(name, max(9, 120 // columns), max_lines=2, placeholder=" …"))
