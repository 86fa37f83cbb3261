"""What the lab holds, as tables for the terminal: every kind with the options that a configuration may set."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types
from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from qgen.metrics import Metric

__all__ = ["CATALOGUES", "catalogue", "first_line", "options_of", "type_text"]

_BOUNDS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}

_WORDS = {
    "noise": "keys and values of a noise model, or the name of a device",
    "options": "keys and values, as the device takes them",
    "sampler": "runtime, or what fits the device",
    "optimization_level": "0|1|2|3; 1, and with noise 0, if not given",
    "jobs_folder": "folder, or none",
    "memory_limit": "bytes; what is free if not given",
    "retry_wait": "seconds",
}
"""What options of backends may be, where their types do not tell it."""

_PARTS = {
    "discriminator": "one of `qgen list discriminators`, a name or {kind: ..., options} = mlp",
    "parts": "list of objectives, each {kind: ..., options, weight: ...}",
    "backend": "as `backend` of a model; exact if not given",
}
"""What options of objectives and discriminators may be that hold others."""

_DEVICES = {"cpu": "cpu, cuda or cuda:N; where the model is if not given", None: "name of a device = aer"}
"""What the device of a backend may be, by its default."""


def catalogue(what: str) -> Table:
    """What there is of models, ansatze, datasets, metrics, backends, experiments, objectives, discriminators, studies.

    A row each, with the first line of its documentation and, where a configuration may set them, its options with their
    types and defaults.

    Raises:
        ValueError: ``what`` is none of these.
    """
    if what not in CATALOGUES:
        from qgen.text import unknown

        raise ValueError(unknown("list", what, CATALOGUES))
    rows = CATALOGUES[what]()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False)
    table.add_column(what, style="bold", no_wrap=True)
    table.add_column("what it is", overflow="fold", ratio=2)
    options = any(options for _, _, options in rows)
    if options:
        table.add_column("options", overflow="fold", ratio=3)
    for name, description, texts in rows:
        table.add_row(
            Text(name), Text(description), *([Text("\n".join(texts))] if options else []), end_section=options
        )
    return table


Row = tuple[str, str, list[str]]


def _models() -> list[Row]:
    from qgen.registry import generator_class, generators

    rows: list[Row] = []
    for kind in generators():
        try:
            cls = generator_class(kind)
        except (ImportError, AttributeError) as error:
            rows.append((kind, f"cannot be imported: {error}", []))
        else:
            rows.append((kind, first_line(cls), options_of(cls.for_dataset, without=("dataset", "seed"))))
    return rows


def _ansatze() -> list[Row]:
    from circuits.ansatz import ANSATZE

    return [(name, first_line(build), options_of(build)) for name, build in ANSATZE.items()]


def _datasets() -> list[Row]:
    from qgen.data import DATASETS

    return [(name, first_line(build), options_of(build)) for name, build in DATASETS.items()]


def _metrics() -> list[Row]:
    from qgen.metrics import METRICS

    def line(metric: Metric) -> str:
        """What it is, its unit, its group and its source."""
        facts = [
            metric.group,
            *(["default"] if metric.by_default else []),
            *([metric.reference] if metric.reference else []),
        ]
        unit = f" Unit: {metric.unit}." if metric.unit else ""
        return f"{_plain(metric.description)}{unit} [{'; '.join(facts)}]"

    return [
        (name, line(metric), [f"{option} = {_default(value)}" for option, value in metric.options.items()])
        for name, metric in sorted(METRICS.items(), key=lambda item: (not item[1].by_default, item[1].group))
    ]


def _backends() -> list[Row]:
    from circuits.backends import BACKENDS
    from circuits.backends.make import NOT_PLAIN, allowed_dtypes, catalogue

    def line(name: str, default: Any, text: str) -> str:
        if name == "dtype":
            return f"dtype: {'|'.join(allowed_dtypes(default))} = {_default(default)}"
        if name == "device":
            return f"device: {_DEVICES.get(default, f'name of a device = {default}')}"
        if name not in _WORDS:
            return text
        return f"{name}: {_WORDS[name]}" + ("" if default is None else f" = {_default(default)}")

    rows: list[Row] = []
    for place, (about, cls) in catalogue().items():
        defaults = {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}
        texts = {text.partition(":")[0]: text for text in options_of(cls, without=NOT_PLAIN)}
        options = [line(name, defaults[name], text) for name, text in texts.items()]
        rows.append((place, f"{first_line(cls)} {about}".strip(), options))
    around = [
        "shots: int ≥ 1 or none",
        "mitigation: list of those below, each a name or {name: options}",
        "gradient: one of those below, a name or {name: options}; parameter-shift where one is needed",
    ]
    rows.insert(len(BACKENDS), ("any kind", "What stands around the engine.", around))
    return rows


def _experiments() -> list[Row]:
    from experiments.config import config_names

    return [(name, description, []) for name, description in config_names().items()]


def _objectives() -> list[Row]:
    from qgen.training import OBJECTIVES

    def line(text: str) -> str:
        name = text.partition(":")[0]
        return f"{name}: {_PARTS[name]}" if name in _PARTS else text

    return [(name, first_line(cls), [line(text) for text in options_of(cls)]) for name, cls in OBJECTIVES.items()]


def _discriminators() -> list[Row]:
    from qgen.training.discriminators import discriminator_class, discriminators

    own = ("n_features", "n_conditions", "seed")
    rows: list[Row] = []
    for kind in discriminators():
        cls = discriminator_class(kind)
        texts = options_of(cls.for_events, without=own)
        options = [f"{name}: {_PARTS[name]}" if (name := text.partition(":")[0]) in _PARTS else text for text in texts]
        rows.append((kind, first_line(cls), options))
    return rows


def _studies() -> list[Row]:
    from experiments.studies.cli import study

    return [
        (command.name or command.callback.__name__, first_line(command.callback), [])
        for command in study.registered_commands
        if command.callback is not None
    ]


CATALOGUES: dict[str, Callable[[], list[Row]]] = {
    "models": _models,
    "ansatze": _ansatze,
    "datasets": _datasets,
    "metrics": _metrics,
    "backends": _backends,
    "experiments": _experiments,
    "objectives": _objectives,
    "discriminators": _discriminators,
    "studies": _studies,
}
"""What can be listed."""


def first_line(thing: object) -> str:
    """The first line of the documentation of a class or function, empty if it has none.

    >>> first_line(first_line)
    'The first line of the documentation of a class or function, empty if it has none.'
    """
    return _plain((inspect.getdoc(thing) or "").partition("\n")[0])


def _plain(line: str) -> str:
    r"""A line of documentation without its marks.

    >>> _plain(r"On the bins of ``kl``, see :class:`~qgen.metrics.Metric`: :math:`x_i \cdot y_i`.")
    'On the bins of kl, see Metric: x_i · y_i.'
    """
    line = re.sub(r":math:`([^`]*)`", lambda found: found[1].replace("\\cdot", "·").replace("\\", ""), line)
    return re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", line.replace("``", ""))


def options_of(function: Callable[..., Any], without: Iterable[str] = ()) -> list[str]:
    """A line for each argument: its name, type and default.

    >>> def build(layers: Annotated[int, annotated_types.Ge(1)] = 4, kind: Literal["a", "b"] | None = None): ...
    >>> options_of(build)
    ['layers: int ≥ 1 = 4', 'kind: a|b or none = none']
    """
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    lines = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in without or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        text = f"{name}: {type_text(hints[name])}" if name in hints else name
        lines.append(text if parameter.default is parameter.empty else f"{text} = {_default(parameter.default)}")
    return lines


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_default, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if isinstance(value, bool) else str(value).removeprefix("torch.")


def type_text(hint: Any) -> str:
    """A type as a user writes about it.

    >>> type_text(Annotated[float, annotated_types.Gt(0)] | None), type_text(tuple[int, ...]), type_text(dict[str, int])
    ('float > 0 or none', 'list of int', 'int by str')
    """
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [f"{_BOUNDS[type(b)]} {_bound(b):g}" for b in inside[1:] if type(b) in _BOUNDS]
        return " ".join([type_text(inside[0]), ", ".join(bounds)]).strip()
    if origin is Literal:
        return "|".join(map(str, inside))
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_text, inside))
    if hint is types.NoneType:
        return "none"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{type_text(inside[1])} by {type_text(inside[0])}"
    if origin is tuple and inside[-1] is not Ellipsis:
        return f"[{', '.join(map(type_text, inside))}]"
    if inside:
        return f"list of {type_text(inside[0])}"
    return getattr(hint, "__name__", str(hint))


def _bound(bound: Any) -> Any:
    return next(getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name))
