"""The study ``cv-limits``: cutoff, energy of the state and collapse of continuous-variable generators.

Three questions that come with every truncated simulation of a generator (2101.11132 names advantages and limitations
of its models; the measures here are ours):

- which cutoff the scale of the data needs (:mod:`experiments.studies.cv_cutoff`);
- whether a training drives the state's energy against the cutoff, where a truncated state can be anything: photons and
  norm lost during the training, and what the trained generator gives when the cutoff is raised and nothing else;
- whether the generated events collapse: their mean distance from each other over that of true events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from circuits.cv import simulator_for
from experiments.studies.cv_cutoff import cutoff_rows, needed
from qgen.data import CalorimeterDataset, load_calorimeter
from qgen.metrics import evaluate
from qgen.models.cv_generator import CVGenerator
from qgen.random import derive_seed, new_generator
from qgen.training import Adversarial, fit

__all__ = ["SHARES", "Probe", "Settings", "cv_limits", "mean_distance", "summary"]

NORMALISATIONS: tuple[Literal["log", "minmax"], ...] = ("log", "minmax")
"""How pixels become order one: standardised logarithms, as models are given them, or linear in [-1, 1]."""

SHARES = (0.0, 0.01)
"""Shares of the showers that may lose too much of their norm."""


@dataclass(frozen=True)
class Settings:
    """What the study computes.

    Args:
        pixels: of the longitudinal profile, and modes.
        strengths: displacements of a mode for a value of 1.
        cutoffs: first photon numbers of all modes together that are left out.
        reference: how far beyond the largest of them the cutoff lies with whose states the others are compared.
        showers: events that are displaced.
        trained: cutoffs at which generators are trained; none to leave the trainings out.
        penalties: weights of the norm lost in the generators' loss.
        seeds: trainings of each.
        steps: of each training.
        raised: by how much the cutoff of a trained generator is raised.
        events: generated, to look at them; at most as many as there are for validation, whose conditions they have.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    pixels: int = 3
    strengths: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5)
    cutoffs: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
    reference: int = 8
    showers: int = 300
    trained: tuple[int, ...] = (4, 6, 8)
    penalties: tuple[float, ...] = (0.0, 10.0)
    seeds: int = 2
    steps: int = 200
    raised: int = 4
    events: int = 1000

    def __post_init__(self) -> None:
        if not self.strengths or not all(0 < value < math.inf for value in self.strengths):
            raise ValueError(f"strengths is {list(self.strengths)}; positive numbers are needed")
        for name, values, fewest in (("cutoffs", self.cutoffs, 1), ("trained", self.trained, 0)):
            if len(values) < fewest or min(values, default=2) < 2:
                raise ValueError(f"{name} is {list(values)}; integers of at least 2 are needed")
        if not all(0 <= value < math.inf for value in self.penalties):
            raise ValueError(f"penalties is {list(self.penalties)}; numbers that are not negative are needed")
        least = {"showers": 2, "events": 20}
        for name in ("pixels", "reference", "showers", "seeds", "steps", "raised", "events"):
            if getattr(self, name) < least.get(name, 1):
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least.get(name, 1)} is needed")


def cv_limits(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to compute.
        progress: is told of each part.

    Returns:
        JSON values: ``settings``; ``cutoff``, the rows of :func:`~experiments.studies.cv_cutoff.cutoff_rows` for each
        normalisation; ``needed``, the cutoffs that would do; ``trainings``, a row each with its ``history``.
    """
    rows, wanted = [], []
    for normalisation in NORMALISATIONS:
        progress(f"cutoffs, {normalisation}")
        data = load_calorimeter(grid=(settings.pixels,), normalisation=normalisation).test
        values = data.transform(data.samples, data.conditions)[: settings.showers]
        reference = max(settings.cutoffs) + settings.reference
        found = cutoff_rows(values, settings.strengths, settings.cutoffs, reference=reference)
        rows += [{"normalisation": normalisation, **row} for row in found]
        for strength in settings.strengths:
            first = next(row for row in found if row["strength"] == strength)
            entry = {name: first[name] for name in ("strength", "photons", "photons_most")}
            for share in SHARES:
                entry[f"cutoff_{share:g}"] = needed(found, strength, share)
            wanted.append({"normalisation": normalisation, **entry})
    data = load_calorimeter(grid=(settings.pixels,))
    trainings = []
    for cutoff in settings.trained:
        for penalty in settings.penalties:
            for seed in range(settings.seeds):
                progress(f"training at cutoff {cutoff}, norm_penalty {penalty:g}, seed {seed}")
                trainings.append(_training(settings, data, cutoff, penalty, seed))
    return {"settings": asdict(settings), "cutoff": rows, "needed": wanted, "trainings": trainings}


class Probe:
    """Looks at a generator again and again, always with the same latent numbers under the conditions of true events.

    Args:
        generator: its number of latent numbers counts.
        truth: events, whose conditions are those of the generated ones.
        seed: fixes the latent numbers.
    """

    def __init__(self, generator: CVGenerator, truth: CalorimeterDataset, seed: int) -> None:
        self.condition = truth.condition_transform(truth.conditions)
        self.latent = generator.latent(len(truth), new_generator(derive_seed(seed, "probe")))
        self.distance = mean_distance(truth.transform(truth.samples, truth.conditions))

    def events(self, generator: CVGenerator, cutoff: int) -> Tensor:
        """Events as the generator gives them at a cutoff, ``(n, n_features)`` in the transform's space."""
        own = simulator_for(generator.program, cutoff=cutoff, basis=generator.basis, warn_above=None)
        generator.simulator = own
        try:
            with torch.no_grad():
                displacements = generator.displacements(self.latent, self.condition)
                return generator.scale * generator.means(displacements) + generator.offset
        finally:
            generator.simulator = None

    def look(self, generator: CVGenerator) -> dict[str, float]:
        """Mean and largest photon number and norm lost of the states, and how far events are from each other."""
        own = simulator_for(generator.program, cutoff=generator.cutoff, basis=generator.basis, warn_above=None)
        with torch.no_grad():
            state = own.run(generator.program, generator.weights, generator.displacements(self.latent, self.condition))
            photons, lost = state.mean_photons().sum(-1), state.norm_lost
        return {
            "photons": photons.mean().item(),
            "photons_most": photons.max().item(),
            "lost": lost.mean().item(),
            "lost_most": lost.max().item(),
            "distance": (mean_distance(self.events(generator, generator.cutoff)) / self.distance).item(),
        }


def mean_distance(values: Tensor) -> Tensor:
    """Mean Euclidean distance between two different events of ``(n, d)``.

    >>> mean_distance(torch.tensor([[0.0], [3.0], [3.0]])).item()
    2.0
    """
    n = len(values)
    return torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist").sum() / (n * (n - 1))


def _training(settings: Settings, data: CalorimeterDataset, cutoff: int, penalty: float, seed: int) -> dict[str, Any]:
    generator = CVGenerator.for_dataset(data, cutoff=cutoff, norm_penalty=penalty, seed=seed)
    seen = data.validation.take(range(min(settings.events, len(data.validation))))
    probe = Probe(generator, seen, seed)
    history = [{"step": 0.0, **probe.look(generator)}]

    def remember(record: dict[str, float]) -> None:
        history.append({"step": record["step"], **probe.look(generator)})

    result = fit(
        generator,
        data,
        Adversarial(),
        steps=settings.steps,
        keep="last",
        log_every=max(1, settings.steps // 20),
        seed=seed,
        callback=remember,
    )
    low, high = (probe.events(generator, cutoff + more) for more in (0, settings.raised))
    table = evaluate(
        data.test,
        {
            name: seen.with_samples(seen.transform.inverse(values, seen.conditions))
            for name, values in (("trained", low), ("raised", high))
        },
        reference=data.train,
        metrics=["wasserstein"],
        n_bootstrap=2,
    )
    scores = {f"wasserstein_{row.generator}": row.value.value for row in table if not row.feature}
    floor = next(row.floor.value for row in table if not row.feature)
    return {
        "cutoff": cutoff,
        "penalty": penalty,
        "seed": seed,
        "history": history,
        "remarks": list(result.remarks),
        "shift": (low - high).square().mean().sqrt().item(),
        **scores,
        "floor": floor,
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the seeds for each cutoff and penalty, of the end of the trainings and what followed.

    Args:
        rows: of the trainings.
    """
    groups: dict[tuple[int, float], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cutoff"], row["penalty"]), []).append(row)
    found = []
    for (cutoff, penalty), members in groups.items():
        entry: dict[str, Any] = {"cutoff": cutoff, "penalty": penalty}
        ends = [{**row["history"][-1], **row} for row in members]
        for name in ("photons", "lost", "lost_most", "shift", "wasserstein_trained", "wasserstein_raised", "floor"):
            entry[name] = sum(row[name] for row in ends) / len(ends)
        entry["distance"] = [row["distance"] for row in ends]
        found.append(entry)
    return found
