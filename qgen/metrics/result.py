"""``MetricResult``: a number with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["MetricResult"]


@dataclass(frozen=True)
class MetricResult:
    """A metric's value and its standard uncertainty.

    Args:
        value: of the metric.
        uncertainty: one standard deviation.
        p_value: of a two-sample test, the probability of a value at least as large if both samples had one
            distribution; None for what is no test.
        interval: lower and upper end at 68.3 % confidence where it is not symmetric; None where it is.
        extrapolated: the value for infinitely many events, where the bias of finite samples is known to fall as a power
            of their number; None elsewhere.

    >>> print(MetricResult(0.1234, 0.0056))
    0.1234 ± 0.0056
    >>> print(MetricResult(0.1234, 0.0056, p_value=0.02))
    0.1234 ± 0.0056 (p = 0.02)
    """

    value: float
    uncertainty: float
    p_value: float | None = None
    interval: tuple[float, float] | None = None
    extrapolated: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """``value`` and ``uncertainty``, and what else there is."""
        found: dict[str, Any] = {"value": self.value, "uncertainty": self.uncertainty}
        if self.p_value is not None:
            found["p_value"] = self.p_value
        if self.interval is not None:
            found["interval"] = list(self.interval)
        if self.extrapolated is not None:
            found["extrapolated"] = self.extrapolated
        return found

    def __str__(self) -> str:
        p = "" if self.p_value is None else f" (p = {self.p_value:.2g})"
        return f"{self.value:.4g} ± {self.uncertainty:.2g}{p}"
