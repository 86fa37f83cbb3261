"""Files of events of any kind, read by their content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qgen.data.calorimeter import CalorimeterDataset, load_calorimeter
from qgen.data.dataset import Dataset
from qgen.data.memory import check_memory
from qgen.data.muon_files import load_muon
from qgen.data.stream import EventFile, layout_of, open_events

__all__ = ["describe", "load_events"]


def load_events(path: str | Path, *, binning: str | Path | None = None, seed: int = 0) -> Dataset:
    """Events of any supported file, recognised by its content, with the file's own columns or cells.

    Supported are HDF5 files of :func:`~qgen.data.write_events`, of the CaloChallenge and in 3DGAN layout, and muon
    events as LHE file or CSV table. Checksums that the file states are verified.

    Args:
        path: the file.
        binning: an XML file of the CaloChallenge that says where the voxels of its showers are.
        seed: fixes the splits.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another format, damaged, does not fit into the free memory, or holds impossible
            numbers (the row is named).
    """
    layout = layout_of(path)
    if binning is not None and layout != "CaloChallenge":
        raise ValueError(f"{path}: a binning goes with showers in CaloChallenge layout, the file is a {layout} file")
    if layout in ("LHE", "CSV"):
        return load_muon(path, seed=seed)
    if layout == "table":
        with open_events(path, seed=seed) as file:
            return _together(file, seed)
    return load_calorimeter(path, grid=None, binning=binning, seed=seed)


def _together(file: EventFile, seed: int) -> Dataset:
    """All blocks of a table as one."""
    whole: dict[str, Any] = {}
    first: Dataset | None = None
    start = 0
    for block in file.blocks():
        parts = {"samples": block.samples, "conditions": block.conditions}
        parts |= {} if block.weights is None else {"weights": block.weights}
        if first is None:
            first = block.take([0])
            width = sum(part[0].numel() for part in parts.values())
            check_memory(9 * len(file) * width, f"{file.path}: {len(file)} events of {width} numbers")
            whole = {name: torch.empty((len(file), *part.shape[1:]), dtype=part.dtype) for name, part in parts.items()}
        for name, part in parts.items():
            whole[name][start : start + len(block)] = part
        start += len(block)
    if first is None:
        raise ValueError(f"{file.path}: the file holds no events")
    return type(first)(
        features=first.features,
        condition_features=first.condition_features,
        seed=seed,
        provenance=first.provenance,
        **whole,
    )


def describe(path: str | Path) -> dict[str, Any]:
    """What a file of events holds: layout, number of events, ranges of its columns, and the first problem found.

    In bounded memory, whatever the number of events.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of no supported format.

    >>> from qgen.data.calorimeter import SAMPLE
    >>> facts = describe(SAMPLE)
    >>> facts["layout"], facts["events"], facts["problems"]
    ('CaloChallenge', 5400, 'none')
    """
    facts: dict[str, Any] = {"file": str(path), "layout": layout_of(path)}
    try:
        with open_events(path) as file:
            showers = facts["layout"] in ("CaloChallenge", "3DGAN")
            facts |= _shower_facts(file) if showers else _table_facts(file)
            facts["checksums"] = "sha256, verified" if file.has_checksums else "none stated"
    except ValueError as error:
        return {**facts, "problems": str(error)}
    return {**facts, "problems": "none"}


class _Range:
    """Lowest and highest of the values seen so far."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def see(self, values: Tensor) -> None:
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def text(self, unit: str) -> str:
        return f"{self.low:.6g} to {self.high:.6g} {unit}".rstrip()


def _table_facts(file: EventFile) -> dict[str, Any]:
    ranges: dict[str, tuple[_Range, str]] = {}
    provenance: dict[str, Any] = {}
    for block in file.blocks():
        provenance = dict(block.provenance)
        for features, values in ((block.condition_features, block.conditions), (block.features, block.samples)):
            for feature, column in zip(features, values.unbind(1), strict=True):
                ranges.setdefault(feature.name, (_Range(), feature.unit))[0].see(column)
        if block.weights is not None:
            ranges.setdefault("weights", (_Range(), ""))[0].see(block.weights)
    texts = {name: values.text(unit) for name, (values, unit) in ranges.items()}
    return {"events": len(file), **texts, "provenance": provenance}


def _shower_facts(file: EventFile) -> dict[str, Any]:
    incident, total, largest, filled, shares = _Range(), _Range(), _Range(), 0, 0.0
    for block in file.blocks():
        if not isinstance(block, CalorimeterDataset):
            raise TypeError(f"a {type(block).__name__} of a file of showers")
        energy = block.samples.sum(1)
        incident.see(block.conditions)
        total.see(energy)
        largest.see(block.samples)
        filled += int(block.samples.count_nonzero())
        shares += float((energy / block.incident_energy).sum())
        geometry, provenance = block.geometry, dict(block.provenance)
    return {
        "events": len(file),
        "incident_energy": incident.text("MeV"),
        "cells": " x ".join(f"{count} ({axis})" for axis, count in zip(geometry.axes, geometry.shape, strict=True)),
        "energy of a shower": total.text("MeV"),
        "total over incident energy": f"{shares / len(file):.4g} on average",
        "largest energy of a cell": f"{largest.high:.6g} MeV",
        "cells with energy": f"{filled / (len(file) * geometry.n_pixels):.3%}",
        "provenance": provenance,
    }
