"""The study ``bits``: what encodings of events in bits lose.

Cells are fixed by the training events. Test events give the errors and entropies of
:func:`~qgen.bits.information.information_lost`; validation events, sent to their cells and back, are scored against
them as a generator's events are, on their observables, beside the floor: the best that any model on these bits can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qgen.bits.cells import Edges, Frame, fit_cells
from qgen.bits.information import information_lost
from qgen.data import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.discretiser import Code
from qgen.metrics import evaluate
from qgen.random import derive_seed, new_generator

__all__ = ["IMAGE_METRICS", "METRICS", "Encoding", "Settings", "bits_study", "encodings"]

METRICS = ("classifier_auc", "wasserstein", "correlation")
"""Of the observables."""

IMAGE_METRICS = ("longitudinal_profile",)
"""Of images, where they have layers."""


@dataclass(frozen=True)
class Encoding:
    """Options of :func:`~qgen.bits.cells.fit_cells`.

    Args:
        bits: of every feature that has bits.
        code: how cells are written in bits.
        edges: how cells are cut.
        frame: in what space.
        voxels: pixels with bits, None for all.
        threshold: energy (MeV) below which a pixel is empty, None for none.
    """

    bits: int
    code: Code = "gray"
    edges: Edges = "learned"
    frame: Frame = "marginals"
    voxels: int | None = None
    threshold: float | None = None

    @property
    def cells(self) -> Encoding:
        """Another encoding with the same cells: the codes of ``2**bits`` cells number them differently."""
        return self if self.code == "unary" and self.bits > 1 else Encoding(**{**asdict(self), "code": "binary"})


@dataclass(frozen=True)
class Settings:
    """What the study computes.

    Args:
        bits: of a feature.
        voxels: numbers of pixels with bits, besides all; of images.
        thresholds: energies (MeV) below which a pixel is empty, besides none; with one bit each, of images.
        bootstrap: replicas of each uncertainty.
        seed: of the draws within the cells and of the metrics.

    Raises:
        ValueError: the option is named, with what was found and what is allowed.
    """

    bits: Sequence[int] = (1, 2, 3)
    voxels: Sequence[int] = (64, 368)
    thresholds: Sequence[float] = ()
    bootstrap: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.bits:
            raise ValueError("bits is empty; name at least one number")
        for name, values, least in (
            ("bits", self.bits, 1),
            ("voxels", self.voxels, 1),
            ("bootstrap", [self.bootstrap], 2),
        ):
            for value in values:
                if value < least:
                    raise ValueError(f"{name} is {value}; at least {least} is needed")
        for limit in self.thresholds:
            if not limit > 0:
                raise ValueError(f"threshold is {limit:g} MeV; it must be positive")


def encodings(settings: Settings, dataset: Dataset) -> list[Encoding]:
    """The encodings that are compared on these events, those of all features first."""
    found = []
    for bits in settings.bits:
        found.append(Encoding(bits, edges="linear", frame="features"))
        if bits > 1:
            found += [Encoding(bits, edges="linear"), Encoding(bits, edges="quantile")]
        found.append(Encoding(bits))
        if bits > 1:
            found += [Encoding(bits, code="binary"), Encoding(bits, code="unary")]
    if isinstance(dataset, CalorimeterDataset):
        found += [Encoding(1, threshold=threshold) for threshold in settings.thresholds]
        fewer = [n for n in settings.voxels if n < dataset.n_features]
        found += [Encoding(bits, voxels=n) for n in fewer for bits in settings.bits]
    return found


def bits_study(
    dataset: Dataset, settings: Settings, progress: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Do the study.

    Args:
        dataset: the events.
        settings: what to compute.
        progress: is told of each encoding.

    Returns:
        JSON values: ``settings``, ``features``, ``events`` (of the test split), ``floors`` by metric, and ``rows`` with
        the options of each encoding, what :func:`~qgen.bits.information.information_lost` finds and ``scores`` by
        metric. A score is a value with its uncertainty.
    """
    test, other = dataset.test, dataset.validation
    floors: dict[str, list[float]] = {}
    scored: dict[Encoding, dict[str, list[float]]] = {}
    rows = []
    for encoding in encodings(settings, dataset):
        options = asdict(encoding)
        progress(", ".join(f"{name} {value}" for name, value in options.items() if value is not None))
        cells, transform = fit_cells(dataset, tails=0.0, order="by-feature", **options)
        lost = information_lost(test, cells, transform, seed=settings.seed)
        if encoding.cells not in scored:
            rng = new_generator(derive_seed(settings.seed, "bits"))
            values = cells.roundtrip(transform(other.samples, other.conditions), rng)
            back = other.with_samples(transform.inverse(values, other.conditions))
            scored[encoding.cells] = _scores(test, back, dataset.train, settings, floors)
        energy = lost.energy._asdict() if lost.energy is not None else None
        found = {**lost._asdict(), "energy": energy}
        found.pop("errors")
        rows.append({**asdict(encoding), **found, "scores": scored[encoding.cells]})
    return {
        "settings": asdict(settings),
        "features": dataset.n_features,
        "events": len(test),
        "floors": floors,
        "rows": rows,
    }


def _scores(
    test: Dataset, back: Dataset, reference: Dataset, settings: Settings, floors: dict[str, list[float]]
) -> dict[str, list[float]]:
    """Value and uncertainty of each metric; the floors are put where those of all are."""
    found = {}
    views: list[tuple[Sequence[str], list[Dataset]]] = [
        (METRICS, [each.observables() for each in (test, back, reference)])
    ]
    if isinstance(test, CalorimeterDataset) and "layer" in test.geometry.axes:
        views.append((IMAGE_METRICS, [test, back, reference]))
    for names, (truth, generated, other) in views:
        table = evaluate(
            truth, generated, reference=other, metrics=names, n_bootstrap=settings.bootstrap, seed=settings.seed
        )
        for row in table:
            if not row.feature:
                found[row.metric] = [row.value.value, row.value.uncertainty]
                floors[row.metric] = [row.floor.value, row.floor.uncertainty]
    return found
