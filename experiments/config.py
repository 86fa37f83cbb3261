"""Configurations of experiments: YAML with overrides, validated against the Python functions that it calls.

A section with a ``kind`` names a function or class (a dataset's loader, a generator's ``for_dataset``, an objective);
its other keys are that callable's keyword arguments, with their types and defaults. So the YAML is the Python call,
and a model that is added brings its options with it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import yaml
from annotated_types import Ge, Gt, Lt, MinLen
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from experiments.space import Range, place, plain_space, read_space
from qgen.data import DATASETS
from qgen.metrics import METRICS, find_metrics
from qgen.plain import read_yaml, read_yaml_file
from qgen.registry import generator_class, generators
from qgen.run import CONFIG
from qgen.text import unknown
from qgen.training import OBJECTIVES, fit
from qgen.training.discriminators import discriminator_class, discriminators

__all__ = [
    "Choice",
    "Experiment",
    "ModelConfig",
    "config_names",
    "is_folder_name",
    "load_config",
    "plain_backend",
    "resolve",
    "with_compute",
]

EXPECTED = {
    "dict_type": "expected keys and values",
    "sequence_str": "expected a list",
    "is_instance_of": "expected a list",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
}
"""What pydantic says by the names of Python's types, as a user of YAML says it."""

FROM_RUN = frozenset(
    {"generator", "dataset", "objective", "seed", "checkpoint", "checkpoint_every", "callback", "clock"}
)


MOST_STEPS = 1_000_000
"""Steps of a training that is to use up its time: more than any takes."""


class Choice(BaseModel):
    """A kind with its validated options, defaults filled in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    options: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML."""
        return {"kind": self.kind, **self.options}


class ModelConfig(BaseModel):
    """A model of an experiment.

    ``backend`` is None for a model that runs no circuits or runs them on its own default; ``objective`` and
    ``training`` are None for one that is fitted when it is built. ``tune`` is what a search may vary, by its place in
    the section; a run does not look at it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    generator: Choice
    backend: dict[str, Any] | None
    objective: Choice | None
    training: dict[str, Any] | None
    tune: dict[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML."""
        backend = {} if self.backend is None else {"backend": self.backend}
        trained = {} if self.objective is None else {"objective": self.objective.plain(), "training": self.training}
        tune = {} if self.tune is None else {"tune": self.tune}
        return {**self.generator.plain(), **backend, **trained, **tune}


class Evaluation(BaseModel):
    """How models are judged.

    ``metrics`` are names of metrics and groups of them, ``options`` are theirs by metric and name, ``bins`` those of
    conditions in which everything is judged as well: by name their number or their edges.

    ``backends`` are further ones, by a name that is a folder's, on which trained models are judged as well;
    ``models_on_backends`` are those models, all that run circuits if it is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    metrics: Annotated[list[str], MinLen(1)] | None = None
    options: dict[str, dict[str, Any]] = {}
    bins: dict[str, Annotated[int, Ge(1)] | Annotated[list[float], MinLen(2)]] = {}
    bootstrap: Annotated[int, Ge(2)] = 20
    max_events: Annotated[int, Ge(20)] | None = None
    backends: dict[str, Any] = {}
    models_on_backends: Annotated[list[str], MinLen(1)] | None = None

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML, without options, bins and backends if there are none."""
        without = {name for name in ("options", "bins") if not getattr(self, name)}
        return self.model_dump(exclude=without | (set() if self.backends else {"backends", "models_on_backends"}))


class Experiment(BaseModel):
    """A whole experiment: data, models, seeds and how they are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str
    dataset: Choice
    models: dict[str, ModelConfig]
    seeds: list[int]
    threads: int
    checkpoint_every: int
    evaluation: Evaluation

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML, every default filled in; ``resolve(experiment.plain()) == experiment``."""
        return {
            "name": self.name,
            "description": self.description,
            "dataset": self.dataset.plain(),
            "models": {name: model.plain() for name, model in self.models.items()},
            "seeds": self.seeds,
            "threads": self.threads,
            "checkpoint_every": self.checkpoint_every,
            "evaluation": self.evaluation.plain(),
        }

    @property
    def models_on_backends(self) -> list[str]:
        """The models that are judged on the evaluation's backends as well."""
        if not self.evaluation.backends:
            return []
        asked = self.evaluation.models_on_backends
        return [
            name
            for name, model in self.models.items()
            if generator_class(model.generator.kind).runs_circuits and (asked is None or name in asked)
        ]

    def to_yaml(self) -> str:
        """The resolved configuration as YAML."""
        return yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True)


class _Top(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, MinLen(1)]
    description: str = ""
    dataset: dict[str, Any]
    backend: Any = None
    models: Annotated[dict[str, dict[str, Any]], MinLen(1)]
    seeds: Annotated[list[Annotated[int, Ge(0)]], MinLen(1)] = [0]
    threads: Annotated[int, Ge(1)] = 1
    checkpoint_every: Annotated[int, Ge(1)] = 100
    evaluation: Evaluation = Evaluation()


def config_names() -> dict[str, str]:
    """The configurations that come with the lab: name -> description."""
    return {
        entry.name.removesuffix(".yaml"): str(read_yaml(entry.read_text(), entry.name).get("description", ""))
        for entry in sorted(files("experiments").joinpath("configs").iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".yaml")
    }


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read a configuration.

    Args:
        source: a name from :func:`config_names`, a YAML file, or the folder of a run, whose configuration is meant.
        overrides: ``a.b=value`` each, the value in YAML; they go over what the file says.

    Raises:
        FileNotFoundError: neither a known name nor a file.
        ValueError: the field is named, with what was found and what is allowed.
    """
    names = config_names()
    if str(source) in names:
        raw = read_yaml(files("experiments").joinpath("configs", f"{source}.yaml").read_text(), str(source))
    else:
        path = Path(source)
        if (path / CONFIG).is_file():
            path = path / CONFIG
        if not path.is_file():
            line = unknown("experiment", str(source), names)
            raise FileNotFoundError(f"{line} (nor is it a file or the folder of a run)")
        raw = read_yaml_file(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{source}: found {type(raw).__name__}; expected keys and values")
    for override in overrides:
        _override(raw, override)
    return resolve(raw)


def with_compute(experiment: Experiment, seconds: float) -> Experiment:
    """The experiment with the same processor time for every training: the comparison at equal time.

    Whatever steps a training had, they are now at most :data:`MOST_STEPS`; models that are fitted when they are built
    stay as they are.

    Args:
        experiment: what to change.
        seconds: of each training.

    Raises:
        ValueError: no positive, finite number, or a training that grows layerwise, which counts steps.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"compute is {seconds:g} seconds; it must be positive and finite")
    raw = experiment.plain()
    for model in raw["models"].values():
        if "training" in model:
            model["training"] = {**model["training"], "seconds": seconds, "steps": MOST_STEPS}
    return resolve(raw)


def resolve(raw: Mapping[str, Any]) -> Experiment:
    """Validate a configuration given as plain data and fill in every default.

    Raises:
        ValueError: the field is named, with what was found and what is allowed.
    """
    top = _validated(_Top, raw, "")
    models = {}
    for name, section in top.models.items():
        if not is_folder_name(name):
            raise ValueError(f"models: {name!r} is no name for a model; it names a folder")
        models[name] = _model(section, f"models.{name}", top.backend)
    if top.backend is not None and not any(
        generator_class(model.generator.kind).runs_circuits for model in models.values()
    ):
        raise ValueError("backend: no model of this experiment runs circuits")
    if len(set(top.seeds)) < len(top.seeds):
        raise ValueError(f"seeds: {top.seeds} holds a seed twice")
    dataset = _choice(top.dataset, "dataset", DATASETS, lambda kind: DATASETS[kind])
    if dataset.options.get("path") is not None:
        dataset.options["path"] = str(Path(dataset.options["path"]).absolute())  # a run goes on from anywhere
    return Experiment(
        name=top.name,
        description=top.description,
        dataset=dataset,
        models=models,
        seeds=top.seeds,
        threads=top.threads,
        checkpoint_every=top.checkpoint_every,
        evaluation=_evaluation(top.evaluation, models),
    )


def _model(section: Mapping[str, Any], where: str, default_backend: Any) -> ModelConfig:
    """A model's section checked; ``default_backend`` is for models that run circuits and name no backend."""
    rest = dict(section)
    tune = rest.pop("tune", None)
    untuned = dict(rest)
    backend, objective, training = rest.pop("backend", None), rest.pop("objective", None), rest.pop("training", None)
    generator = _choice(
        rest,
        where,
        generators(),
        lambda kind: generator_class(kind).for_dataset,
        without=frozenset({"dataset", "seed"}),
        also=("backend", "objective", "training", "tune"),
    )
    cls = generator_class(generator.kind)
    if backend is not None and not cls.runs_circuits:
        raise ValueError(f"{where}.backend: {generator.kind} runs no circuits of qubits and takes no backend")
    checked = None
    if backend is not None:
        checked = _backend(backend, f"{where}.")
    elif cls.runs_circuits and default_backend is not None:
        checked = _backend(default_backend, "")
    if not cls.trains:
        for key, value in (("objective", objective), ("training", training), ("tune", tune)):
            if value is not None:
                raise ValueError(f"{where}.{key}: {generator.kind} is fitted when it is built and takes no {key}")
        return ModelConfig(generator=generator, backend=checked, objective=None, training=None)
    if objective is None:
        raise ValueError(f"{where}.objective: missing; it needs a kind, one of {', '.join(OBJECTIVES)}")
    settings = _validated(_options(fit, FROM_RUN), {} if training is None else training, f"{where}.training")
    if settings.seconds is not None and settings.layerwise is not None:
        raise ValueError(f"{where}.training.seconds: goes with no layerwise, which counts steps")
    model = ModelConfig(
        generator=generator,
        backend=checked,
        objective=_objective(objective, f"{where}.objective"),
        training=settings.model_dump(mode="json"),
    )
    return model if tune is None else model.model_copy(update={"tune": _tune(tune, untuned, model, where)})


def _tune(tune: Any, section: Mapping[str, Any], model: ModelConfig, where: str) -> dict[str, Any]:
    """What a search may vary, by places; a name without a dot is an option of the model, else one of its training."""
    space = {}
    for name, values in read_space(tune, f"{where}.tune").items():
        path = f"training.{name}" if name in (model.training or {}) and name not in model.generator.options else name
        space[path] = values
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            try:
                _model(place(section, {path: value}), where, None)
            except ValueError as error:
                raise ValueError(f"{where}.tune.{name}: {str(error).removeprefix(f'{where}.')}") from None
    return plain_space(space)


def _objective(section: Any, where: str, also: Sequence[str] = ()) -> Choice:
    """An objective checked, with the discriminator or the parts that it holds."""
    kind = section.get("kind") if isinstance(section, Mapping) else None
    if kind == "adversarial":
        section = {**section, "discriminator": _discriminator(section.get("discriminator", "mlp"), where)}
    if kind == "mixture" and isinstance(section.get("parts"), list):
        parts = [_part(part, f"{where}.parts.{k}") for k, part in enumerate(section["parts"])]
        if not parts:
            raise ValueError(f"{where}.parts: empty; at least one is needed")
        if sum(part["kind"] == "adversarial" for part in parts) > 1:
            raise ValueError(f"{where}.parts: two are adversarial; at most one is allowed")
        section = {**section, "parts": parts}
    choice = _choice(section, where, OBJECTIVES, lambda kind: OBJECTIVES[kind], also=also)
    try:
        OBJECTIVES[choice.kind](**choice.options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return choice


def _part(section: Any, where: str) -> dict[str, Any]:
    """A part of a mixture with every default."""
    rest = dict(section) if isinstance(section, Mapping) else section
    weight = rest.pop("weight", 1.0) if isinstance(rest, dict) else None
    if isinstance(rest, dict) and rest.get("kind") == "mixture":
        raise ValueError(f"{where}: a mixture itself; write its parts here")
    part = _objective(rest, where, also=("weight",)).plain()
    return {**part, "weight": _validated(_Weight, {"weight": weight}, where).weight}


class _Weight(BaseModel):
    weight: Annotated[float, Gt(0), Lt(math.inf)]


def _discriminator(section: Any, where: str) -> dict[str, Any]:
    """A discriminator's section with every default; a name alone is its kind."""
    return _choice(
        {"kind": section} if isinstance(section, str) else section,
        f"{where}.discriminator",
        discriminators(),
        lambda kind: discriminator_class(kind).for_events,
        without=frozenset({"n_features", "n_conditions", "seed"}),
    ).plain()


def _evaluation(asked: Evaluation, models: Mapping[str, ModelConfig]) -> Evaluation:
    """The section checked, its backends with every default."""
    try:
        chosen = {m.name: m for m in find_metrics(asked.metrics)}
    except ValueError as error:
        raise ValueError(f"evaluation.metrics: {error}") from None
    for name, options in asked.options.items():
        if name in METRICS and name not in chosen:
            raise ValueError(f"evaluation.options: {name} is not among evaluation.metrics")
        if name not in chosen:
            raise ValueError(f"evaluation.options: {unknown('metric', name, chosen)}")
        try:
            chosen[name].check_options(options)
        except ValueError as error:
            raise ValueError(f"evaluation.options.{name}: {error}") from None
    with_circuits = [name for name, model in models.items() if generator_class(model.generator.kind).runs_circuits]
    if asked.models_on_backends is not None and not asked.backends:
        raise ValueError("evaluation.models_on_backends: there are no evaluation.backends")
    for name in asked.models_on_backends or []:
        if name not in models:
            raise ValueError(f"evaluation.models_on_backends: {unknown('model', name, models)}")
        if name not in with_circuits:
            raise ValueError(f"evaluation.models_on_backends: {name!r} runs no circuits of qubits")
    if asked.backends and not with_circuits:
        raise ValueError("evaluation.backends: no model of this experiment runs circuits")
    checked = {}
    for name, value in asked.backends.items():
        where = f"evaluation.backends.{name}"
        if not is_folder_name(name):
            raise ValueError(f"evaluation.backends: {name!r} is no name for a backend; it names a folder")
        try:
            checked[name] = _backend(value, "")
        except ValueError as error:
            raise ValueError(f"{where}{str(error).removeprefix('backend')}") from None
    return asked.model_copy(update={"backends": checked})


def is_folder_name(name: str) -> bool:
    """Whether a name can be that of a folder in a run's folder.

    >>> is_folder_name("born machine, 1 %"), is_folder_name("a/b"), is_folder_name(".hidden")
    (True, False, False)
    """
    return name.isprintable() and name[:1] not in ("", ".") and not any(c in name for c in "/\\")


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


def _backend(value: Any, where: str) -> dict[str, Any]:
    """The same; an engine that needs nothing from outside is built on trial."""
    from circuits.backends import builds_alone, make_backend

    try:
        plain = plain_backend(value)
        if builds_alone(plain):
            make_backend(**plain)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None
    return plain


def _choice(
    section: Any,
    where: str,
    kinds: Sequence[str] | Mapping[str, Any],
    callable_of: Callable[[str], Callable[..., Any]],
    without: frozenset[str] = frozenset(),
    also: Sequence[str] = (),
) -> Choice:
    if not isinstance(section, Mapping):
        raise ValueError(f"{where}: found {section!r}; expected keys and values, 'kind' among them")
    rest = dict(section)
    kind = rest.pop("kind", None)
    if kind is None:
        raise ValueError(f"{where}.kind: missing; one of {', '.join(kinds)}")
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{where}.kind: {unknown('kind', kind, kinds)}")
    options = _validated(_options(callable_of(kind), without), rest, where, ("kind", *also)).model_dump(mode="json")
    return Choice(kind=kind, options=options)


@cache
def _options(function: Callable[..., Any], without: frozenset[str] = frozenset()) -> type[BaseModel]:
    """A pydantic model of the keyword arguments that a configuration may set."""
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in without or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return create_model("Options", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)


def _validated(model: type[BaseModel], values: Any, where: str, also: Sequence[str] = ()) -> Any:
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
        found = "" if first["type"] == "missing" else f" (found {first['input']!r})"
        line = EXPECTED.get(first["type"], f"{first['msg'][:1].lower()}{first['msg'][1:]}")
        raise ValueError(f"{place}: {line}{found}") from None


def _fields_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    for part in place[:-1]:
        inner = model.model_fields[str(part)].annotation
        if not (inspect.isclass(inner) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)


def _override(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise ValueError(f"--set {override!r}: expected a.b=value")
    keys = _joined(raw, parts)
    place: Any = raw
    for depth, key in enumerate(keys[:-1]):
        inner = place.get(key, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--set {override!r}: {'.'.join(keys[: depth + 1])} is {inner!r}, it has no keys")
        place[key] = place = dict(inner)  # what an alias puts elsewhere as well stays there as it is
    place[keys[-1]] = read_yaml(text, f"--set {override!r}")


def _joined(raw: Any, parts: Sequence[str]) -> list[str]:
    """The keys that a path names: parts that together are a key of the configuration (a name with a dot) are that key.

    >>> _joined({"models": {"born, 0.5 %": {}}}, ["models", "born, 0", "5 %", "layers"])
    ['models', 'born, 0.5 %', 'layers']
    """
    keys: list[str] = []
    while parts:
        names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        key = next((name for name in names if isinstance(raw, Mapping) and name in raw), parts[0])
        keys.append(key)
        parts = parts[key.count(".") + 1 :]
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return keys
