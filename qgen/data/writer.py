"""Events written to HDF5 block by block: as many as the disk holds, in the memory of one block."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qgen.data.binary import BitDataset
from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset, Feature
from qgen.data.hdf5 import WEIGHTS
from qgen.data.hdf5_writer import RowWriter, create_hdf5
from qgen.data.muon import MuonDataset
from qgen.data.part_file import PartFile
from qgen.data.provenance import provenance_to_json

if TYPE_CHECKING:
    import h5py

__all__ = ["KINDS", "EventWriter", "event_writer", "write_calorimeter", "write_events"]

KINDS: dict[str, type[Dataset]] = {"Dataset": Dataset, "MuonDataset": MuonDataset, "BitDataset": BitDataset}
"""Kinds of events in a file that is no image."""


class EventWriter:
    """Appends blocks of events to an open file; made by :func:`event_writer`.

    Args:
        file: HDF5, open for writing, empty.
        part: what it is written to.
    """

    def __init__(self, file: h5py.File, part: PartFile) -> None:
        self._file, self._part = file, part
        self._first: Dataset | None = None
        self._rows: RowWriter | None = None
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def append(self, events: Dataset) -> None:
        """More events, of the columns, the geometry and the kind of those before; provenance is that of the first.

        Raises:
            ValueError: others, some with weights and some without, or an image with a negative pixel (the row is
                named).
            OSError: the disk takes no more.
        """
        if isinstance(events, CalorimeterDataset):
            self._refuse_negative(events)
        if self._first is None or self._rows is None:
            self._first = events.take([0])
            self._rows = self._begin(events)
        elif (what := _difference(self._first, events)) is not None:
            raise ValueError(f"events from row {self._n} on have other {what} than those before")
        blocks = [events.samples.numpy(), events.conditions.numpy()]
        self._rows.append(*blocks, *([] if events.weights is None else [events.weights.numpy()]))
        self._part.check()
        self._n += len(events)

    def finish(self) -> None:
        """The last rows.

        Raises:
            ValueError: there are no events.
        """
        if self._rows is None:
            raise ValueError("no events were appended; at least one is needed")
        self._rows.finish()

    def _begin(self, events: Dataset) -> RowWriter:
        attributes: dict[str, Any] = {"provenance": provenance_to_json(events.provenance)}
        names = ("samples", "conditions")
        if isinstance(events, CalorimeterDataset):
            names = ("showers", "incident_energies")
            attributes |= {"geometry": events.geometry.to_json(), "threshold_MeV": events.threshold}
        else:
            columns = {
                "kind": next(name for name, kind in reversed(KINDS.items()) if isinstance(events, kind)),
                "features": [asdict(feature) for feature in events.features],
                "conditions": [asdict(feature) for feature in events.condition_features],
            }
            attributes["columns"] = json.dumps(columns)
        for name, value in attributes.items():
            self._file.attrs[name] = value
        widths: dict[str, int | None] = dict(zip(names, (events.n_features, events.n_conditions), strict=True))
        return RowWriter(self._file, widths if events.weights is None else widths | {WEIGHTS: None})

    def _refuse_negative(self, images: CalorimeterDataset) -> None:
        negative = (images.samples < 0).nonzero()
        if len(negative):
            row, pixel = negative[0].tolist()
            name, value = images.features[pixel].name, images.samples[row, pixel]
            raise ValueError(f"samples row {self._n + row}, pixel {name}: {value:g} MeV is negative")


def _difference(one: Dataset, other: Dataset) -> str | None:
    """What keeps two blocks from being events of one file."""
    if type(one) is not type(other):
        return "kind"
    if _named(one.features) != _named(other.features) or _named(one.condition_features) != _named(
        other.condition_features
    ):
        return "columns"
    if (one.weights is None) != (other.weights is None):
        return "weights (some events have such, some not)"
    if isinstance(one, CalorimeterDataset) and isinstance(other, CalorimeterDataset) and one.geometry != other.geometry:
        return "cells"
    return None


def _named(features: Sequence[Feature]) -> list[tuple[str, str]]:
    return [(feature.name, feature.unit) for feature in features]


@contextmanager
def event_writer(path: str | Path) -> Iterator[EventWriter]:
    """An HDF5 file of events that is written block by block; it appears, complete and on the disk, when the block ends.

    In memory is never more than what was appended last and about 3 MB. If anything fails (a full disk, an interrupt),
    what stood at ``path`` before stays, and nothing else does. The file does not depend on how the events were split
    into blocks. Layouts are those of :func:`write_events`.

    Raises:
        ValueError: the folder does not exist or takes no files, or nothing was appended.
        OSError: the file cannot be written.

    >>> import tempfile, torch
    >>> from qgen.data import load_events
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with event_writer(f"{folder}/events.h5") as writer:
    ...         for k in range(3):
    ...             writer.append(Dataset(torch.full((2, 1), float(k)), (Feature("mass", "GeV"),)))
    ...     load_events(f"{folder}/events.h5").samples[:, 0].tolist()
    [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    """
    with create_hdf5(path) as (file, part):
        writer = EventWriter(file, part)
        yield writer
        writer.finish()


def write_events(path: str | Path, events: Dataset) -> None:
    """Write events to an HDF5 file, which :func:`~qgen.data.load_events` reads back unchanged.

    Calorimeter images are written in CaloChallenge layout: ``incident_energies`` and ``showers`` in MeV, geometry and
    threshold as attributes. Others become the datasets ``samples`` ``(N, n_features)`` and ``conditions``
    ``(N, n_conditions)``, with names, units, labels and limits of the columns as JSON text in the attribute
    ``columns``. Weights of events, where they have such, become the dataset ``weights`` ``(N,)``. All numbers are
    float64. The file appears only when it is complete.

    Raises:
        ValueError: an image has a negative pixel (row and pixel are named), or the folder does not exist.
        OSError: the file cannot be written; a previous one stays.

    >>> import tempfile, torch
    >>> from qgen.data import load_events
    >>> events = Dataset(torch.rand(5, 1), (Feature("mass", "GeV"),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_events(f"{folder}/events.h5", events)
    ...     torch.equal(load_events(f"{folder}/events.h5").samples, events.samples)
    True
    """
    with event_writer(path) as writer:
        writer.append(events)


def write_calorimeter(path: str | Path, dataset: CalorimeterDataset) -> None:
    """Write images in CaloChallenge layout, as :func:`write_events` does.

    ``load_calorimeter(path, grid=None)`` gives them back unchanged.

    Raises:
        ValueError: a pixel is negative (row and pixel are named), or the folder does not exist.
        OSError: the file cannot be written; a previous one stays.

    >>> import tempfile, torch
    >>> from qgen.data import load_calorimeter
    >>> data = load_calorimeter(max_events=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_calorimeter(f"{folder}/showers.h5", data)
    ...     torch.equal(load_calorimeter(f"{folder}/showers.h5", grid=None).samples, data.samples)
    True
    """
    write_events(path, dataset)
