"""What a search may vary: parameters of a model's section with their ranges, or with the values to choose from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from qgen.plain import read_yaml
from qgen.text import unknown

__all__ = ["Range", "Space", "at", "default_space", "place", "plain_space", "read_space"]


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Args:
        low: smallest.
        high: largest.
        log: whether each factor, not each difference, is equally likely.
    """

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only, as both its ends are."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


Space = dict[str, Range | list[Any]]
"""A range, or the values to choose from, for each place in a model's section, ``training.learning_rate``."""


def read_space(section: Any, where: str) -> Space:
    """A section ``tune``: for each parameter a list of values, or ``{low: ..., high: ..., log: true}``.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.

    >>> read_space({"layers": [1, 2], "learning_rate": {"low": 0.001, "high": 0.1, "log": True}}, "tune")
    {'layers': [1, 2], 'learning_rate': Range(low=0.001, high=0.1, log=True)}
    """
    if not isinstance(section, Mapping) or not section:
        raise ValueError(f"{where}: found {section!r}; expected parameters, each with values or with low and high")
    return {str(name): _read(value, f"{where}.{name}") for name, value in section.items()}


def _read(value: Any, where: str) -> Range | list[Any]:
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{where}: empty; at least one value is needed")
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: found {value!r}; expected a list of values, or low and high")
    for key in value:
        if key not in ("low", "high", "log"):
            raise ValueError(f"{where}: {unknown('key', key, ('low', 'high', 'log'))}")
    low, high = (_number(value.get(key), f"{where}.{key}") for key in ("low", "high"))
    log = value.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{where}.log: found {log!r}; expected true or false")
    if not low < high:
        raise ValueError(f"{where}: low {low!r} is not below high {high!r}")
    if log and low <= 0:
        raise ValueError(f"{where}.low: found {low!r}; on a logarithmic scale it must be positive")
    return Range(low, high, log)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: found {value!r}; expected a finite number")
    return value


def plain_space(space: Space) -> dict[str, Any]:
    """As it stands in YAML; ``read_space`` reads it back."""
    return {
        name: {"low": value.low, "high": value.high, "log": value.log} if isinstance(value, Range) else value
        for name, value in space.items()
    }


@cache
def _shipped() -> dict[str, Any]:
    found: dict[str, Any] = read_yaml(files("experiments").joinpath("spaces.yaml").read_text(), "spaces.yaml")
    return found


def default_space(kind: str, objective: str) -> Space:
    """The space that comes with the lab for a kind of model, trained on a kind of objective.

    >>> default_space("flow", "nll")["training.learning_rate"].log
    True
    """
    shipped = _shipped()
    section = {**shipped["any"], **shipped["kinds"].get(kind, {}), **shipped["objectives"].get(objective, {})}
    return read_space(section, "spaces.yaml")


def at(section: Mapping[str, Any], path: str) -> Any:
    """What stands at a place of a section, None if nothing does.

    >>> at({"training": {"steps": 3}}, "training.steps")
    3
    """
    found: Any = section
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def place(section: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The section with other values at some places; the one given stays as it is.

    >>> place({"layers": 2, "training": {"steps": 3}}, {"training.steps": 5})
    {'layers': 2, 'training': {'steps': 5}}
    """
    changed = dict(section)
    for path, value in values.items():
        changed = _placed(changed, path.split("."), value)
    return changed


def _placed(section: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    inner = section.get(first)
    return {**section, first: _placed(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}
