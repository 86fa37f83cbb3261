"""``write_report``: everything that is shown of a run, and the page around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from experiments.cost import COLUMNS, short_cost
from experiments.provenance import provenance_facts
from experiments.report.backends import ROLE_COLOURS, ModelOnBackends, on_backends
from experiments.report.calorimeter import calorimeter
from experiments.report.circuit_drawings import CircuitOf, circuits_of
from experiments.report.correlations import correlations
from experiments.report.distributions import Distributions, distributions
from experiments.report.events import Events
from experiments.report.noise import NoiseStudy, noise_study
from experiments.report.strings import Strings, strings_of
from experiments.report.style import Look, Picture, styled
from experiments.report.summary import PULL_STEPS, MetricNote, Row, flat, headline_rows, metric_notes, verdict
from experiments.report.training import training_curves
from experiments.scores import Results, read_results
from qgen.data.dataset import Dataset
from qgen.statefile import write_atomically

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["environment", "write_report"]


@dataclass(frozen=True)
class Section:
    """What the page shows of one run."""

    anchor: str
    folder: str
    name: str
    description: str
    finished: str
    summary: str
    events: list[tuple[str, str]]
    results: Results
    rows: list[Row]
    further: list[Row]
    per_feature: list[Row]
    prices: dict[str, dict[str, str]]
    verdict: list[tuple[str, int, int]]
    notes: list[MetricNote]
    looks: dict[str, Look]
    distributions: Distributions
    images: list[Picture]
    correlations: Picture | None
    strings: Strings | None
    training: Picture | None
    noise: NoiseStudy | None
    backends: list[ModelOnBackends]
    circuits: list[CircuitOf]
    unloaded: list[str]
    config: str
    environment: list[tuple[str, str]]
    provenance: list[tuple[str, str]]

    @property
    def several_seeds(self) -> bool:
        """Whether numbers are means over seeds."""
        return len(self.results.seeds) > 1

    @property
    def price(self) -> dict[str, str]:
        """Headings of what is told of the price of circuits, none where no model has any."""
        return {key: text for key, text in COLUMNS.items() if any(key in price for price in self.prices.values())}


def write_report(runs: Sequence[Run], path: Path) -> Path:
    """Write one self-contained HTML page about finished runs: a section for each.

    The page holds its images and styles, needs no network and runs no script; every name in it is escaped.

    Args:
        runs: the runs, from :func:`qgen.run.load_run`.
        path: the file to write; one that exists is replaced when the new one is complete.

    Returns:
        ``path``.

    Raises:
        FileNotFoundError: a run is not finished, or its samples or the file of its events are missing.
        ValueError: no run, a damaged file in a run's folder, or a folder for ``path`` that does not exist.
    """
    if not runs:
        raise ValueError("no run is given; a report is about at least one")
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")
    with styled():
        sections = [_section(run, f"run-{number}") for number, run in enumerate(runs, start=1)]
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            steps=PULL_STEPS,
            roles=ROLE_COLOURS,
            title=" · ".join(section.name for section in sections),
        )
    )
    write_atomically(path, page.encode())
    return path


def environment() -> Environment:
    """Where the templates of pages are; every name in them is escaped, a missing one is an error."""
    return Environment(
        loader=PackageLoader("experiments", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(run: Run, anchor: str) -> Section:
    source = run.folder / "results.json"
    results = read_results(run.results, str(source))
    events = Events.of(run)
    circuits: list[CircuitOf] = []
    unloaded = []
    for model in run.models:
        try:
            circuits += circuits_of(model, run.generator(model))
        except (ValueError, ImportError) as error:
            unloaded.append(f"{model}: {error}")
    observables = events.observables()
    finished = datetime.fromtimestamp(source.stat().st_mtime, tz=UTC)
    return Section(
        anchor=anchor,
        folder=str(run.folder),
        name=str(run.config.get("name", run.folder.name)),
        description=str(run.config.get("description", "")),
        finished=f"{finished:%d %B %Y, %H:%M} UTC",
        summary=_summary(run, results, events, {circuit.model for circuit in circuits}),
        events=_facts(run.dataset, events.truth),
        results=results,
        rows=headline_rows(results, results.headline),
        further=headline_rows(results, results.further),
        per_feature=headline_rows(results, results.per_feature),
        prices={name: short_cost(scores.cost) for name, scores in results.generators.items()},
        verdict=verdict(results),
        notes=metric_notes(results.headline + results.further),
        looks=events.looks,
        distributions=distributions(observables, events.looks),
        images=calorimeter(events),
        correlations=correlations(events.features()) or correlations(observables),
        strings=strings_of(run, results, events.looks),
        training=training_curves(run, events.looks),
        noise=noise_study(run, results),
        backends=on_backends(run, results),
        circuits=circuits,
        unloaded=unloaded,
        config=yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        environment=flat(provenance_facts(run.environment)),
        provenance=flat(run.environment.get("data") or {}),
    )


def _summary(run: Run, results: Results, events: Events, quantum: set[str]) -> str:
    """One sentence on what is compared."""
    groups: dict[str, list[str]] = {}
    for name, scores in results.generators.items():
        trained = run.config["models"].get(name, {}).get("objective") is not None
        group = "quantum" if name in quantum else "classical" if trained else "fitted in closed form"
        size = f" ({scores.n_parameters:,} parameters)".replace(",", "\u202f") if trained else ""
        groups.setdefault(group, []).append(f"{name}{size}")
    parts = [f"{group}: {', '.join(names)}" for group, names in groups.items()]
    what = f"{len(events.truth)} true events that no model was trained on"
    seeds = f"; means over {len(results.seeds)} trainings of each" if len(results.seeds) > 1 else ""
    text = "; ".join(parts)
    n = len(results.generators)
    return f"{n} {'models are' if n > 1 else 'model is'} compared with {what}{seeds}. {text[:1].upper()}{text[1:]}."


def _facts(dataset: Dataset, truth: Dataset) -> list[tuple[str, str]]:
    return [
        (
            "events",
            f"{len(dataset)} in all: {len(dataset.train)} to train on, {len(dataset.validation)} to choose between "
            f"states of a training, {len(truth)} to judge by",
        ),
        ("features", _names(dataset.features)),
        ("conditions", _names(dataset.condition_features) or "none"),
    ]


def _names(features: Sequence) -> str:
    texts = [f"{feature.name} [{feature.unit}]" if feature.unit else feature.name for feature in features]
    if len(texts) > 16:
        return f"{', '.join(texts[:6])}, ... {texts[-1]} ({len(texts)} in all)"
    return ", ".join(texts)
