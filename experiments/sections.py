"""A section of a configuration, checked against what it calls: a function or class with its options, or a backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from experiments.experiment import Choice
from qgen.text import is_folder_name, unknown

__all__ = ["checked_backend", "choice", "is_folder_name", "options_model", "plain_backend", "validated"]

EXPECTED = {
    "dict_type": "expected keys and values",
    "sequence_str": "expected a list",
    "is_instance_of": "expected a list",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
}
"""What pydantic says by the names of Python's types, as a user of YAML says it."""


def choice(
    section: Any,
    where: str,
    kinds: Sequence[str] | Mapping[str, Any],
    callable_of: Callable[[str], Callable[..., Any]],
    without: frozenset[str] = frozenset(),
    also: Sequence[str] = (),
) -> Choice:
    """A section with a ``kind``, its options with every default.

    Args:
        section: as it stands in the configuration.
        where: its place there, for messages.
        kinds: that are allowed.
        callable_of: what a kind calls.
        without: arguments of it that no configuration sets.
        also: keys that are taken out of the section before, named among the allowed ones.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.
    """
    if not isinstance(section, Mapping):
        raise ValueError(f"{where}: found {section!r}; expected keys and values, 'kind' among them")
    rest = dict(section)
    kind = rest.pop("kind", None)
    if kind is None:
        raise ValueError(f"{where}.kind: missing; one of {', '.join(kinds)}")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{where}.kind: {unknown('kind', kind, kinds)}")
    options = validated(options_model(callable_of(kind), without), rest, where, ("kind", *also)).model_dump(mode="json")
    return Choice(kind=kind, options=options)


@cache
def options_model(function: Callable[..., Any], without: frozenset[str] = frozenset()) -> type[BaseModel]:
    """A pydantic model of the keyword arguments that a configuration may set."""
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in without or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return create_model("Options", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)


def validated(model: type[BaseModel], values: Any, where: str, also: Sequence[str] = ()) -> Any:
    """The values as a pydantic model, or one line about the first that is wrong.

    Args:
        model: what is expected.
        values: as they stand in the configuration.
        where: their place there, for messages.
        also: keys that are taken out of them before, named among the allowed ones.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where or 'the configuration'}: found {values!r}; expected keys and values")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        parts = [str(part) if str(part).isprintable() else repr(part) for part in first["loc"]]
        place = ".".join([where, *parts] if where else parts)
        if first["type"] == "extra_forbidden":
            allowed = [*also, *_fields_at(model, first["loc"])]
            raise ValueError(f"{place}: {unknown('key', first['loc'][-1], allowed)}") from None
        found = "" if first["type"] == "missing" or not first["loc"] else f" (found {first['input']!r})"
        said = first["msg"].removeprefix("Value error, ")
        line = EXPECTED.get(first["type"], f"{said[:1].lower()}{said[1:]}")
        raise ValueError(f"{place}: {line}{found}") from None


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    for part in place[:-1]:
        inner = model.model_fields[str(part)].annotation
        if not (inspect.isclass(inner) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


def plain_backend(value: Any) -> dict[str, Any]:
    """What stands under ``backend:``, checked, with the absolute path of the jobs' folder: a run goes on from anywhere.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.

    >>> plain_backend("statevector")
    {'kind': 'statevector', 'dtype': 'complex128'}
    """
    from circuits.backends import backend_config

    plain = backend_config(value)
    if plain.get("jobs_folder") is not None:
        plain["jobs_folder"] = str(Path(plain["jobs_folder"]).absolute())
    return plain


def checked_backend(value: Any, where: str) -> dict[str, Any]:
    """The same as :func:`plain_backend`; an engine that needs nothing from outside is built on trial.

    Args:
        value: what stands under ``backend:``.
        where: what comes before ``backend`` in messages.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.
    """
    from circuits.backends import builds_alone, make_backend

    try:
        plain = plain_backend(value)
        if builds_alone(plain):
            make_backend(**plain)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None
    return plain
