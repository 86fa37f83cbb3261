"""Readers of muonic-force-carrier events: Les Houches event files and tables of momenta."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
import torch

from qgen.data.lhe import BLOCK, EventError, check_is_file, joined, lhe_blocks, open_maybe_gzipped
from qgen.data.muon import MuonDataset, muon_dataset

if TYPE_CHECKING:
    from pylhe import LHEEvent, LHEParticle

__all__ = ["events_of_rows", "load_muon", "muon_blocks", "starts_like_lhe"]

MUON = 13
_MOMENTUM = ("px", "py", "pz", "E")
WEIGHT = "weight"
MAX_LINE = 2**20
_COLUMNS = ("E0_GeV", *(f"mu_{p}" for p in _MOMENTUM), *(f"V_{p}" for p in _MOMENTUM))
COLUMNS = len(_COLUMNS) + 1
"""Numbers of an event: those columns and the weight."""


def load_muon(path: str | Path, *, carrier: int | None = None, seed: int = 0) -> MuonDataset:
    """Events of a muon beam on a fixed target, from an LHE file or a CSV table, either may be gzipped.

    Momenta are in GeV in the lab frame. An LHE file needs the target at rest and the beam along +z. The table has a
    header with at least the columns ``E0_GeV`` (beam energy), ``mu_px, mu_py, mu_pz, mu_E`` (outgoing muon) and
    ``V_px, V_py, V_pz, V_E`` (force carrier). Events have weights if those of the LHE file (``XWGTUP``), or those in
    the table's column ``weight``, are not all equal.

    Args:
        path: the file; which kind it is, is seen from its content.
        carrier: PDG number of the force carrier in an LHE file; by default the one outgoing particle that is
            neither a muon nor of the target's kind.
        seed: fixes the splits.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: an LHE file, and pylhe is not installed (extra ``hep``).
        ValueError: the file is empty, truncated, of another format, or an event is impossible (line or event named).
    """
    path = Path(path)
    rows = joined(muon_blocks(path, carrier), COLUMNS, path)
    if len(rows) == 0:
        raise ValueError(f"{path}: the file holds no events")
    return events_of_rows(rows, path, seed=seed, weighted=bool((rows[:, 9] != rows[0, 9]).any()))


def muon_blocks(path: Path, carrier: int | None = None) -> Iterator[np.ndarray]:
    """Beam energy, momenta of muon and carrier, and weight of each event, in blocks ``(n, 10)``.

    Raises:
        FileNotFoundError, ImportError, ValueError: see :func:`load_muon`.
    """
    check_is_file(path)
    if starts_like_lhe(path):
        return lhe_blocks(path, lambda event, init: _momenta(event, carrier))
    return _csv_blocks(path)


def events_of_rows(rows: np.ndarray, path: Path, *, seed: int, weighted: bool, first: int = 0) -> MuonDataset:
    """Events of the rows of :func:`muon_blocks`.

    Args:
        rows: ``(N, 10)``.
        path: of the file.
        seed: fixes the splits.
        weighted: whether the events have weights.
        first: index of the first of them in the file, for messages.

    Raises:
        ValueError: an event is impossible (its row is named).
    """
    provenance = {"file": path.name, "layout": "LHE" if starts_like_lhe(path) else "CSV"}
    beam, muons, carriers = rows[:, 0], rows[:, 1:5], rows[:, 5:9]
    try:
        events = muon_dataset(beam, carriers, muons, seed=seed, provenance=provenance)
        return replace(events, weights=torch.from_numpy(rows[:, 9].copy())) if weighted else events
    except ValueError as error:
        counted = f"rows of events are counted from 0{f', after the first {first}' if first else ''}"
        raise ValueError(f"{path}: {error} ({counted})") from error


def starts_like_lhe(path: str | Path) -> bool:
    """Whether a text file, gzipped or not, starts with an XML tag.

    Raises:
        ValueError: the file is not text, or a damaged gzip file.
    """
    with _text(Path(path)) as file:
        return file.read(256).lstrip("\ufeff \t\r\n").startswith("<")


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    try:
        with open_maybe_gzipped(path) as raw, TextIOWrapper(raw, encoding="utf-8", newline="") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the gzip file is truncated or damaged ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: neither HDF5, LHE nor a CSV table (byte {error.start} is not text)") from error


def _csv_blocks(path: Path) -> Iterator[np.ndarray]:
    """Rows of a table, a weight of 1 where it has none."""
    values: list[list[float]] = []
    with _text(path) as file:
        reader = csv.reader(_lines(file, path))
        try:
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                found = ", ".join(header)[:200] or "none"
                raise ValueError(f"{path}: line 1: columns {', '.join(missing)} are missing; found: {found}")
            columns = {name: header.index(name) for name in (*_COLUMNS, *([WEIGHT] if WEIGHT in header else []))}
            for line in reader:
                if line:
                    numbers = _numbers(line, columns, len(header), f"{path}: line {reader.line_num}")
                    values.append(numbers if WEIGHT in columns else [*numbers, 1.0])
                    if len(values) == BLOCK:
                        yield np.array(values, dtype=np.float64)
                        values = []
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}") from error
    if values:
        yield np.array(values, dtype=np.float64)


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise ValueError(f"{path}: line {number}: longer than {MAX_LINE} characters; no table of events has such")
        yield line


def _numbers(line: list[str], columns: Mapping[str, int], width: int, where: str) -> list[float]:
    if len(line) != width:
        raise ValueError(f"{where}: {len(line)} values, the header has {width} columns")
    numbers = []
    for name, place in columns.items():
        try:
            number = float(line[place])
        except ValueError as error:
            raise ValueError(f"{where}: {name} is {line[place][:40]!r}, not a number") from error
        if not math.isfinite(number):
            raise ValueError(f"{where}: {name} is {number}, not a finite number")
        numbers.append(number)
    return numbers


def _momenta(event: LHEEvent, carrier: int | None) -> list[float]:
    """Beam energy, the momenta of outgoing muon and carrier, and the weight."""
    incoming = [p for p in event.particles if p.status == -1]
    outgoing = [p for p in event.particles if p.status == 1]
    beams = [p for p in incoming if abs(p.id) == MUON]
    targets = [p for p in incoming if abs(p.id) != MUON]
    if len(beams) != 1 or len(targets) != 1:
        found = ", ".join(str(int(p.id)) for p in incoming) or "none"
        raise EventError(f"incoming particles are {found}; expected a muon ({MUON} or -{MUON}) and a target")
    beam, target = beams[0], targets[0]
    if not (beam.pz > 0 and math.hypot(beam.px, beam.py) <= 1e-3 * beam.e and abs(target.pz) <= 1e-3 * target.e):
        raise EventError("not in the lab frame with the beam along +z and the target at rest")
    muons = [p for p in outgoing if abs(p.id) == MUON]
    known = {beam.id, target.id}
    carriers = [p for p in outgoing if (p.id not in known if carrier is None else p.id == carrier)]
    if len(muons) != 1 or len(carriers) != 1:
        found = ", ".join(str(int(p.id)) for p in outgoing) or "none"
        wanted = "one other particle than muon and target" if carrier is None else f"one particle {carrier}"
        raise EventError(f"outgoing particles are {found}; expected one muon and {wanted}")
    return [float(beam.e), *_four(muons[0]), *_four(carriers[0]), float(event.eventinfo.weight)]


def _four(particle: LHEParticle) -> list[Any]:
    return [particle.px, particle.py, particle.pz, particle.e]
