"""``MetricTable``: every metric's value beside its floor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qgen.metrics.result import MetricResult
from qgen.text import unknown

__all__ = ["MetricRow", "MetricTable", "Refusal"]


@dataclass(frozen=True)
class MetricRow:
    """One metric of one generator.

    Args:
        generator: its name, empty if only one was scored and no name given.
        metric: the metric's name.
        feature: the feature's name for a metric per feature, empty for the metric's (mean) value.
        value: between truth and generated events.
        floor: between truth and as many other true events: what a perfect generator would score.
        target: the value without fluctuations.
        n_events: events in each of the samples compared.
        bin: of the condition, empty for all events.
    """

    generator: str
    metric: str
    feature: str
    value: MetricResult
    floor: MetricResult
    target: float
    n_events: int
    bin: str = ""

    @property
    def name(self) -> str:
        """``metric``, or ``metric/feature``; of a bin of a condition, ``metric/feature @ bin``."""
        name = f"{self.metric}/{self.feature}" if self.feature else self.metric
        return f"{name} @ {self.bin}" if self.bin else name

    @property
    def pull(self) -> float | None:
        """``(value - floor) / uncertainty``, the uncertainty that of the difference; None where that is no number."""
        sigma = math.hypot(self.value.uncertainty, self.floor.uncertainty)
        difference = self.value.value - self.floor.value
        return difference / sigma if sigma > 0 and math.isfinite(difference) and math.isfinite(sigma) else None

    def to_dict(self) -> dict[str, Any]:
        """``value``, ``uncertainty``, ``floor`` and ``floor_uncertainty``, and what else the value has.

        That is ``p_value``, ``interval`` and ``extrapolated``.
        """
        return {
            **self.value.to_dict(),
            "floor": self.floor.value,
            "floor_uncertainty": self.floor.uncertainty,
        }


@dataclass(frozen=True)
class Refusal:
    """A metric that could not judge a generator's events, and why.

    >>> print(Refusal("flow", "kpd", "", "kpd is not finite"))
    flow: kpd is not finite
    """

    generator: str
    metric: str
    bin: str
    reason: str

    def __str__(self) -> str:
        where = f" ({self.bin})" if self.bin else ""
        return f"{self.generator}: {self.reason}{where}" if self.generator else f"{self.reason}{where}"


@dataclass(frozen=True)
class MetricTable:
    """Rows of one or several generators scored against the same truth; made by :func:`qgen.metrics.evaluate`.

    Args:
        rows: what was found.
        refused: metrics of a group, not asked for by name, that could not judge the events of a generator.

    >>> row = MetricRow("flow", "ks", "", MetricResult(0.051, 0.004), MetricResult(0.02, 0.005), 0.0, 1000)
    >>> table = MetricTable((row,))
    >>> print(table["ks"].value)
    0.051 ± 0.004
    >>> table.to_dict()
    {'flow': {'ks': {'value': 0.051, 'uncertainty': 0.004, 'floor': 0.02, 'floor_uncertainty': 0.005}}}
    >>> print(table)
    generator  metric  value          truth vs truth
    flow       ks      0.051 ± 0.004  0.02 ± 0.005
    """

    rows: tuple[MetricRow, ...]
    refused: tuple[Refusal, ...] = ()

    def __iter__(self) -> Iterator[MetricRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def generators(self) -> list[str]:
        """Names of the generators, in the order given."""
        return list(dict.fromkeys(row.generator for row in self.rows))

    def of(self, generator: str) -> MetricTable:
        """The rows of one generator.

        Raises:
            ValueError: no such generator.
        """
        if generator not in self.generators:
            raise ValueError(f"no generator {generator!r} in the table; generators are {', '.join(self.generators)}")
        refused = tuple(one for one in self.refused if one.generator == generator)
        return MetricTable(tuple(row for row in self.rows if row.generator == generator), refused)

    def summary(self) -> MetricTable:
        """The rows of whole metrics, those of single features left out."""
        return MetricTable(tuple(row for row in self.rows if not row.feature), self.refused)

    def __getitem__(self, name: str) -> MetricRow:
        """The row ``metric`` or ``metric/feature`` of a table of one generator.

        Raises:
            ValueError: no such row, or several generators (choose with :meth:`of`).
        """
        if len(self.generators) > 1:
            raise ValueError(f"the table holds {', '.join(self.generators)}; choose one with .of(name)")
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(unknown("row", name, (row.name for row in self.rows)))

    def to_dict(self) -> dict[str, Any]:
        """``{"metric" or "metric/feature": {"value", "uncertainty", "floor", "floor_uncertainty"}}``, JSON values.

        Where generators have names, one such dictionary under each name.
        """
        if self.generators == [""]:
            return {row.name: row.to_dict() for row in self.rows}
        return {name: {row.name: row.to_dict() for row in self.of(name)} for name in self.generators}

    def __str__(self) -> str:
        lines = [("generator", "metric", "value", "truth vs truth")]
        lines += [(row.generator, row.name, str(row.value), str(row.floor)) for row in self.rows]
        if self.generators == [""]:
            lines = [("", *line[1:]) for line in lines]
        widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True) if width).rstrip()
            for line in lines
        )
