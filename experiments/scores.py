"""What ``results.json`` holds, checked and typed: the numbers behind every table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

from annotated_types import Ge, MinLen
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from qgen.metrics import MetricRow

__all__ = [
    "DISCRETISED_TRUTH",
    "Floor",
    "Measured",
    "ModelScores",
    "Results",
    "Score",
    "checked",
    "measured",
    "p_text",
    "read_results",
    "score_of",
    "string_score",
]

DISCRETISED_TRUTH = "discretised truth"
"""Kind of the rows that are no model: independent true events sent through a discretiser and back."""

COMPLETED = "completed"
MOST_DECIMALS = 6

MOST_FIRST = 12
"""Most metrics that are shown at once; of more, those that are taken by default come first."""


class Measured(NamedTuple):
    """A number and its uncertainty as text, rounded alike: ``(value ± uncertainty) 10^exponent``."""

    value: str
    uncertainty: str
    exponent: int

    def parts(self) -> tuple[str, str]:
        """Value and uncertainty on their own, in plain characters."""
        power = f"e{self.exponent}" if self.exponent else ""
        return f"{self.value}{power}", f"{self.uncertainty}{power}"

    def __str__(self) -> str:
        text = f"{self.value} ± {self.uncertainty}"
        power = str(self.exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"({text})×10{power}" if self.exponent else text


def measured(value: float, uncertainty: float, digits: int = 2) -> Measured:
    """Round a number to ``digits`` digits of its uncertainty.

    Numbers below 0.001 and from 100,000 on get a power of ten in common.

    >>> print(measured(0.123456, 0.0123))
    0.123 ± 0.012
    >>> print(measured(-0.000234, 0.000051, digits=1))
    (-2.3 ± 0.5)×10⁻⁴
    >>> measured(-0.000234, 0.000051, digits=1).parts()
    ('-2.3e-4', '0.5e-4')
    """
    largest = max(abs(value), abs(uncertainty))
    if not math.isfinite(largest):
        return Measured(f"{value:.4g}", f"{uncertainty:.2g}", 0)
    order = math.floor(math.log10(largest)) if largest > 0 else 0
    exponent = order if largest > 0 and not -3 <= order < 5 else 0
    # two steps, because 10**-exponent is out of range for the smallest numbers
    half = -exponent // 2
    value, uncertainty = (x * 10.0**half * 10.0 ** (-exponent - half) for x in (value, uncertainty))
    rounded = float(f"{uncertainty:.{digits - 1}e}") if uncertainty >= 0.5 * 10.0**-MOST_DECIMALS else 0.0
    smallest = math.floor(math.log10(rounded)) if rounded > 0 else order - exponent - 2
    decimals = min(max(digits - 1 - smallest, 0), MOST_DECIMALS)
    return Measured(f"{value:.{decimals}f}", f"{uncertainty:.{decimals}f}", exponent)


def p_text(p_value: float) -> str:
    """A p-value with two digits; one that is too small for a floating-point number has a bound.

    >>> p_text(0.0312), p_text(0.0)
    ('0.031', '<1e-300')
    """
    return f"{p_value:.2g}" if p_value > 0 else "<1e-300"


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("input should be at least 0")
    return value


Deviation = Annotated[float, AfterValidator(_not_negative)]
"""A standard deviation; one that is no number stays as it is."""


class Score(BaseModel):
    """A metric of one model: its value beside its floor, and the spread between seeds if there are several.

    Args:
        value: of the metric, the mean over seeds.
        uncertainty: of it, from the finite samples.
        floor: truth against truth.
        floor_uncertainty: of it.
        spread: standard deviation between seeds; None for one.
        seeds: how many there are.
        p_value: of a two-sample test, the median over seeds; None for what is no test.
        extrapolated: the value for infinitely many events, where it is known how it falls with their number.
    """

    model_config = ConfigDict(frozen=True)
    value: float
    uncertainty: Deviation
    floor: float
    floor_uncertainty: Deviation
    spread: Deviation | None = None
    seeds: Annotated[int, Ge(1)] = 1
    p_value: float | None = None
    extrapolated: float | None = None

    @property
    def sigma(self) -> float:
        """Uncertainty of the value, which is the mean over seeds: ``sqrt(uncertainty² + spread² / seeds)``.

        The first part is that of the finite samples, the second that of the training, known from its few repetitions.

        >>> Score(value=0.5, uncertainty=0.03, floor=0.1, floor_uncertainty=0.04, spread=0.08, seeds=4).sigma
        0.05
        """
        return math.hypot(self.uncertainty, (self.spread or 0.0) / math.sqrt(self.seeds))

    @property
    def pull(self) -> float | None:
        """``(value - floor) / sqrt(sigma² + floor_uncertainty²)``; None where that is no number.

        >>> Score(value=0.5, uncertainty=0.03, floor=0.1, floor_uncertainty=0.04).pull
        8.0
        """
        return self._in_sigma(self.value - self.floor)

    def excess(self, target: float) -> float | None:
        """How much further the value is from a perfect generator's ``target`` than the floor, in the pull's unit.

        It is the pull for a distance; for a metric with its optimum inside the range (0.5 for an area under the ROC
        curve) or at the top, it counts away from the optimum.
        """
        return self._in_sigma(abs(self.value - target) - abs(self.floor - target))

    def _in_sigma(self, difference: float) -> float | None:
        sigma = math.hypot(self.sigma, self.floor_uncertainty)
        return difference / sigma if sigma > 0 and math.isfinite(difference) and math.isfinite(sigma) else None


class ModelScores(BaseModel):
    """A row of the table."""

    model_config = ConfigDict(frozen=True)
    kind: str
    n_parameters: Annotated[int, Ge(0)]
    train_seconds: float
    sample_seconds: float
    status: str
    metrics: dict[str, Score]
    cost: dict[str, float | None] = {}

    @property
    def is_model(self) -> bool:
        """Whether it is a model, not the truth sent through cells."""
        return self.kind != DISCRETISED_TRUTH

    @property
    def trouble(self) -> str:
        """What went wrong in its trainings, empty if nothing did."""
        return "; ".join(part for part in self.status.split("; ") if part != COMPLETED)

    @property
    def flags(self) -> str:
        """What went wrong in a word each, for a narrow column; empty if nothing did."""
        known = ("diverged", "collapsed", "unbalanced", "not judged", "no samples")
        words = [word for word in known if word in self.trouble]
        return ", ".join(words) or ("see below" if self.trouble else "")


class Floor(BaseModel):
    """Truth against truth, as the models ``of`` which it is the floor see it."""

    of: list[str]
    metrics: dict[str, tuple[float, float]]


class Results(BaseModel):
    """The results of a run."""

    model_config = ConfigDict(frozen=True)
    name: str
    seeds: Annotated[list[int], MinLen(1)]
    models: Annotated[dict[str, ModelScores], MinLen(1)]

    def _metrics(self) -> list[str]:
        return list(dict.fromkeys(metric for model in self.models.values() for metric in model.metrics))

    @property
    def _whole(self) -> list[str]:
        return [metric for metric in self._metrics() if "/" not in metric and "@" not in metric]

    @property
    def headline(self) -> list[str]:
        """The metrics of whole samples that are shown first: all if they are few, else those taken by default.

        Scores of strings are there because they were asked for, or are all that a model has.
        """
        from qgen.metrics import METRICS

        if len(self._whole) <= MOST_FIRST:
            return self._whole
        default = [
            metric
            for metric in self._whole
            if string_score(metric) or (metric in METRICS and METRICS[metric].by_default)
        ]
        return default or self._whole[:MOST_FIRST]

    @property
    def further(self) -> list[str]:
        """The other metrics of whole samples."""
        first = set(self.headline)
        return [metric for metric in self._whole if metric not in first]

    @property
    def per_feature(self) -> list[str]:
        """The metrics of single features, ``metric/feature``, or in bins of the condition, ``metric @ bin``."""
        whole = set(self._whole)
        return [metric for metric in self._metrics() if metric not in whole]

    @property
    def cells(self) -> dict[str, ModelScores]:
        """The truth sent through the cells of discrete models."""
        return {name: scores for name, scores in self.models.items() if not scores.is_model}

    @property
    def generators(self) -> dict[str, ModelScores]:
        """The models, in the order of the configuration."""
        return {name: scores for name, scores in self.models.items() if scores.is_model}

    @property
    def floors(self) -> list[Floor]:
        """Truth against truth: one where all models have the same, as in a run; more if samples differ in size."""
        found: list[Floor] = []
        for name, model in self.models.items():
            metrics = {metric: (score.floor, score.floor_uncertainty) for metric, score in model.metrics.items()}
            for floor in found:
                shared = metrics.keys() & floor.metrics.keys()
                if all(metrics[metric] == floor.metrics[metric] for metric in shared):
                    floor.of.append(name)
                    floor.metrics.update(metrics)
                    break
            else:
                found.append(Floor(of=[name], metrics=metrics))
        return found

    def best(self, metric: str) -> str | None:
        """The model that is nearest to the value of a perfect generator; None if no model has the metric."""
        distance = {
            name: abs(model.metrics[metric].value - target(metric))
            for name, model in self.generators.items()
            if metric in model.metrics and math.isfinite(model.metrics[metric].value)
        }
        return min(distance, key=distance.__getitem__, default=None)


def score_of(row: MetricRow) -> Score:
    """A row of :func:`qgen.metrics.evaluate` as a score."""
    return Score(
        value=row.value.value,
        uncertainty=row.value.uncertainty,
        floor=row.floor.value,
        floor_uncertainty=row.floor.uncertainty,
        p_value=row.value.p_value,
        extrapolated=row.value.extrapolated,
    )


def target(metric: str) -> float:
    """The value of a perfect generator, 0 for a metric that is not installed here.

    >>> target("classifier_auc"), target("wasserstein/pt"), target("low_level_auc/jsd")
    (0.5, 0.0, 0.0)
    """
    from qgen.metrics import METRICS

    name, _, feature = metric.split(" @ ")[0].partition("/")
    return METRICS[name].target_of(feature) if name in METRICS else 0.0


def string_score(metric: str) -> str:
    """What a score of strings is, in a line; empty for any other metric.

    >>> string_score("two_body (iqp, bitflip)")
    'Squared distance of the covariances of bits; 1 is what independent bits score.'
    """
    from qgen.bits.judging import DESCRIPTIONS

    return DESCRIPTIONS.get(metric.partition("/")[0].partition(" (")[0], "")


def read_results(results: Any, where: str = "results.json") -> Results:
    """Check and type what stands in a run's ``results.json``.

    Raises:
        ValueError: a field is missing or impossible; ``where``, the field and what was found are named.

    >>> read_results({"name": "x", "seeds": [0], "models": {}})
    Traceback (most recent call last):
    ValueError: results.json: models: dictionary should have at least 1 item after validation, not 0 (found {})
    """
    found = checked(Results, results, where)
    seeds = {"seeds": len(found.seeds)}
    models = {
        name: model.model_copy(
            update={"metrics": {metric: score.model_copy(update=seeds) for metric, score in model.metrics.items()}}
        )
        for name, model in found.models.items()
    }
    return found.model_copy(update={"models": models})


_Model = TypeVar("_Model", bound=BaseModel)


def checked(model: type[_Model], value: Any, where: str) -> _Model:
    """What stands in a file of results, as the type that it should have.

    Raises:
        ValueError: a field is missing or impossible; ``where``, the field and what was found are named.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: found {type(value).__name__}; expected the results of a run")
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        found = "" if first["type"] == "missing" else f" (found {str(first['input'])[:80]})"
        raise ValueError(f"{where}: {place}: {first['msg'][:1].lower()}{first['msg'][1:]}{found}") from None
