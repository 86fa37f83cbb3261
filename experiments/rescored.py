"""What re-scoring leaves in a run's folder: the scores of its models on other backends, checked and typed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from annotated_types import Ge, MinLen
from pydantic import BaseModel, ConfigDict

from circuits.backends import backend_config, backend_options
from experiments.scores import ModelScores, Results, Score, checked
from qgen.run import RESULTS, read_json

if TYPE_CHECKING:
    from pathlib import Path

    from qgen.run import Run

__all__ = [
    "BACKENDS",
    "ROLES",
    "BackendFacts",
    "BackendScores",
    "OnBackend",
    "Rescoring",
    "Role",
    "label_of",
    "read_rescoring",
    "rescorings",
    "side_by_side",
    "trained_on",
    "yaml_line",
]

BACKENDS = "backends"
"""The folder of re-scorings in a run's folder."""

LONGEST_LABEL = 80
ORDER = {"device": 0, "shots": 2, "mitigation": 3}
"""Where keys of a configuration stand in a label; the others stand at 1."""

Role = Literal["exact", "sampled", "noisy", "mitigated"]
ROLES: tuple[Role, ...] = ("exact", "sampled", "noisy", "mitigated")
"""How a backend answers, in the order of tables: without any error, with that of shots, with noise, and corrected."""


class BackendFacts(BaseModel):
    """A backend, as far as it can be written down.

    Args:
        config: its configuration; None for one that was given as an object.
        name: by which it calls itself.
        role: how it answers.
        capabilities: what it says of itself.
        shots: of each circuit when probabilities are asked for, if it has any.
    """

    model_config = ConfigDict(frozen=True)
    config: dict[str, Any] | None
    name: str
    role: Role
    capabilities: dict[str, bool]
    shots: Annotated[int, Ge(1)] | None = None


class BackendScores(ModelScores):
    """A model on a backend.

    Args:
        distances: between the backend's and the exact distribution of the model's cells, by name.
        circuits: that were run for it, all seeds together, each set of angles by itself; those of mitigation count.
        measured: their shots.
        seeds: each seed's own numbers.
    """

    distances: dict[str, Score]
    circuits: Annotated[int, Ge(0)]
    measured: Annotated[int, Ge(0)]
    seeds: Annotated[dict[str, dict[str, Any]], MinLen(1)]


class Rescoring(BaseModel):
    """The models of a run on one other backend."""

    model_config = ConfigDict(frozen=True)
    name: str
    backend: BackendFacts
    models: Annotated[dict[str, BackendScores], MinLen(1)]


def read_rescoring(path: Path) -> Rescoring:
    """Check and type what stands in the results of a re-scoring.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; the field and what was found are named.
    """
    found = checked(Rescoring, read_json(path), str(path))

    def counted(scores: Mapping[str, Score], seeds: int) -> dict[str, Score]:
        return {name: score.model_copy(update={"seeds": max(1, seeds)}) for name, score in scores.items()}

    models = {}
    for name, model in found.models.items():
        judged = sum(bool(one.get("metrics")) for one in model.seeds.values())
        scores = {"metrics": counted(model.metrics, judged), "distances": counted(model.distances, judged)}
        models[name] = model.model_copy(update=scores)
    return found.model_copy(update={"models": models})


def rescorings(run: Run) -> dict[str, Rescoring]:
    """The re-scorings of a run by label: exact backends first, then sampled, noisy and mitigated ones.

    Raises:
        ValueError: a file is damaged.
    """
    paths = sorted((run.folder / BACKENDS).glob(f"*/{RESULTS}"))
    found = {path.parent.name: read_rescoring(path) for path in paths}
    return dict(sorted(found.items(), key=lambda item: (ROLES.index(item[1].backend.role), item[0])))


@dataclass(frozen=True)
class OnBackend:
    """A model on one backend, as a row of a table.

    Args:
        label: of the backend.
        facts: the backend; None for the one on which the run judged the model.
        scores: metrics.
        distances: to the exact distribution.
        circuits: that were run for it, all seeds together, each set of angles by itself.
        measured: their shots.
    """

    label: str
    facts: BackendFacts | None
    scores: ModelScores
    distances: Mapping[str, Score]
    circuits: int = 0
    measured: int = 0


def side_by_side(run: Run, results: Results, found: Mapping[str, Rescoring]) -> dict[str, list[OnBackend]]:
    """By model, the run's own scores and then those on each other backend; models without any are left out."""
    table = {}
    for name, scores in results.generators.items():
        others = [
            OnBackend(label, one.backend, scored, scored.distances, scored.circuits, scored.measured)
            for label, one in found.items()
            if (scored := one.models.get(name)) is not None
        ]
        if others:
            table[name] = [OnBackend(label_of(trained_on(run, name)), None, scores, {}), *others]
    return table


def trained_on(run: Run, model: str) -> dict[str, Any]:
    """The configuration of the backend on which a model of a run was trained and judged."""
    return dict(run.config["models"][model].get("backend") or {"kind": "statevector"})


def label_of(config: Mapping[str, Any]) -> str:
    """A name for a backend that can be a folder's: what its configuration says beyond defaults, shortened if long.

    >>> label_of({"kind": "statevector", "shots": 4096, "mitigation": ["readout"], "dtype": "complex128"})
    'statevector-4096-shots-readout'
    >>> label_of({"kind": "statevector", "mitigation": [{"zne": {"scales": [1, 3]}}]})
    'statevector-zne-84d0a2'
    """
    defaults = {
        name: str(default).removeprefix("torch.") for name, (_, default) in backend_options(config["kind"]).items()
    }
    words, whole = [str(config["kind"])], True
    for key, value in sorted(config.items(), key=lambda item: ORDER.get(item[0], 1)):
        if key == "kind" or value is None or (key != "shots" and str(value) == defaults.get(key)):
            continue
        if key == "shots":
            words.append(f"{value}-shots")
        elif key in ("device", "noise") and isinstance(value, str):
            words.append(value)
        elif key == "mitigation":
            names = [entry if isinstance(entry, str) else next(iter(entry)) for entry in value]
            words += names
            whole = whole and value in (names, backend_config({"kind": "statevector", key: names})[key])
        elif isinstance(value, str | int | float):
            words.append(f"{key}-{value}")
        else:
            words.append(key)
            whole = False
    text = "-".join(words)
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in text)
    if whole and name == text and len(name) <= LONGEST_LABEL:
        return name
    digest = hashlib.sha256(json.dumps(dict(config), sort_keys=True).encode()).hexdigest()
    return f"{name[:LONGEST_LABEL]}-{digest[:6]}"


def yaml_line(value: Any) -> str:
    """Plain data as YAML in one line.

    >>> yaml_line({"kind": "statevector", "mitigation": ["readout"]})
    '{kind: statevector, mitigation: [readout]}'
    """
    return str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)).strip()
