"""Plain data from YAML, read the same way wherever a user writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml", "read_yaml_file"]


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, and in which ``on``, ``yes`` and ``no`` are words (as in YAML 1.2).

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


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(text: str, source: str) -> Any:
    """Plain data from YAML.

    Args:
        text: YAML.
        source: where it is from, for the message.

    Raises:
        ValueError: it is not valid YAML, or a key is given twice.

    >>> read_yaml("{a: 1, b: [on, true]}", "here")
    {'a': 1, 'b': ['on', True]}
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
        ValueError: it is not valid YAML, or a key is given twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file ({error.reason} at byte {error.start})") from error
    return read_yaml(text, str(path))


def _check_tree(value: Any, above: tuple[Any, ...] = ()) -> None:
    """Refuse a value that holds itself, by an alias."""
    if isinstance(value, dict | list):
        if any(value is one for one in above):
            raise ValueError("a value holds itself")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_tree(inner, (*above, value))


def _reason(error: Exception) -> str:
    """What is wrong, and where, in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
