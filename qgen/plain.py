"""Plain data from YAML, read the same way wherever a user writes it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml", "read_yaml_file"]

MOST_BYTES = 1_000_000
"""Of a file of YAML."""

MOST_VALUES = 100_000
"""In one, those that an alias repeats counted wherever they stand."""

LONGEST_NUMBER = 400


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, and in which ``on``, ``yes``, ``no`` and ``1:30`` are words.

    YAML 1.2 has it so; in YAML 1.1 ``1:30`` is a number to base 60.

    A key goes over what the merge key ``<<`` brings.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            merges = key_node.tag == "tag:yaml.org,2002:merge"
            key = key_node.value if merges else self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what ``<<`` brings, each key once: merges of merges would double keys without end."""
        super().flatten_mapping(node)
        kept = {
            (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (key, x) for key, x in node.value
        }
        node.value = list(kept.values())

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number; the time that a very long one takes grows with the square of its length."""
        if len(node.value) > LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "a number is too long", node.start_mark)
        return int(super().construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_WITHOUT_COLON = {
    tag: re.compile(rf"(?!.*:){pattern.pattern}", pattern.flags)
    for resolvers in yaml.SafeLoader.yaml_implicit_resolvers.values()
    for tag, pattern in resolvers
    if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, _WITHOUT_COLON.get(tag, pattern))
        for tag, pattern in resolvers
        if tag != "tag:yaml.org,2002:bool" or first in "tTfF"
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, source: str) -> Any:
    """Plain data from YAML.

    Args:
        text: YAML.
        source: where it is from, for the message.

    Raises:
        ValueError: it is not valid YAML, or a key is given twice.

    >>> read_yaml("{a: 1, b: [on, true], walltime: 02:30:00}", "here")
    {'a': 1, 'b': ['on', True], 'walltime': '02:30:00'}
    >>> read_yaml("{a: 1, a: 2}", "here")
    Traceback (most recent call last):
    ValueError: here: not valid YAML (line 1, column 8: key 'a' is given twice)
    """
    try:
        value = yaml.load(text, _Loader)
        _check_tree(value)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:  # yaml lets all through
        raise ValueError(f"{source}: not valid YAML ({_reason(error)})") from error
    return value


def read_yaml_file(path: Path) -> Any:
    """Plain data from a file of YAML in UTF-8.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is too large, not valid YAML, or a key is given twice.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path}: has {size} bytes; a configuration has at most {MOST_BYTES}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error.reason} at byte {error.start})") from error
    return read_yaml(text, str(path))


def _check_tree(value: Any) -> None:
    """Refuse a value that holds itself, by an alias, or that aliases make huge."""
    visited = itertools.count(1)

    def check(value: Any, above: tuple[Any, ...]) -> None:
        if next(visited) > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES} values, aliases counted wherever they stand")
        if isinstance(value, dict | list):
            if any(value is one for one in above):
                raise ValueError("a value holds itself")
            for inner in value.values() if isinstance(value, dict) else value:
                check(inner, (*above, value))

    check(value, ())


def _reason(error: Exception) -> str:
    """What is wrong, and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
