"""The study ``cv-classifier``: does a continuous-variable circuit tell Geant4 showers from fakes?

The test of a discriminator apart from any game (2101.11132 has one; what stands here of size, data and training is
ours). Real events are longitudinal profiles, each pixel's share of the incident energy standardised. Fakes are

- ``uniform``: every pixel uniform between the smallest and the largest value of true ones;
- ``shuffled``: other showers whose pixels are exchanged between events, so that each pixel alone is right and only
  what pixels have to do with each other tells.

Beside the circuit stand a linear score (logistic regression), a perceptron with as many parameters, and a large one
that says how much there is to tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast, get_args

import torch
from torch import Tensor

from circuits.cv import Fock
from qgen.data import load_calorimeter
from qgen.models.cv_classifier import CVClassifier, Embedding, train_classifier
from qgen.random import derive_seed, new_generator, uniform
from qgen.training.discriminators import MLP, Discriminator

__all__ = ["FAKES", "Settings", "cv_classifier", "showers", "summary"]

CHECK_CUTOFF = 4
"""By how much the cutoff is raised to see whether a trained classifier depends on it."""

LARGE = (64, 64)


@dataclass(frozen=True)
class Settings:
    """What the study trains.

    Args:
        pixels: of the longitudinal profile.
        fakes: of :data:`FAKES`.
        cutoffs: of the circuits, on all photons together.
        embedding: how events enter the circuits, ``displacement`` or ``squeezing``.
        layers: of the circuit.
        events: real ones, half of them held out; as many fakes.
        steps: of each training.
        batch_size: real events of a step.
        seeds: number of trainings of each classifier.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    pixels: tuple[int, ...] = (3, 4)
    fakes: tuple[str, ...] = ("uniform", "shuffled")
    cutoffs: tuple[int, ...] = (5, 7)
    embedding: str = "displacement"
    layers: int = 2
    events: int = 2000
    steps: int = 400
    batch_size: int = 64
    seeds: int = 5

    def __post_init__(self) -> None:
        if self.embedding not in get_args(Embedding):
            raise ValueError(f"embedding is {self.embedding!r}; allowed are {', '.join(get_args(Embedding))}")
        for name, values, least in (("pixels", self.pixels, 2), ("cutoffs", self.cutoffs, 2)):
            if not values or min(values) < least:
                raise ValueError(f"{name} is {list(values)}; integers of at least {least} are needed")
        wrong = [name for name in self.fakes if name not in FAKES]
        if wrong or not self.fakes:
            raise ValueError(f"fakes is {', '.join(self.fakes) or 'empty'}; allowed are {', '.join(FAKES)}")
        for name, least in (("layers", 1), ("events", 4), ("steps", 1), ("batch_size", 1), ("seeds", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least} is needed")


def showers(pixels: int) -> Tensor:
    """Profiles of all Geant4 showers of the package, ``(5400, pixels)``, shares of the energy, standardised.

    Raises:
        ValueError: the calorimeter has fewer layers.
    """
    data = load_calorimeter(grid=(pixels,), normalisation="linear")
    return data.transform(data.samples, data.conditions)


def _uniform(others: Tensor, rng: torch.Generator) -> Tensor:
    low, high = others.amin(0), others.amax(0)
    return low + (high - low) * uniform(tuple(others.shape), rng, dtype=torch.float64)


def _shuffled(others: Tensor, rng: torch.Generator) -> Tensor:
    return torch.stack([column[torch.randperm(len(others), generator=rng)] for column in others.unbind(1)], dim=1)


FAKES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"uniform": _uniform, "shuffled": _shuffled}
"""From showers that are not among the real ones to as many fakes."""


def cv_classifier(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to train.
        progress: is told of each training.

    Returns:
        JSON values: ``settings``, ``trainings`` (a row each) and ``summary`` (see :func:`summary`).

    Raises:
        ValueError: fewer showers than twice the events.
    """
    rows = []
    for pixels in settings.pixels:
        known = showers(pixels)
        if 2 * settings.events > len(known):
            raise ValueError(f"events is {settings.events}; at most {len(known) // 2} are there with as many others")
        for fakes in settings.fakes:
            for seed in range(settings.seeds):
                rng = new_generator(derive_seed(seed, "events", fakes, pixels))
                chosen = known[torch.randperm(len(known), generator=rng)[: 2 * settings.events]]
                real, others = chosen.tensor_split(2)
                fake = FAKES[fakes](others, rng)
                place = {"pixels": pixels, "fakes": fakes, "seed": seed}
                for name, cutoff, judge in _classifiers(settings, pixels, seed):
                    progress(f"{pixels} pixels, {fakes} fakes, seed {seed}: {name}")
                    found = train_classifier(
                        judge, real, fake, settings.steps, batch_size=settings.batch_size, seed=seed
                    )
                    size = sum(p.numel() for p in judge.parameters())
                    row = {**place, "classifier": name, "cutoff": cutoff, "parameters": size, **asdict(found)}
                    rows.append({**row, **(_truncation(judge, real, fake) if isinstance(judge, CVClassifier) else {})})
    return {"settings": asdict(settings), "trainings": rows, "summary": summary(rows)}


def _classifiers(settings: Settings, pixels: int, seed: int) -> list[tuple[str, int | None, Discriminator]]:
    own = derive_seed(seed, "classifier")
    circuits = [
        CVClassifier(
            pixels, embedding=cast(Embedding, settings.embedding), layers=settings.layers, cutoff=cutoff, seed=own
        )
        for cutoff in settings.cutoffs
    ]
    size = sum(p.numel() for p in circuits[0].parameters())
    width = max(1, round((size - 1) / (pixels + 2)))
    return [
        ("logistic regression", None, MLP.for_events(pixels, 0, hidden=(), seed=own)),
        ("perceptron, equal size", None, MLP.for_events(pixels, 0, hidden=(width,), seed=own)),
        *((f"circuit, cutoff {judge.cutoff}", judge.cutoff, judge) for judge in circuits),
        ("perceptron, large", None, MLP.for_events(pixels, 0, hidden=LARGE, seed=own)),
    ]


def _truncation(judge: CVClassifier, real: Tensor, fake: Tensor) -> dict[str, float]:
    """Largest and mean norm lost, and the share of events that change sides at a higher cutoff."""
    events = torch.cat([real, fake])
    with torch.no_grad():
        lost = judge.norm_lost(events)
        sides = judge(events, None) > 0
        judge.simulator = Fock(judge.cutoff + CHECK_CUTOFF, basis=judge.basis, warn_above=None)
        above = judge(events, None) > 0
        judge.simulator = None
    return {
        "norm_lost": lost.mean().item(),
        "norm_lost_most": lost.max().item(),
        "changed": (sides != above).double().mean().item(),
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds for each classifier, fakes and number of pixels.

    Args:
        rows: of the trainings.

    Returns:
        For each ``accuracy`` and ``auc`` the mean, ``..._uncertainty`` the standard error of the mean over the seeds
        (of one seed: of the accuracy the binomial one, of the AUC None), and the means of what else was found.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ("pixels", "fakes", "classifier")), []).append(row)
    found = []
    for members in groups.values():
        entry = {name: members[0][name] for name in ("pixels", "fakes", "classifier", "cutoff", "parameters")}
        for name in ("accuracy", "auc"):
            entry[name], entry[f"{name}_uncertainty"] = _mean([row[name] for row in members])
        if len(members) == 1:
            entry["accuracy_uncertainty"] = members[0]["uncertainty"]
        for name in ("uncertainty", "training_accuracy", "norm_lost", "norm_lost_most", "changed"):
            values = [row[name] for row in members if name in row]
            entry[name] = sum(values) / len(values) if values else None
        found.append(entry)
    return found


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
