"""The section of a model, checked: its generator, backend, objective, training and what a search may vary of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Gt, Lt
from pydantic import BaseModel

from experiments.experiment import Choice, ModelConfig
from experiments.sections import checked_backend, choice, options_model, validated
from experiments.space import Range, place, plain_space, read_space
from qgen.registry import generator_class, generators
from qgen.training import OBJECTIVES, fit
from qgen.training.discriminators import discriminator_class, discriminators

__all__ = ["model_section"]

FROM_RUN = frozenset(
    {"generator", "dataset", "objective", "seed", "checkpoint", "checkpoint_every", "callback", "clock", "ranks"}
)


def model_section(section: Mapping[str, Any], where: str, default_backend: Any) -> ModelConfig:
    """A model's section with every default.

    Args:
        section: as it stands in the configuration.
        where: its place there, for messages.
        default_backend: for a model that runs circuits and names no backend; None leaves it its own.

    Raises:
        ValueError: the key is named, with what was found and what is allowed.
    """
    rest = dict(section)
    tune = rest.pop("tune", None)
    untuned = dict(rest)
    backend, objective, training = rest.pop("backend", None), rest.pop("objective", None), rest.pop("training", None)
    generator = choice(
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
        checked = checked_backend(backend, f"{where}.")
    elif cls.runs_circuits and default_backend is not None:
        checked = checked_backend(default_backend, "")
    if not cls.trains:
        for key, value in (("objective", objective), ("training", training), ("tune", tune)):
            if value is not None:
                raise ValueError(f"{where}.{key}: {generator.kind} is fitted when it is built and takes no {key}")
        return ModelConfig(generator=generator, backend=checked, objective=None, training=None)
    if objective is None:
        raise ValueError(f"{where}.objective: missing; it needs a kind, one of {', '.join(OBJECTIVES)}")
    settings = validated(options_model(fit, FROM_RUN), {} if training is None else training, f"{where}.training")
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
                model_section(place(section, {path: value}), where, None)
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
    found = choice(section, where, OBJECTIVES, lambda kind: OBJECTIVES[kind], also=also)
    try:
        OBJECTIVES[found.kind](**found.options)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return found


def _part(section: Any, where: str) -> dict[str, Any]:
    """A part of a mixture with every default."""
    rest = dict(section) if isinstance(section, Mapping) else section
    weight = rest.pop("weight", 1.0) if isinstance(rest, dict) else None
    if isinstance(rest, dict) and rest.get("kind") == "mixture":
        raise ValueError(f"{where}: a mixture itself; write its parts here")
    part = _objective(rest, where, also=("weight",)).plain()
    return {**part, "weight": validated(_Weight, {"weight": weight}, where).weight}


class _Weight(BaseModel):
    weight: Annotated[float, Gt(0), Lt(math.inf)]


def _discriminator(section: Any, where: str) -> dict[str, Any]:
    """A discriminator's section with every default; a name alone is its kind."""
    return choice(
        {"kind": section} if isinstance(section, str) else section,
        f"{where}.discriminator",
        discriminators(),
        lambda kind: discriminator_class(kind).for_events,
        without=frozenset({"n_features", "n_conditions", "seed"}),
    ).plain()
