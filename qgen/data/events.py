"""Files of events of any kind, read by their content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from qgen.data.calorimeter import load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.data.hdf5 import attribute, dataset, has, names, open_hdf5, read_all, read_weights
from qgen.data.muon_files import load_muon, starts_like_lhe
from qgen.data.provenance import provenance_from_json
from qgen.data.showers import ShowerFile
from qgen.data.writer import KINDS

if TYPE_CHECKING:
    import h5py

__all__ = ["describe", "load_events"]

Layout = Literal["CaloChallenge", "3DGAN", "table", "LHE", "CSV"]


def load_events(path: str | Path, *, binning: str | Path | None = None, seed: int = 0) -> Dataset:
    """Events of any supported file, recognised by its content, with the file's own columns or cells.

    Supported are HDF5 files of :func:`~qgen.data.write_events`, of the CaloChallenge and in 3DGAN layout, and muon
    events as LHE file or CSV table.

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
            if has(file, name):
                return layout
        found = names(file)
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
        provenance = provenance_from_json(attribute(file, "provenance", path), path)
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
    return torch.from_numpy(read_all(values, path))


def _columns(file: h5py.File, path: str | Path) -> tuple[type[Dataset], tuple[Feature, ...], tuple[Feature, ...]]:
    text = attribute(file, "columns", path)
    try:
        content = json.loads(str(text))
        kind = KINDS[content["kind"]]
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
