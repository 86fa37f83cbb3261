"""``MetricResult``: a number with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MetricResult"]


@dataclass(frozen=True)
class MetricResult:
    """A metric's value and its standard uncertainty.

    >>> print(MetricResult(0.1234, 0.0056))
    0.1234 ± 0.0056
    """

    value: float
    uncertainty: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.uncertainty:.2g}"
