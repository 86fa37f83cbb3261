"""``open_events``: a file of any number of events, read block by block in the memory of one block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from qgen.data.binning import load_binning
from qgen.data.calorimeter import INCIDENT_ENERGY, CalorimeterDataset, pixel_features
from qgen.data.dataset import Dataset, Feature
from qgen.data.hdf5 import SHA256, attribute, block_rows, dataset, has, names, open_hdf5, read_rows, weights_of
from qgen.data.muon_files import events_of_rows, muon_blocks, starts_like_lhe
from qgen.data.provenance import provenance_from_json
from qgen.data.showers import ShowerFile
from qgen.data.writer import KINDS

if TYPE_CHECKING:
    import h5py

__all__ = ["EventFile", "Layout", "layout_of", "open_events"]

Layout = Literal["CaloChallenge", "3DGAN", "table", "LHE", "CSV"]
_MARKS: dict[str, Layout] = {"showers": "CaloChallenge", "ECAL": "3DGAN", "samples": "table"}


@dataclass(frozen=True)
class EventFile:
    """A file of events that is open; made by :func:`open_events`.

    Args:
        path: of the file.
        layout: which one it is.
        n_events: how many there are.
        has_checksums: whether the file states the SHA-256 of its numbers; then reading to the end verifies them.
        read: what :meth:`blocks` calls.
    """

    path: Path
    layout: Layout
    n_events: int
    has_checksums: bool
    read: Callable[[], Iterator[Dataset]]

    def __len__(self) -> int:
        return self.n_events

    def blocks(self) -> Iterator[Dataset]:
        """All events in their order, in blocks of about 32 MB (one event at least, of a text file 16,384).

        Raises:
            ValueError: rows cannot be read, an event is impossible (it is named), or a checksum does not match.
        """
        return self.read()


@contextmanager
def open_events(path: str | Path, *, binning: str | Path | None = None, seed: int = 0) -> Iterator[EventFile]:
    """A file of events of any kind that :func:`~qgen.data.load_events` reads, to be read block by block.

    Beside a block there are in memory only the incident energies and weights of showers, 16 bytes an event. An LHE file
    or a table of text is read twice: first to count its events and to see whether they have weights.

    Args:
        path: the file.
        binning: an XML file of the CaloChallenge that says where the voxels of its showers are.
        seed: of the blocks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another format or damaged.

    >>> from qgen.data.calorimeter import SAMPLE
    >>> with open_events(SAMPLE) as events:
    ...     len(events), sum(len(block) for block in events.blocks())
    (5400, 5400)
    """
    path = Path(path)
    layout = layout_of(path)
    if binning is not None and layout != "CaloChallenge":
        raise ValueError(f"{path}: a binning goes with showers in CaloChallenge layout, the file is a {layout} file")
    if layout in ("LHE", "CSV"):
        n_events, weighted = _count(path)
        yield EventFile(path, layout, n_events, False, lambda: _text_blocks(path, weighted, seed))
        return
    with open_hdf5(path) as file:
        if layout == "table":
            samples = dataset(file, "samples", path)
            if samples.ndim != 2:
                raise ValueError(f"{path}: samples has shape {samples.shape}; expected (N, columns)")
            checked = attribute(samples, SHA256, path) is not None
            yield EventFile(path, layout, samples.shape[0], checked, lambda: _table_blocks(file, path, seed))
        else:
            source = ShowerFile.of(file, path, None, None if binning is None else load_binning(binning))
            cells = dataset(file, "showers" if layout == "CaloChallenge" else "ECAL", path)
            checked = attribute(cells, SHA256, path) is not None
            yield EventFile(path, layout, cells.shape[0], checked, lambda: _shower_blocks(source, seed))


def layout_of(path: str | Path) -> Layout:
    """Of which kind a file of events is, seen from its content.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, or of no kind that is read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes)")
    import h5py

    if not h5py.is_hdf5(path):
        return "LHE" if starts_like_lhe(path) else "CSV"
    with open_hdf5(path) as file:
        for name, layout in _MARKS.items():
            if has(file, name):
                return layout
        found = names(file)
    raise ValueError(
        f"{path}: not a file of events; datasets found: {found}; expected showers (CaloChallenge), ECAL (3DGAN) or "
        "samples (written here)"
    )


def _shower_blocks(source: ShowerFile, seed: int) -> Iterator[CalorimeterDataset]:
    energies, weights = torch.from_numpy(source.incident_energies()).unsqueeze(1), source.weights()
    features, threshold, provenance = pixel_features(source.geometry), source.threshold(), source.provenance()
    start = 0
    for block in source.blocks(np.arange(len(energies))):
        rows = slice(start, start + len(block))
        start += len(block)
        yield CalorimeterDataset(
            samples=torch.from_numpy(block),
            features=features,
            conditions=energies[rows],
            condition_features=(INCIDENT_ENERGY,),
            seed=seed,
            provenance=provenance,
            weights=None if weights is None else torch.from_numpy(weights[rows]),
            geometry=source.geometry,
            threshold=threshold,
        )


def _table_blocks(file: h5py.File, path: Path, seed: int) -> Iterator[Dataset]:
    kind, features, conditions = _columns(file, path)
    provenance = provenance_from_json(attribute(file, "provenance", path), path)
    columns = [dataset(file, name, path) for name in ("samples", "conditions")]
    n = columns[0].shape[0]
    for column in columns:
        if column.ndim != 2 or column.shape[0] != n:
            raise ValueError(f"{path}: {column.name[1:]} has shape {column.shape}; expected ({n}, columns)")
    events_weights = weights_of(file, path)
    if events_weights is not None and events_weights.shape[0] != n:
        raise ValueError(f"{path}: weights have shape {events_weights.shape}; expected ({n},), one an event")
    columns += [] if events_weights is None else [events_weights]
    if n == 0:
        raise ValueError(f"{path}: the file holds no events")
    step = block_rows(columns[0])
    for blocks in zip(*(read_rows(column, path, step) for column in columns), strict=True):
        start = blocks[0][0]
        samples, values, *weights = (torch.from_numpy(rows.astype(np.float64, copy=False)) for _, rows in blocks)
        known: dict[str, Any] = {
            "seed": seed,
            "provenance": provenance,
            "weights": weights[0].reshape(-1) if weights else None,
        }
        try:
            yield kind(samples, features, values, conditions, **known)
        except ValueError as error:
            counted = f" (rows are counted after the first {start})" if start else ""
            raise ValueError(f"{path}: {error}{counted}") from error


def _columns(file: h5py.File, path: str | Path) -> tuple[type[Dataset], tuple[Feature, ...], tuple[Feature, ...]]:
    text = attribute(file, "columns", path)
    try:
        content = json.loads(str(text))
        kind = KINDS[content["kind"]]
        features, conditions = (
            tuple(Feature(str(c["name"]), str(c["unit"]), str(c["label"]), _limits(c)) for c in content[part])
            for part in ("features", "conditions")
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path}: the attribute columns is missing or does not name the columns") from error
    return kind, features, conditions


def _limits(column: dict[str, Any]) -> tuple[float, float] | None:
    if column.get("limits") is None:
        return None
    low, high = column["limits"]
    return float(low), float(high)


def _count(path: Path) -> tuple[int, bool]:
    """How many events a text file has, and whether their weights differ."""
    n_events, weights = 0, set()
    for block in muon_blocks(path):
        n_events += len(block)
        weights |= {block[:, 9].min(), block[:, 9].max()}
    if n_events == 0:
        raise ValueError(f"{path}: the file holds no events")
    return n_events, len(weights) > 1


def _text_blocks(path: Path, weighted: bool, seed: int) -> Iterator[Dataset]:
    first = 0
    for rows in muon_blocks(path):
        yield events_of_rows(rows, path, seed=seed, weighted=weighted, first=first)
        first += len(rows)
