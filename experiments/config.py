"""Configurations of experiments: YAML with overrides, validated against the Python functions that it calls.

A section with a ``kind`` names a function or class (a dataset's loader, a generator's ``for_dataset``, an objective);
its other keys are that callable's keyword arguments, with their types and defaults. So the YAML is the Python call,
and a model that is added brings its options with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen
from pydantic import BaseModel, ConfigDict

from experiments.experiment import Evaluation, Experiment, ModelConfig
from experiments.model_section import model_section
from experiments.sections import checked_backend, choice, is_folder_name, validated
from qgen.data import DATASETS
from qgen.metrics import METRICS, find_metrics
from qgen.plain import read_yaml, read_yaml_file
from qgen.registry import generator_class
from qgen.run import CONFIG
from qgen.text import unknown

__all__ = ["config_names", "load_config", "read_config", "resolve", "set_at", "shipped_names", "with_compute"]

MOST_STEPS = 1_000_000
"""Steps of a training that is to use up its time: more than any takes."""


def config_names() -> dict[str, str]:
    """The configurations that come with the lab: name -> description."""
    configs = files("experiments").joinpath("configs")
    return {
        name: str(read_yaml(configs.joinpath(f"{name}.yaml").read_text(), name).get("description", ""))
        for name in shipped_names()
    }


def shipped_names() -> list[str]:
    """The names of the configurations that come with the lab; none is read.

    >>> "quickstart-muon" in shipped_names()
    True
    """
    names = (entry.name for entry in files("experiments").joinpath("configs").iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Experiment:
    """Read a configuration.

    Args:
        source: a name from :func:`config_names`, a YAML file, or the folder of a run, whose configuration is meant; or
            keys and values.
        overrides: ``a.b=value`` each, the value in YAML; they go over what the file says.

    Raises:
        FileNotFoundError: neither a known name nor a file.
        ValueError: the field is named, with what was found and what is allowed.
    """
    return resolve(read_config(source, overrides))


def read_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A configuration as it is written, overrides over it; not validated. Arguments as those of :func:`load_config`.

    Raises:
        FileNotFoundError: neither a known name nor a file.
        ValueError: it is no YAML of keys and values, or an override fits nowhere.
    """
    names = shipped_names()
    raw: Any
    if isinstance(source, Mapping):
        raw = dict(source)
    elif str(source) in names:
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
        what = "nothing" if raw is None else type(raw).__name__
        raise ValueError(f"{source}: found {what}; expected keys and values")
    for override in overrides:
        _override(raw, override)
    return raw


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


def resolve(raw: Mapping[str, Any]) -> Experiment:
    """Validate a configuration given as plain data and fill in every default.

    Raises:
        ValueError: the field is named, with what was found and what is allowed.
    """
    top = validated(_Top, raw, "")
    models = {}
    for name, section in top.models.items():
        if not is_folder_name(name):
            raise ValueError(f"models: {name!r} is no name for a model; it names a folder")
        models[name] = model_section(section, f"models.{name}", top.backend)
    if top.backend is not None and not any(
        generator_class(model.generator.kind).runs_circuits for model in models.values()
    ):
        raise ValueError("backend: no model of this experiment runs circuits")
    if len(set(top.seeds)) < len(top.seeds):
        raise ValueError(f"seeds: {top.seeds} holds a seed twice")
    dataset = choice(top.dataset, "dataset", DATASETS, lambda kind: DATASETS[kind])
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
            checked[name] = checked_backend(value, "")
        except ValueError as error:
            raise ValueError(f"{where}{str(error).removeprefix('backend')}") from None
    return asked.model_copy(update={"backends": checked})


def _override(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    parts = path.strip().split(".")
    if not equals or not all(parts):
        raise ValueError(f"--set {override!r}: expected a.b=value")
    try:
        set_at(raw, parts, read_yaml(text, f"--set {override!r}"))
    except LookupError as error:
        raise ValueError(f"--set {override!r}: {error.args[0]}") from None


def set_at(raw: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    """Put a value at a place of a configuration; what it holds at other places, or by an alias, stays as it is.

    Args:
        raw: is changed; sections on the way are replaced by copies.
        parts: the path, cut at its dots; a name with a dot is found all the same.
        value: plain data.

    Raises:
        LookupError: something on the way is there but has no keys.

    >>> raw = {"dataset": {"kind": "muon"}}
    >>> set_at(raw, ["dataset", "n"], 5)
    >>> raw
    {'dataset': {'kind': 'muon', 'n': 5}}
    """
    keys = _joined(raw, parts)
    place: Any = raw
    for depth, key in enumerate(keys[:-1]):
        inner = place.get(key, {})
        if not isinstance(inner, dict):
            raise LookupError(f"{'.'.join(keys[: depth + 1])} is {inner!r}, it has no keys")
        place[key] = place = dict(inner)
    place[keys[-1]] = value


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
