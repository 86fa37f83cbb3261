"""Which kinds of generators exist: those that installed packages declare, and those registered at run time.

A package declares its models in its ``pyproject.toml``::

    [project.entry-points."qgen.generators"]
    my_model = "my_package.my_module:MyGenerator"

after which ``kind: my_model`` works in configurations and saved models of that kind load.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from qgen.data.transforms import Transform
from qgen.generator import Generator
from qgen.text import unknown

__all__ = ["from_spec", "generator_class", "generators", "kind_of", "register", "to_spec"]

_registered: dict[str, type[Generator]] = {}


@cache
def _declared() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="qgen.generators")}


def generators() -> list[str]:
    """The kinds of generators that exist, sorted.

    >>> "born_machine" in generators()
    True
    """
    return sorted({*_declared(), *_registered})


def register(kind: str, cls: type[Generator]) -> None:
    """Make a generator class known under ``kind`` in this process.

    Raises:
        ValueError: the kind is taken by another class.
    """
    if kind in _declared() or _registered.get(kind, cls) is not cls:
        raise ValueError(f"generator kind {kind!r} is taken; kinds are {', '.join(generators())}")
    _registered[kind] = cls


def generator_class(kind: str) -> type[Generator]:
    """The class of a kind.

    Raises:
        ValueError: no such kind; the nearest one is suggested.

    >>> generator_class("flow").__name__
    'ConditionalFlow'
    """
    if kind in _registered:
        return _registered[kind]
    if kind not in _declared():
        raise ValueError(unknown("generator kind", kind, generators()))
    cls: type[Generator] = _declared()[kind].load()
    return cls


def kind_of(generator: Generator) -> str:
    """The kind under which a generator's class is known.

    Raises:
        ValueError: its class is not registered.
    """
    cls = type(generator)
    for kind, known in _registered.items():
        if known is cls:
            return kind
    for kind, entry in _declared().items():
        if entry.attr == cls.__name__ and cls.__module__.startswith(entry.module) and entry.load() is cls:
            return kind
    raise ValueError(
        f"{cls.__name__} is no registered kind of generator; call qgen.registry.register(kind, class) first"
    )


def to_spec(generator: Generator) -> dict[str, Any]:
    """All that rebuilds a generator except its weights, as JSON values."""
    return {
        "kind": kind_of(generator),
        "arguments": generator.arguments(),
        "transform": generator.transform.spec(),
        "condition_transform": generator.condition_transform.spec(),
    }


def from_spec(spec: dict[str, Any]) -> Generator:
    """The generator that :func:`to_spec` described, with fresh weights.

    Raises:
        ValueError: an unknown kind, or arguments that its class refuses.
    """
    return generator_class(spec["kind"]).from_arguments(
        spec["arguments"], Transform.from_spec(spec["transform"]), Transform.from_spec(spec["condition_transform"])
    )
