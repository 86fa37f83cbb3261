"""What a sweep varies: paths into a configuration, each with its values; a grid is their product."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from qgen.plain import read_yaml

__all__ = ["MOST_POINTS", "Grid", "Point", "count", "joined", "plain_value", "point_text", "points", "read_grids"]

MOST_POINTS = 100_000
"""Points of a sweep; one of more is split into several."""

Grid = dict[str, list[Any]]
"""The values of each path; every combination of them is a point."""

Point = dict[str, Any]
"""One value for each path."""

RANGE = re.compile(r"\s*([+-]?\d+):([+-]?\d+)(?::([+-]?\d+))?\s*")
EXPONENT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+\s*")


def read_grids(value: Any, where: str = "grid") -> list[Grid]:
    """The grids of a sweep; its points are those of all of them.

    Args:
        value: one grid or several: for each path a list of values, or a text as :func:`read_values` takes it; or
            texts ``path=values``, which together are one grid.
        where: its place, for messages.

    Raises:
        ValueError: what is wrong with which path.

    >>> read_grids(["model.layers=2,4", "seed=0:3"])
    [{'model.layers': [2, 4], 'seed': [0, 1, 2]}]
    >>> read_grids({"dataset.n": [100, 200]})
    [{'dataset.n': [100, 200]}]
    """
    if isinstance(value, Mapping):
        return [_grid(value.items(), where)]
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ValueError(f"{where}: found {value!r}; expected paths, each with its values")
    if all(isinstance(one, str) for one in value):
        return [_grid(map(_parted, value), where)]
    grids = [_grid(one.items(), where) if isinstance(one, Mapping) else None for one in value]
    if None in grids:
        raise ValueError(f"{where}: found {value!r}; expected paths, each with its values")
    found = joined([], [grid for grid in grids if grid is not None])
    if (number := count(found)) > MOST_POINTS:
        raise ValueError(f"{where}: {number} points; at most {MOST_POINTS} are taken, split the sweep")
    return found


def read_values(text: str, where: str) -> list[Any]:
    """Values from a line: YAML between commas, and ranges of integers ``a:b`` or ``a:b:step`` without their end.

    Args:
        text: the line.
        where: what comes before it in messages.

    Raises:
        ValueError: it is no such line, or it holds too many values.

    >>> read_values("2, 4:7, 1e-3, adam, null, [8, 8], '0:3'", "x")
    [2, 4, 5, 6, 0.001, 'adam', None, [8, 8], '0:3']
    >>> read_values("10:0:-5", "x")
    [10, 5]
    """
    mistake = ValueError(f"{where}: found {_short(text)}; expected values between commas, or a:b")
    try:
        node = yaml.compose(f"[{text}]", yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise mistake from error
    if not isinstance(node, yaml.SequenceNode):
        raise mistake
    found: list[Any] = []
    for item in node.value:
        part = f"[{text}]"[item.start_mark.index : item.end_mark.index]
        plain = isinstance(item, yaml.ScalarNode) and item.style is None
        if plain and (match := RANGE.fullmatch(part)):
            found += _range(match, where)
        else:
            found.append(float(part) if plain and EXPONENT.fullmatch(part) else read_yaml(part, where))
        if len(found) > MOST_POINTS:
            raise ValueError(f"{where}: more than {MOST_POINTS} values, which is the most of a sweep")
    return found


def points(grid: Grid) -> Iterator[Point]:
    """Every combination, one at a time; the last path changes first.

    >>> list(points({"model.layers": [1, 2], "seed": [0]}))
    [{'model.layers': 1, 'seed': 0}, {'model.layers': 2, 'seed': 0}]
    """
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def count(grids: Iterable[Grid]) -> int:
    """How many points grids have, without making one."""
    return sum(math.prod(len(values) for values in grid.values()) for grid in grids)


def joined(grids: Sequence[Grid], more: Sequence[Grid]) -> list[Grid]:
    """Grids and further ones; a grid that lies within another is left out.

    >>> joined([{"seed": [0, 1]}], [{"seed": [0, 1, 2]}, {"seed": [1]}, {"dataset.n": [100]}])
    [{'seed': [0, 1, 2]}, {'dataset.n': [100]}]
    """
    found = list(grids)
    for grid in more:
        if not any(_within(grid, other) for other in found):
            found = [other for other in found if not _within(other, grid)] + [grid]
    return found


def point_text(point: Mapping[str, Any]) -> str:
    """A point in a line.

    >>> point_text({"model.layers": 2, "model.code": "gray", "seed": None})
    'model.layers=2, model.code=gray, seed=null'
    """
    return ", ".join(f"{path}={plain_value(value)}" for path, value in point.items())


def plain_value(value: Any) -> str:
    """A value as text: words as they stand, all else as JSON."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)


def _parted(text: str) -> tuple[str, str]:
    path, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"--grid {text!r}: expected a path and its values, model.layers=2,4,8")
    return path.strip(), values


def _grid(entries: Iterable[tuple[Any, Any]], where: str) -> Grid:
    grid: Grid = {}
    for path, values in entries:
        place = f"{where} {path}"
        if not isinstance(path, str) or not all(path.split(".")) or not path.isprintable():
            raise ValueError(f"{where}: {path!r} is no path; expected one like model.layers")
        if path in grid:
            raise ValueError(f"{place}: given twice")
        if isinstance(values, str):
            values = read_values(values, place)
        elif isinstance(values, range):
            if len(values) > MOST_POINTS:
                raise ValueError(f"{place}: {len(values)} values; at most {MOST_POINTS} are taken")
            values = list(values)
        elif isinstance(values, list | tuple):
            values = [float(v) if isinstance(v, str) and EXPONENT.fullmatch(v) else v for v in values]
        else:
            raise ValueError(f"{place}: found {values!r}; expected a list of values, or a range in quotes, '0:10'")
        if not values:
            raise ValueError(f"{place}: no values")
        _check_values(values, place)
        grid[path] = values
    if not grid:
        raise ValueError(f"{where}: nothing is varied; expected paths, each with its values")
    if (number := count([grid])) > MOST_POINTS:
        raise ValueError(f"{where}: {number} points; at most {MOST_POINTS} are taken, split the sweep")
    return grid


def _check_values(values: Sequence[Any], where: str) -> None:
    seen = set()
    for value in values:
        try:
            key = json.dumps(value, sort_keys=True)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: found {value!r}; expected numbers, words, lists, keys and values") from error
        if key in seen:
            raise ValueError(f"{where}: {plain_value(value)} is given twice")
        seen.add(key)


def _range(match: re.Match[str], where: str) -> range:
    try:
        start, stop = int(match[1]), int(match[2])
        step = int(match[3]) if match[3] else 1
        found = range(start, stop, step)
        number = len(found)
    except (ValueError, OverflowError) as error:  # a step of 0, or more digits than an integer may have
        raise ValueError(f"{where}: found {_short(match[0])}; expected a:b or a:b:step, the step not 0") from error
    if not number:
        raise ValueError(f"{where}: the range {_short(match[0])} is empty, it goes up to its end without it")
    if number > MOST_POINTS:
        raise ValueError(f"{where}: {number} values; at most {MOST_POINTS} are taken, split the sweep")
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _within(grid: Grid, other: Grid) -> bool:
    """Whether all points of a grid are points of another."""
    if grid.keys() != other.keys():
        return False
    keys = {path: {json.dumps(value, sort_keys=True) for value in values} for path, values in other.items()}
    return all(json.dumps(value, sort_keys=True) in keys[path] for path, values in grid.items() for value in values)
