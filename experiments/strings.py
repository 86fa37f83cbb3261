"""Models on bits judged by expectation values of strings of Z: the step of a run, and what it leaves in the folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from experiments.experiment import Evaluation, Experiment, StringOptions
from experiments.kept_strings import read_strings
from qgen.bits.adjacency import neighbouring_bits
from qgen.bits.columns import Columns
from qgen.bits.judging import Described, Judged, StringJudge
from qgen.bits.kernels import flip_rate
from qgen.bits.profile import Profile
from qgen.bits.sets import BitSets
from qgen.bits.string_generator import StringGenerator
from qgen.data import CalorimeterDataset, Dataset, Discretiser
from qgen.data.gaussianise import Gaussianise
from qgen.data.transforms import Transform
from qgen.generator import DiscreteGenerator, Generator
from qgen.metrics.bins import Bin, condition_bins
from qgen.metrics.result import MetricResult
from qgen.random import derive_seed, new_generator
from qgen.registry import generator_class

if TYPE_CHECKING:
    from experiments.judging import Judge
    from qgen.run import Run

__all__ = ["FIRST_ORDERS", "STRINGS", "StringJudging", "check_strings", "named", "read_strings", "string_options"]

STRINGS = "strings.json"
"""The numbers behind the scores, in the folder of a seed."""

MOST_NUMBERS = 500
"""Strings of each kind whose expectation values are kept."""

FIRST_ORDERS = 6
"""Orders of correlation whose weights in a kernel are kept."""


def string_options(
    evaluation: Evaluation, generators: Mapping[str, Generator], dataset: Dataset
) -> StringOptions | None:
    """How strings are judged; None if they are not.

    If nobody asks for it they are where a model cannot be sampled, as far as it can be done.
    """
    if isinstance(evaluation.strings, StringOptions):
        return evaluation.strings
    asked = evaluation.strings
    if asked is None:
        unsampled = any(generator.no_samples for generator in generators.values())
        on_bits = any(isinstance(generator, DiscreteGenerator) for generator in generators.values())
        asked = unsampled and on_bits and dataset.weights is None
    return StringOptions() if asked else None


def check_strings(experiment: Experiment, dataset: Dataset) -> None:
    """Refuse what cannot be judged by strings.

    Raises:
        ValueError: no model is on bits, events have weights, or an impossible bandwidth.
    """
    kinds = [generator_class(model.generator.kind) for model in experiment.models.values()]
    if not any(issubclass(kind, DiscreteGenerator) for kind in kinds):
        raise ValueError("evaluation.strings: no model of this experiment is on bits")
    if dataset.weights is not None:
        raise ValueError("evaluation.strings: the events have weights, with which expectation values are not judged")
    options = experiment.evaluation.strings
    for scale in options.scales or () if isinstance(options, StringOptions) else ():
        try:
            flip_rate(scale)
        except ValueError as error:
            raise ValueError(f"evaluation.strings.scales: {error}") from None


def cells_of(generator: DiscreteGenerator) -> str:
    """What two models have in common whose bits are the same, in whatever order."""
    cells = generator.discretiser
    code = cells.code if max(cells.bits) > 1 else ""  # a single bit is the same in every code
    return json.dumps([generator.transform.spec(), [edges.tolist() for edges in cells.edges], code])


def named(metric: str, label: str, part: str = "") -> str:
    """The name of a score in the tables: with the cells that are meant if there are several kinds, and the bin.

    >>> named("string_mmd/4.97", ""), named("string_mmd/4.97", "64 bits", "beam_energy 50 GeV")
    ('string_mmd/4.97', 'string_mmd (64 bits)/4.97 @ beam_energy 50 GeV')
    """
    base, slash, feature = metric.partition("/")
    return (f"{base} ({label}){slash}{feature}" if label else metric) + (f" @ {part}" if part else "")


@dataclass(frozen=True)
class _Group:
    """Models with the same cells, and the true events in them, of all conditions or of a bin of them.

    Args:
        part: the bin; None for all events.
        label: in the names of the scores; empty if there is one group.
        models: on these cells.
        cells: their bits in a common order, feature by feature.
        transform: to the space of the cells.
        other: the events of the floor, under whose conditions models are asked.
        judge: holds the strings.
        floor: scores of the other events.
        axis: of the profile, empty if there is none.
    """

    part: Bin | None
    label: str
    models: list[str]
    cells: Discretiser
    transform: Transform
    other: Dataset
    judge: StringJudge
    floor: Judged
    axis: str

    def bits(self, events: Dataset) -> Tensor:
        """The bits of the events in the bin."""
        events = _within(events, self.part)
        return self.cells.encode(self.transform(events.samples, events.conditions))

    def named(self, metric: str) -> str:
        """The name of a score in the tables."""
        return named(metric, self.label, "" if self.part is None else self.part.label)


@dataclass(frozen=True)
class StringJudging:
    """The cells of a run's models, each with its strings, true values and floors.

    Args:
        groups: for each kind of cells one, and one for each bin of the conditions.
        seed: of the training.
    """

    groups: list[_Group]
    seed: int

    @classmethod
    def of(
        cls,
        judge: Judge,
        generators: Mapping[str, Generator],
        options: StringOptions,
        seed: int,
        warn: Callable[[str], None] = lambda line: None,
    ) -> StringJudging:
        """Choose the strings for the cells of all models that have such; ``warn`` is told which scores are left out."""
        on_bits = {name: model for name, model in generators.items() if isinstance(model, DiscreteGenerator)}
        of_cells: dict[str, list[str]] = {}
        for name, generator in on_bits.items():
            of_cells.setdefault(cells_of(generator), []).append(name)
        labels = _labels([(names, on_bits[names[0]]) for names in of_cells.values()])
        bins = judge.evaluation.bins
        groups = []
        for part in (None, *(condition_bins(judge.truth, bins) if bins else [])):
            for names, label in zip(of_cells.values(), labels, strict=True):
                try:
                    group = _group(judge, part, on_bits[names[0]], names, label, options, seed)
                except ValueError as error:
                    warn(f"{named('expectation values', label, part.label if part else '')}: not judged: {error}")
                    continue
                groups.append(group)
                for name, why in group.judge.missing.items():
                    warn(f"{group.named(name)} is left out: {why}")
        return cls(groups, seed)

    @classmethod
    def of_run(cls, run: Run, judge: Judge, seed: int) -> StringJudging | None:
        """As a run judged its models; None if it did not by strings."""
        kept = read_strings(run.folder / f"seed-{seed}" / STRINGS)
        if not kept:
            return None
        generators = {name: run.generator(name, seed) for group in kept for name in group["models"]}
        asked = judge.evaluation.strings
        return cls.of(judge, generators, asked if isinstance(asked, StringOptions) else StringOptions(), seed)

    def scores(
        self, samples: Mapping[str, Dataset], generators: Mapping[str, Generator], warn: Callable[[str], None]
    ) -> tuple[dict[str, dict[str, dict[str, float]]], list[dict[str, Any]]]:
        """By model and name the value, uncertainty, floor and floor's uncertainty; and the numbers behind them.

        Args:
            samples: events of models by name; those of a model on bits are judged in its own cells, others in all.
            generators: by name; those without events, that know expectation values, are judged by these.
            warn: is told which model could not be judged, and why.
        """
        scores: dict[str, dict[str, dict[str, float]]] = {}
        kept = []
        on_bits = {name for group in self.groups for name in group.models}
        for group in self.groups:
            judged: dict[str, Judged] = {}
            asked: dict[str, Tensor | Columns] = {
                name: group.bits(events)
                for name, events in samples.items()
                if name in group.models or name not in on_bits
            }
            asked |= {
                name: _columns(known, group.cells, group.other, derive_seed(self.seed, name, "strings"))
                for name in group.models
                if name not in samples and isinstance(known := generators.get(name), StringGenerator)
            }
            for name, model in asked.items():
                try:
                    judged[name] = group.judge.judge(model)
                except ValueError as error:
                    warn(f"{name}: not judged by strings: {error}")
            for name, one in judged.items():
                rows = {group.named(m): _row(score, group.floor.scores[m]) for m, score in one.scores.items()}
                scores.setdefault(name, {}).update(rows)
            if group.part is None:
                kept.append(_kept(group, {name: judged[name] for name in (*generators, *samples) if name in judged}))
        return scores, kept


def _labels(groups: Sequence[tuple[list[str], Any]]) -> list[str]:
    """Of each kind of cells a name, by its number of bits or, if two have as many, by its models; none for one kind."""
    bits = [f"{generator.discretiser.n_bits} bits" for _, generator in groups]
    if len(groups) == 1:
        return [""]
    return bits if len(set(bits)) == len(bits) else [", ".join(names) for names, _ in groups]


def _within(events: Dataset, part: Bin | None) -> Dataset:
    return events if part is None else events.take(part.holds(events).nonzero().flatten())


def _group(
    judge: Judge,
    part: Bin | None,
    generator: DiscreteGenerator,
    models: list[str],
    label: str,
    options: StringOptions,
    seed: int,
) -> _Group:
    truth, other, training = (_within(events, part) for events in (judge.truth, judge.other, judge.training))
    transform = Transform.from_spec(generator.transform.spec())
    cells = Discretiser([edges.tolist() for edges in generator.discretiser.edges], generator.discretiser.code)
    # directions are no voxels
    voxels = not any(isinstance(step, Gaussianise) for step in transform.modules())

    def bits(events: Dataset) -> Tensor:
        return cells.encode(transform(events.samples, events.conditions))

    profile = None
    if voxels and isinstance(training, CalorimeterDataset):
        profile = Profile.of(cells, cells.indices(transform(training.samples, training.conditions)), training)
    # strings are chosen by events of which there is no floor, if there are enough
    rest = range(len(other) if len(training) >= 2 * len(other) else 0, len(training))
    strings = StringJudge.of(
        bits(truth),
        bits(training.take(rest)),
        scales=options.scales,
        near=neighbouring_bits(training, cells, frame="features" if voxels else "gaussian"),
        profile=profile,
        pairs=options.pairs,
        triples=options.triples,
        strings=options.strings,
        seed=derive_seed(seed, "evaluation"),
    )
    floor, axis = strings.judge(bits(other)), profile.axis if profile else ""
    return _Group(part, label, models, cells, transform, other, strings, floor, axis)


def _columns(generator: StringGenerator, cells: Discretiser, other: Dataset, seed: int) -> Columns:
    """The expectation values of a model, a column for each of the conditions, its bits in the common order."""
    place = {wire: bit for bit, wire in enumerate(generator.discretiser.wires)}
    of_bit = torch.tensor([place[wire] for wire in cells.wires])
    rng = new_generator(seed)
    condition = None
    if generator.uses_condition:
        condition = generator.condition_transform(other.conditions.to(generator.device))

    @torch.no_grad()
    def values(strings: BitSets) -> Tensor:
        # members stand in ascending order
        order = (strings.rows * strings.n_bits + of_bit[strings.members]).sort().values
        own = BitSets(strings.n_bits, strings.pointers, order % strings.n_bits).to(generator.device)
        return generator.string_values(own, condition, len(other), rng)

    return values


def _row(score: MetricResult, floor: MetricResult) -> dict[str, float]:
    return {**score.to_dict(), "floor": floor.value, "floor_uncertainty": floor.uncertainty}


def _kept(group: _Group, judged: Mapping[str, Judged]) -> dict[str, Any]:
    """What is drawn of a group, JSON values."""
    weights = group.judge.weights
    orders = [[*row[1 : 1 + FIRST_ORDERS].tolist(), row[1 + FIRST_ORDERS :].sum().item()] for row in weights]
    return {
        "label": group.label,
        "models": group.models,
        "n_bits": group.cells.n_bits,
        "scales": list(group.judge.scales),
        "orders": [[float(f"{weight:.4g}") for weight in row] for row in orders],
        "axis": group.axis,
        "truth": _numbers(group.judge.numbers()),
        "floor": _numbers(group.floor.numbers),
        "of": {name: _numbers(one.numbers) for name, one in judged.items()},
    }


def _numbers(found: Mapping[str, Described]) -> dict[str, dict[str, list[float]]]:
    kept = {}
    for name, numbers in found.items():
        n = len(numbers.values)
        some = torch.linspace(0, n - 1, min(n, MOST_NUMBERS)).round().long()
        kept[name] = {
            "values": [float(f"{x:.5g}") for x in numbers.values[some].tolist()],
            "errors": [float(f"{x:.3g}") for x in numbers.errors[some].tolist()],
        }
    return kept
