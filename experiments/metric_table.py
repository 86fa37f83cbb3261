"""The table of ``qgen evaluate`` for the terminal, as far as its width goes."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from experiments.scores import measured, p_text, score_of
from qgen.metrics import METRICS, MetricRow, MetricTable

__all__ = ["metric_table"]

FLOOR = "truth vs truth"

MOST_LINES = 100
"""Single features are shown in tables that are not longer."""

GAP = 2
"""Between columns."""
EDGES = 2
NARROWEST = 16
"""Width that metrics' names get in any case."""
STRIKING = 3.0
"""Pulls from here on are bold."""


def metric_table(table: MetricTable) -> RenderableType:
    """The rows of :func:`qgen.metrics.evaluate`: value, floor, pull; generators below each other, metric by metric.

    A table of its own for each bin of a condition. The value for infinitely many events and p-values have columns
    where any row has them. A narrow terminal goes without these, the unit and the number of events, as far as need be.
    Single features stand below their metric, unless the whole has more than 100 lines.
    """
    rows = list(table)
    short = len(rows) > MOST_LINES and any(row.feature for row in rows)
    shown = [row for row in rows if not (short and row.feature)]
    parts = [
        _Part(label, tuple(row for row in shown if row.bin == label), len(table.generators) > 1)
        for label in dict.fromkeys(row.bin for row in shown)
    ]
    hidden = [Text(f"{len(rows) - len(shown)} rows of single features are left out; --out has them all")]
    return Group(*parts, *(hidden if short else []))


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: list[str]
    justify: Literal["left", "right"] = "right"
    strike: bool = False

    @property
    def width(self) -> int:
        return max(cell_len(line) for text in (self.heading, *self.cells) for line in text.split("\n"))


@dataclass(frozen=True)
class _Part:
    """Rows of one bin of a condition, or of all events, by metric and feature."""

    label: str
    rows: tuple[MetricRow, ...]
    named: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self._ordered()
        scores = [score_of(row) for row in rows]
        names = [f"  {row.feature}" if row.feature else row.metric for row in rows]
        news = [
            k == 0 or (rows[k - 1].metric, rows[k - 1].feature) != (r.metric, r.feature) for k, r in enumerate(rows)
        ]
        needed = [
            *([_Column("generator", [row.generator for row in rows], "left")] if self.named else []),
            _Column("value", [str(measured(s.value, s.uncertainty)) for s in scores]),
            _Column(FLOOR, [str(measured(s.floor, s.floor_uncertainty)) for s in scores]),
            _Column("pull", ["–" if s.pull is None else f"{s.pull:+.1f}" for s in scores], strike=True),
        ]
        further = [
            _Column("p", ["" if s.p_value is None else p_text(s.p_value) for s in scores]),
            _Column(
                "N → ∞",
                ["" if s.extrapolated is None else measured(s.extrapolated, s.uncertainty).parts()[0] for s in scores],
            ),
            _Column("unit", [_unit(row) if new else "" for row, new in zip(rows, news, strict=True)], "left"),
            _Column("events", [str(row.n_events) for row in rows]),
        ]
        longest = max(map(cell_len, names))
        free = options.max_width - EDGES - sum(column.width + GAP for column in needed)
        wanted = min(longest, max(NARROWEST, free))
        taken, left_out = list(needed), []
        free -= wanted
        for column in further:
            if not any(column.cells):
                continue
            if column.width + GAP <= free:
                taken.append(column)
                free -= column.width + GAP
            else:
                left_out.append(column.heading)
        drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP - 1, 0, 0))
        drawn.add_column("metric", overflow="fold", width=wanted)
        for column in taken:
            drawn.add_column(column.heading, justify=column.justify, overflow="fold")
        for k, row in enumerate(rows):
            style = "" if row.feature else "bold"
            pull = scores[k].pull
            strike = "bold" if pull is not None and abs(pull) >= STRIKING else ""
            drawn.add_row(
                Text(_folded(names[k], wanted) if news[k] else "", style),
                *(Text(column.cells[k], strike if column.strike else "") for column in taken),
            )
        if self.label:
            yield Text(f"\n{self.label}", "bold")
        yield drawn
        if left_out:
            yield Text(f"no room for: {', '.join(left_out)}; a wider terminal, --out and --report have them", "dim")

    def _ordered(self) -> list[MetricRow]:
        """Generators below each other; each metric's own rows before those of its features."""
        metrics = list(dict.fromkeys(row.metric for row in self.rows))
        features = list(dict.fromkeys((row.metric, row.feature) for row in self.rows))
        return sorted(
            self.rows,
            key=lambda row: (metrics.index(row.metric), bool(row.feature), features.index((row.metric, row.feature))),
        )


def _folded(name: str, width: int) -> str:
    """A name in lines of at most this width where its words allow.

    >>> _folded("image_distribution_entropy", 20)
    'image_distribution_\\n  entropy'
    """
    lines = [""]
    for word in re.findall(r"[^_ ]*[_ ]?", name):
        if lines[-1].strip() and cell_len(lines[-1] + word) > width:
            lines.append("  ")
        lines[-1] += word
    return "\n".join(lines)


def _unit(row: MetricRow) -> str:
    """Of a metric as a whole, in short lines."""
    unit = METRICS[row.metric].unit if row.metric in METRICS and not row.feature else ""
    return "\n".join(textwrap.wrap(unit, 20))
