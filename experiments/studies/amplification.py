"""The study ``amplification``: how many true events a sample of each model is worth (GANplification, 2008.06545).

Models learn from few true events of a distribution that is known much better, and what they generate is compared with
it on cells of equal true probability (:mod:`qgen.metrics.ganplification`). Every training has events and a seed of its
own, so that the spread over trainings holds both. A model that is trained sees four fifths of its events in its steps
and chooses the state to keep by the others; one that is fitted at once has all of them. All count as training events.

Rows whose worth is known stand beside the models: the training events themselves, further true events, events that
are resampled from the training events, and of the double peak a fit of the true family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from experiments.studies.amplification_sources import SOURCES, Draw, fit_two_peaks, two_peaks_worth
from qgen.data import Dataset, Feature
from qgen.data.dataset import SPLITS
from qgen.generator import Generator
from qgen.metrics import QuantileCells, amplification
from qgen.random import derive_seed, new_generator, uniform
from qgen.registry import generator_class
from qgen.text import unknown
from qgen.training import OBJECTIVES, fit

__all__ = ["MODELS", "Model", "Settings", "amplification_study", "training_set"]

UNIT = 10
"""Training events are multiples of it, so that splits of fixed shares come out."""

EVENTS_PER_CELL = 10
"""True events from which the edges of a cell can be taken."""


@dataclass(frozen=True)
class Model:
    """A model of the study.

    Args:
        kind: of generator.
        options: of its ``for_dataset``, by source.
        objective: a kind; empty for a model that is fitted when it is built.
        training: arguments of :func:`qgen.fit`.
        rates: of learning, by source.
    """

    kind: str
    options: Mapping[str, Mapping[str, Any]]
    objective: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)

    def learned(self, dataset: Dataset, source: str, seed: int) -> Generator:
        """The model, having learned these events."""
        model = generator_class(self.kind).for_dataset(dataset, seed=seed, **self.options[source])
        if self.objective:
            objective = OBJECTIVES[self.objective]()
            fit(model, dataset, objective, seed=seed, learning_rate=self.rates[source], **self.training)
        return model


def _options(peak: Mapping[str, Any], muons: Mapping[str, Any], **both: Any) -> dict[str, dict[str, Any]]:
    return {"double peak": {**peak, **both}, "muon events": {**muons, **both}}


def _rates(peak: float, muons: float) -> dict[str, float]:
    return {"double peak": peak, "muon events": muons}


SIZES = _options({"n_parameters": 50}, {"n_parameters": 100})

MODELS: dict[str, Model] = {
    "histogram": Model("histogram", _options({"bins": 25}, {"bins": 5})),
    "marginals": Model("marginals", _options({"knots": 50}, {"knots": 33})),
    "copula": Model("copula", _options({"knots": 50}, {"knots": 32})),
    "gan": Model("gan", SIZES, "adversarial", {"steps": 500, "betas": (0.5, 0.9)}, _rates(0.02, 0.006)),
    "flow": Model("flow", SIZES, "nll", {"steps": 250, "validate_every": 25}, _rates(0.1, 0.03)),
    "vae": Model("vae", SIZES, "own", {"steps": 500, "validate_every": 25}, _rates(0.03, 0.03)),
    "flow matching": Model("flow_matching", SIZES, "own", {"steps": 800}, _rates(0.1, 0.1)),
    "autoregressive": Model(
        "autoregressive",
        _options({"n_parameters": 50, "bits": 5}, {"n_parameters": 100, "bits": 4}),
        "nll",
        {"steps": 300, "validate_every": 20},
        _rates(0.2, 0.2),
    ),
    "born machine": Model(
        "born_machine",
        _options(
            {"bits": 5},
            {"bits": 3, "degree": 1, "order": "snake"},
            ansatz="cascade",
            layers=2,
            start="plus",
            initial_range=0.01,
        ),
        "nll",
        {"steps": 250, "batch_size": None, "validate_every": 10},
        _rates(0.3, 0.3),
    ),
    "style": Model(
        "style",
        _options({"layers": 12}, {"layers": 7}),
        "mmd",
        {"steps": 150, "validate_every": 25},
        _rates(0.03, 0.03),
    ),
}
"""About 50 parameters for one feature and 100 for three; marginals of one feature are its copula."""


QUANTILES = {"double peak": 20, "muon events": 4}
"""Of each column, for each source, if not asked otherwise."""


@dataclass(frozen=True)
class Settings:
    """What the study computes.

    Args:
        sources: names of :data:`~experiments.studies.amplification_sources.SOURCES`.
        models: names of :data:`MODELS`.
        events: sizes of training samples.
        factors: sizes of generated samples, over that of the training sample.
        trainings: of each model, each with events and a seed of its own.
        quantiles: of each column, by source; to the power of the columns they are the cells.
        truth: true events from which cells are cut that are not known exactly.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    sources: Sequence[str] = tuple(SOURCES)
    models: Sequence[str] = tuple(MODELS)
    events: Sequence[int] = (100, 1000)
    factors: Sequence[int] = (1, 10, 100)
    trainings: int = 5
    quantiles: Mapping[str, int] = field(default_factory=lambda: dict(QUANTILES))
    truth: int = 1_000_000

    def __post_init__(self) -> None:
        for what, names, known in (("source", self.sources, SOURCES), ("model", self.models, MODELS)):
            for name in names:
                if name not in known:
                    raise ValueError(unknown(what, name, known))
        for what, values in vars(self).items():
            if isinstance(values, tuple) and len(set(values)) < len(values):
                raise ValueError(f"{what} is {list(values)}; each only once")
        if list(self.factors) != sorted(self.factors):
            raise ValueError(f"factors is {list(self.factors)}; the largest comes last")
        if not self.sources:
            raise ValueError("sources is empty; name at least one")
        if not self.factors or min(self.factors) < 1:
            raise ValueError(f"factors is {list(self.factors)}; positive numbers are needed")
        if not self.events or any(n < UNIT or n % UNIT for n in self.events):
            raise ValueError(f"events is {list(self.events)}; multiples of {UNIT} are needed")
        if self.trainings < 2:
            raise ValueError(f"trainings is {self.trainings}; at least 2 are needed, for their spread")
        for source in self.sources:
            self._check_cells(source)

    def cells(self, source: str) -> int:
        """How many cells there are."""
        return int(self.quantiles[source] ** SOURCES[source].columns)

    def _check_cells(self, source: str) -> None:
        quantiles = self.quantiles.get(source, 0)
        if quantiles < 2:
            raise ValueError(f"quantiles is {quantiles} for {source}; at least 2 are needed")
        cells, largest = self.cells(source), max(self.events) * max(self.factors)
        if min(self.events) < cells:
            raise ValueError(f"events is {min(self.events)}; {source} have {cells} cells, which need at least as many")
        if not SOURCES[source].exact and self.truth < max(EVENTS_PER_CELL * cells, largest):
            raise ValueError(
                f"truth is {self.truth}; {source} have {cells} cells, which need at least {EVENTS_PER_CELL * cells}, "
                f"and up to {largest} generated events, which need at least as many"
            )


def amplification_study(settings: Settings, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Do the study.

    Args:
        settings: what to compute.
        progress: is told of each part.

    Returns:
        JSON values: ``settings``, ``cells`` of each source, and ``rows`` with ``source``, training ``events``,
        ``model``, ``parameters`` (their mean; None where nothing is learned), ``size`` of the generated sample, mean
        quantile ``error`` and its ``uncertainty`` over the trainings, the number of true events that it is ``worth``,
        ``low`` and ``high`` end of its interval (None where there is no end), ``factor`` over the training events, and
        the ``expected`` worth (None where it is not known).
    """
    rows = []
    for source in settings.sources:
        cells = SOURCES[source].cells(settings.quantiles[source], settings.truth)
        for n in settings.events:
            case = Case(source, n, cells, settings)
            progress(f"{source}, {n} events")
            rows += case.controls()
            for name in settings.models:
                progress(f"{source}, {n} events, {name}")
                rows += case.model(name)
    number = {source: settings.cells(source) for source in settings.sources}
    return {"settings": asdict(settings), "cells": number, "rows": rows}


@dataclass(frozen=True)
class Case:
    """Trainings with ``n`` events of a source each."""

    source: str
    n: int
    cells: QuantileCells
    settings: Settings

    @cached_property
    def events(self) -> list[Dataset]:
        """Those of each training, the same for all models."""
        draw = SOURCES[self.source].events
        return [draw(self.n, derive_seed(k, "training", self.n)) for k in range(self.settings.trainings)]

    def model(self, name: str) -> list[dict[str, Any]]:
        """Rows of a model."""
        model = MODELS[name]
        made = []
        for k, events in enumerate(self.events):
            dataset = training_set(events, held_out=bool(model.objective))
            made.append(model.learned(dataset, self.source, derive_seed(k, name)))

        def draw(k: int) -> Draw:
            return lambda size: made[k].sample(size, generator=new_generator(derive_seed(k, name, self.n, size)))

        return self._rows(name, draw, parameters=round(sum(one.n_parameters for one in made) / len(made)))

    def controls(self) -> list[dict[str, Any]]:
        """Rows whose worth is known."""
        own = [events.samples for events in self.events]

        def true(k: int) -> Draw:
            return lambda size: SOURCES[self.source].events(size, derive_seed(k, "true", self.n, size)).samples

        def resampled(k: int) -> Draw:
            rng = new_generator(derive_seed(k, "resampled", self.n))
            return lambda size: own[k][(uniform((size,), rng, dtype=torch.float64) * self.n).long()]

        rows = self._rows("training events", lambda k: lambda size: own[k], sizes=[self.n], expected=float)
        rows += self._rows("true events", true, expected=float)
        rows += self._rows("resampled", resampled, expected=lambda size: 1 / (1 / self.n + 1 / size))
        if self.source == "double peak":
            limit = two_peaks_worth(self.cells, self.n)
            rows += self._rows(
                "fit of two peaks",
                lambda k: fit_two_peaks(own[k], derive_seed(k, "fit", self.n)),
                parameters=5,
                expected=lambda size: 1 / (1 / limit + 1 / size),
            )
        return rows

    def _rows(
        self,
        name: str,
        draw: Callable[[int], Draw],
        *,
        parameters: int | None = None,
        sizes: Sequence[int] | None = None,
        expected: Callable[[int], float] = lambda size: math.inf,
    ) -> list[dict[str, Any]]:
        """A row for each size; ``draw(k)`` draws from what learned the events of a training."""
        found = amplification(
            self.cells,
            [events.samples for events in self.events],
            [draw(k) for k in range(len(self.events))],
            [factor * self.n for factor in self.settings.factors] if sizes is None else sizes,
        )
        return [
            {
                "source": self.source,
                "events": self.n,
                "model": name,
                "parameters": parameters,
                "size": worth.size,
                "error": worth.error,
                "uncertainty": worth.uncertainty,
                "worth": _finite(worth.events),
                "low": _finite(worth.interval[0]),
                "high": _finite(worth.interval[1]),
                "factor": _finite(worth.factor),
                "expected": _finite(expected(worth.size)),
            }
            for worth in found.generated
        ]


def training_set(events: Dataset, held_out: bool) -> Dataset:
    """Events, a multiple of ten, as a dataset whose training split they are, or training and validation split.

    The shares of splits are fixed, so that there are further rows; they repeat an event, and no training looks at them.

    Args:
        events: all that may be learned from.
        held_out: whether a fifth of them is for validation.

    >>> from qgen.data import gaussian_events
    >>> data = training_set(gaussian_events(n=100), held_out=True)
    >>> len(data.train), len(data.validation)
    (80, 20)
    """
    share = SPLITS["train"] + SPLITS["validation"] * held_out
    size = round(len(events) / share)
    places = Dataset(torch.arange(size, dtype=torch.float64)[:, None], (Feature("row"),))
    used = [places.train, places.validation] if held_out else [places.train]
    rows = torch.zeros(size, dtype=torch.long)
    rows[torch.cat([part.samples[:, 0] for part in used]).long()] = torch.arange(len(events))
    return replace(events.take(rows), seed=places.seed, fitted=None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
