"""Filters of lists of runs: ``model=flow``, ``metric<0.1``, ``status=unfinished``, ``models.flow.layers>=2``.

A filter is a field, an operator and a value; nothing of it is ever run. Several must all hold.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.runs import Entry
from qgen.text import unknown

__all__ = ["FIELDS", "Filter", "chosen", "in_order", "read_age", "read_filter"]

FIELDS = ("name", "folder", "what", "status", "model", "models", "seed", "seeds", "size", "age", "metric")
"""Fields that every entry has; others are metrics by name, and places in the configuration by path."""

OPERATORS = ("!=", "<=", ">=", "=", "<", ">", "~")

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
UNITS = {"age": SECONDS, "size": BYTES}

LONGEST = 200

_TERM = re.compile(r"([^!<>=~]+?)\s*(!=|<=|>=|=|<|>|~)\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([A-Za-z]*)")


@dataclass(frozen=True)
class Filter:
    """One condition.

    Args:
        field: what of an entry is compared.
        operator: ``=`` and ``!=`` compare texts and numbers, ``~`` looks for a part of a text, the others numbers.
        value: as it was written.
        number: the value as a number, in seconds or bytes where the field is a time or a size; None if it is none.
    """

    field: str
    operator: str
    value: str
    number: float | None

    def holds(self, entry: Entry, metric: str | None = None) -> bool:
        """Whether an entry is wanted; one without the field is not, whatever the operator.

        Args:
            entry: a run, sweep or search.
            metric: that ``metric`` stands for; the first of the entry if not given.
        """
        found = _values(entry, self.field, metric)
        if self.operator == "!=":
            return bool(found) and not any(self._equal(value) for value in found)
        return any(self._compares(value) for value in found)

    def _compares(self, value: Any) -> bool:
        if self.operator == "=":
            return self._equal(value)
        if self.operator == "~":
            return self.value.casefold() in _text(value).casefold()
        number = _number(value)
        if number is None or self.number is None:
            return False
        compared = {"<": number < self.number, "<=": number <= self.number, ">": number > self.number}
        return compared.get(self.operator, number >= self.number)

    def _equal(self, value: Any) -> bool:
        number = _number(value)
        return _text(value) == self.value or (number is not None and number == self.number)


def read_filter(text: str) -> Filter:
    """A filter from its text.

    Raises:
        ValueError: it is no filter, or a number is needed and none is given.

    >>> read_filter("age>30d")
    Filter(field='age', operator='>', value='30d', number=2592000.0)
    >>> read_filter("status")
    Traceback (most recent call last):
    ValueError: filter 'status': expected FIELD OPERATOR VALUE, with an operator of != <= >= = < > ~
    """
    found = _TERM.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if found is None:
        shown = text if len(text) <= LONGEST else f"{text[:20]}..."
        raise ValueError(f"filter {shown!r}: expected FIELD OPERATOR VALUE, with an operator of {' '.join(OPERATORS)}")
    field, operator, value = (part.strip() for part in found.groups())
    number = _with_unit(value, UNITS.get(field, {}))
    if number is None and operator in ("<", "<=", ">", ">="):
        units = f", with a unit of {' '.join(UNITS[field])} or none" if field in UNITS else ""
        raise ValueError(f"filter {text!r}: {operator} needs a number{units}, found {value!r}")
    return Filter(field, operator, value, number)


def read_age(text: str) -> float:
    """A time as seconds.

    Raises:
        ValueError: it is none.

    >>> read_age("30d")
    2592000.0
    """
    seconds = _with_unit(text.strip(), SECONDS)
    if seconds is None or seconds < 0:
        raise ValueError(f"{text!r} is no time; expected a number and one of {' '.join(SECONDS)}, as 30d")
    return seconds


def chosen(entries: Sequence[Entry], filters: Sequence[Filter], metric: str | None = None) -> list[Entry]:
    """The entries of which all filters hold.

    Raises:
        ValueError: a field that no entry can have.
    """
    for one in filters:
        _check_field(one.field, entries)
    if metric is not None:
        _check_field(metric, entries)
    return [entry for entry in entries if all(one.holds(entry, metric) for one in filters)]


def in_order(entries: Sequence[Entry], field: str, metric: str | None = None) -> list[Entry]:
    """The entries sorted by a field, with ``-`` before it from the largest; those without it come last.

    Raises:
        ValueError: a field that no entry can have.
    """
    name, down = field.removeprefix("-"), field.startswith("-")
    _check_field(name, entries)
    keyed = [(_key(entry, name, metric), entry) for entry in entries]
    there = sorted(((key, entry) for key, entry in keyed if key is not None), key=lambda one: one[0], reverse=down)
    return [entry for _, entry in there] + [entry for key, entry in keyed if key is None]


def _key(entry: Entry, field: str, metric: str | None) -> tuple[int, float, str] | None:
    """Numbers before texts; None for nothing."""
    found = _values(entry, field, metric)
    if not found:
        return None
    number = _number(found[0])
    if number is not None:
        return None if math.isnan(number) else (0, number, "")
    return (1, 0.0, _text(found[0]))


def _check_field(field: str, entries: Sequence[Entry]) -> None:
    metrics = list(dict.fromkeys(metric for entry in entries for metric in entry.metrics))
    if field not in FIELDS and field not in metrics and "." not in field and entries:
        raise ValueError(unknown("field", field, [*FIELDS, *metrics]) + "; or a place in the configuration, as a.b")


def _values(entry: Entry, field: str, metric: str | None) -> list[Any]:
    """What an entry has of a field; several where it has several models or seeds."""
    simple: dict[str, list[Any]] = {
        "name": [entry.name],
        "folder": [str(entry.folder), entry.folder.name],
        "what": [entry.what],
        "status": [entry.status],
        "model": [*entry.models, *entry.models.values()],
        "models": [len(entry.models)],
        "seed": list(entry.seeds),
        "seeds": [len(entry.seeds)] if entry.seeds else [],
        "size": [entry.size],
        "age": [max(0.0, time.time() - entry.when)],
    }
    if field in simple:
        return simple[field]
    if field == "metric" or field in entry.metrics:
        best = entry.best(metric if field == "metric" else field)
        return [] if best is None else [best[2].value]
    return [entry.config[field]] if "." in field and field in entry.config else []


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: Any) -> str:
    """As it is written in YAML."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_unit(text: str, units: dict[str, float]) -> float | None:
    found = _NUMBER.fullmatch(text)
    if found is None or (found[2] and found[2] not in units):
        return None
    return float(found[1]) * (units[found[2]] if found[2] else 1.0)
