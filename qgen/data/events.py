"""Files of events of any kind: read by their content, written so that they are read back unchanged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from qgen.data.binary import BitDataset
from qgen.data.calorimeter import CalorimeterDataset, load_calorimeter, write_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.data.hdf5 import WEIGHTS, create_hdf5, dataset, open_hdf5, read_rows, read_weights
from qgen.data.muon import MuonDataset
from qgen.data.muon_files import load_muon, starts_like_lhe
from qgen.data.provenance import provenance_from_json, provenance_to_json
from qgen.data.showers import ShowerFile

if TYPE_CHECKING:
    import h5py

__all__ = ["describe", "load_events", "write_events"]

Layout = Literal["CaloChallenge", "3DGAN", "table", "LHE", "CSV"]
_KINDS: dict[str, type[Dataset]] = {"Dataset": Dataset, "MuonDataset": MuonDataset, "BitDataset": BitDataset}


def write_events(path: str | Path, events: Dataset) -> None:
    """Write events to an HDF5 file, which :func:`load_events` reads back unchanged.

    Calorimeter images are written in CaloChallenge layout. Others become the datasets ``samples``
    ``(N, n_features)`` and ``conditions`` ``(N, n_conditions)``, float64, with names, units, labels and limits of the
    columns as JSON text in the attribute ``columns``. Weights of events, where they have such, become the dataset
    ``weights`` ``(N,)``, in either layout. The file appears only when it is complete.

    Raises:
        ValueError: an image has a negative pixel, or the folder does not exist.

    >>> import tempfile
    >>> events = Dataset(torch.rand(5, 1), (Feature("mass", "GeV"),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_events(f"{folder}/events.h5", events)
    ...     torch.equal(load_events(f"{folder}/events.h5").samples, events.samples)
    True
    """
    if isinstance(events, CalorimeterDataset):
        write_calorimeter(path, events)
        return
    columns = {
        "kind": next(name for name, kind in reversed(_KINDS.items()) if isinstance(events, kind)),
        "features": [asdict(feature) for feature in events.features],
        "conditions": [asdict(feature) for feature in events.condition_features],
    }
    with create_hdf5(path) as file:
        file.create_dataset("samples", data=events.samples.numpy(), compression="gzip", shuffle=True)
        file.create_dataset("conditions", data=events.conditions.numpy())
        if events.weights is not None:
            file.create_dataset(WEIGHTS, data=events.weights.numpy())
        file.attrs["columns"] = json.dumps(columns)
        file.attrs["provenance"] = provenance_to_json(events.provenance)


def load_events(path: str | Path, *, binning: str | Path | None = None, seed: int = 0) -> Dataset:
    """Events of any supported file, recognised by its content, with the file's own columns or cells.

    Supported are HDF5 files of :func:`write_events`, of the CaloChallenge and in 3DGAN layout, and muon events as LHE
    file or CSV table.

    Args:
        path: the file.
        binning: an XML file of the CaloChallenge that says where the voxels of its showers are.
        seed: fixes the splits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another format, damaged, or holds impossible numbers (the row is named).
    """
    layout = _layout(path)
    if binning is not None and layout != "CaloChallenge":
        raise ValueError(f"{path}: a binning goes with showers in CaloChallenge layout, the file is a {layout} file")
    if layout == "table":
        return _read_table(path, seed)
    if layout in ("LHE", "CSV"):
        return load_muon(path, seed=seed)
    return load_calorimeter(path, grid=None, binning=binning, seed=seed)


def describe(path: str | Path) -> dict[str, Any]:
    """What a file of events holds: layout, number of events, ranges of its columns, and the first problem found.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of no supported format.

    >>> from qgen.data.calorimeter import SAMPLE
    >>> facts = describe(SAMPLE)
    >>> facts["layout"], facts["events"], facts["problems"]
    ('CaloChallenge', 5400, 'none')
    """
    facts: dict[str, Any] = {"file": str(path), "layout": _layout(path)}
    try:
        facts |= _shower_facts(path) if facts["layout"] in ("CaloChallenge", "3DGAN") else _table_facts(path)
    except ValueError as error:
        return {**facts, "problems": str(error)}
    return {**facts, "problems": "none"}


def _table_facts(path: str | Path) -> dict[str, Any]:
    events = load_events(path)
    facts: dict[str, Any] = {"events": len(events)}
    for features, values in ((events.condition_features, events.conditions), (events.features, events.samples)):
        for feature, column in zip(features, values.unbind(1), strict=True):
            facts[feature.name] = _range(column.numpy(), feature.unit)
    if events.weights is not None:
        facts["weights"] = _range(events.weights.numpy(), "")
    return {**facts, "provenance": dict(events.provenance)}


def _shower_facts(path: str | Path) -> dict[str, Any]:
    """In bounded memory, whatever the number of events."""
    with open_hdf5(path) as file:
        source = ShowerFile.of(file, Path(path), None)
        incident = source.incident_energies()
        geometry = source.geometry
        totals, largest, filled = [], 0.0, 0
        for block in source.blocks(np.arange(len(incident))):
            totals.append(block.sum(1))
            largest = max(largest, float(block.max()))
            filled += int(np.count_nonzero(block))
        total = np.concatenate(totals)
        return {
            "events": len(incident),
            "incident_energy": _range(incident, "MeV"),
            "cells": " x ".join(f"{count} ({axis})" for axis, count in zip(geometry.axes, geometry.shape, strict=True)),
            "energy of a shower": _range(total, "MeV"),
            "total over incident energy": f"{(total / incident).mean():.4g} on average",
            "largest energy of a cell": f"{largest:.6g} MeV",
            "cells with energy": f"{filled / (len(incident) * geometry.n_pixels):.3%}",
            "provenance": source.provenance(),
        }


def _range(values: np.ndarray, unit: str) -> str:
    return f"{values.min():.6g} to {values.max():.6g} {unit}".rstrip()


def _layout(path: str | Path) -> Layout:
    path = Path(path)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes)")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    import h5py

    if not h5py.is_hdf5(path):
        return "LHE" if starts_like_lhe(path) else "CSV"
    with open_hdf5(path) as file:
        marks: dict[str, Layout] = {"showers": "CaloChallenge", "ECAL": "3DGAN", "samples": "table"}
        for name, layout in marks.items():
            if name in file:
                return layout
        found = ", ".join(sorted(file)) or "none"
    raise ValueError(
        f"{path}: not a file of events; datasets found: {found}; expected showers (CaloChallenge), ECAL (3DGAN) or "
        "samples (written here)"
    )


def _read_table(path: str | Path, seed: int) -> Dataset:
    with open_hdf5(path) as file:
        kind, features, conditions = _columns(file, path)
        samples = _matrix(file, "samples", path)
        values = _matrix(file, "conditions", path)
        weights = read_weights(file, path)
        provenance = provenance_from_json(file.attrs.get("provenance"), path)
    try:
        return kind(
            samples=samples,
            features=features,
            conditions=values,
            condition_features=conditions,
            seed=seed,
            provenance=provenance,
            weights=None if weights is None else torch.from_numpy(weights),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _matrix(file: h5py.File, name: str, path: str | Path) -> Tensor:
    values = dataset(file, name, path)
    if values.ndim != 2:
        raise ValueError(f"{path}: {name} has shape {values.shape}; expected (N, columns)")
    blocks = [block for _, block in read_rows(values, path)]
    matrix = np.concatenate(blocks) if blocks else np.empty(values.shape)
    return torch.from_numpy(matrix.astype(np.float64))


def _columns(file: h5py.File, path: str | Path) -> tuple[type[Dataset], tuple[Feature, ...], tuple[Feature, ...]]:
    try:
        content = json.loads(file.attrs["columns"])
        kind = _KINDS[content["kind"]]
        features, conditions = (
            tuple(Feature(str(c["name"]), str(c["unit"]), str(c["label"]), _limits(c)) for c in content[part])
            for part in ("features", "conditions")
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the attribute columns is missing or does not name the columns") from error
    return kind, features, conditions


def _limits(column: dict[str, Any]) -> tuple[float, float] | None:
    if column.get("limits") is None:
        return None
    low, high = column["limits"]
    return float(low), float(high)
