"""From bits that were measured elsewhere back to events: what a deployed circuit's file of facts holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from qgen.data import CalorimeterDataset, Dataset, Discretiser, MuonDataset
from qgen.data.dataset import Feature
from qgen.data.geometry import Geometry
from qgen.data.transforms import Transform
from qgen.random import new_generator

__all__ = ["Deployment", "bits_of_counts", "events_from_bits", "read_counts"]

FORMAT = "qgen deployment 1"
_KINDS: dict[str, type[Dataset]] = {"Dataset": Dataset, "MuonDataset": MuonDataset}
_BIT = {"0": 0, "1": 1}

MOST_SHOTS = 10_000_000
"""Shots that are turned into events at once."""


@dataclass(frozen=True)
class Deployment:
    """How the bits of a circuit are read as events.

    Args:
        discretiser: bits to cells, in the transform's space.
        transform: physical units to that space.
        condition: ``(n_conditions,)`` in physical units, the same for all events.
        columns: kind, features and conditions of the events, and what else their kind needs; JSON values.
        facts: what a reader may want to know besides: where the circuit comes from, on which qubits it runs, in which
            versions; JSON values.
    """

    discretiser: Discretiser
    transform: Transform
    condition: Tensor
    columns: Mapping[str, Any]
    facts: Mapping[str, Any]

    def to_json(self) -> str:
        """As text; :meth:`from_json` reads it back."""
        content = {
            "format": FORMAT,
            **self.facts,
            "condition": self.condition.tolist(),
            "columns": dict(self.columns),
            "discretiser": self.discretiser.spec(),
            "transform": self.transform.spec(),
        }
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The deployment that :meth:`to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format is {content['format']!r}; expected {FORMAT!r}")
            return cls(
                Discretiser.from_spec(content.pop("discretiser")),
                Transform.from_spec(content.pop("transform")),
                torch.tensor(content.pop("condition"), dtype=torch.float64).reshape(-1),
                content.pop("columns"),
                content,
            )
        except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"not the facts of a deployed circuit ({error!r})") from error

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """The deployment in a file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds something else.
        """
        text = _text(path)
        try:
            return cls.from_json(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def events(self, bits: Tensor, generator: torch.Generator) -> Dataset:
        """Events of the kind that the model was trained on.

        Args:
            bits: ``(n, n_bits)`` of 0 and 1, those of the discretiser in its order.
            generator: places each event in its cell.

        Raises:
            ValueError: another shape, no events, other numbers, or columns that describe no events.
        """
        n_bits = self.discretiser.n_bits
        if bits.ndim != 2 or bits.shape[1] != n_bits or len(bits) == 0:
            raise ValueError(f"bits have shape {tuple(bits.shape)}; expected (n, {n_bits}) and at least one event")
        values = self.discretiser.decode(bits, generator)
        conditions = self.condition.expand(len(bits), -1)
        samples = self.transform.inverse(values, conditions if len(self.condition) else None)
        try:
            return _dataset(self.columns, samples, conditions)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"columns of the facts of a deployed circuit are damaged ({error!r})") from error


def columns_of(events: Dataset) -> dict[str, Any]:
    """What :class:`Deployment` keeps of the events that a model was trained on: all but their numbers."""
    columns: dict[str, Any] = {
        "kind": type(events).__name__ if isinstance(events, CalorimeterDataset | MuonDataset) else "Dataset",
        "features": [asdict(feature) for feature in events.features],
        "conditions": [asdict(feature) for feature in events.condition_features],
    }
    if isinstance(events, CalorimeterDataset):
        columns |= {"geometry": json.loads(events.geometry.to_json())}
        columns |= {"threshold": events.threshold, "normalisation": events.normalisation}
    return columns


def _dataset(columns: Mapping[str, Any], samples: Tensor, conditions: Tensor) -> Dataset:
    features, condition_features = (
        tuple(Feature(c["name"], c["unit"], c["label"], c["limits"] and tuple(c["limits"])) for c in columns[part])
        for part in ("features", "conditions")
    )
    plain: dict[str, Any] = {"samples": samples, "features": features, "conditions": conditions}
    plain |= {"condition_features": condition_features, "provenance": {"source": "measured bits of a deployed circuit"}}
    if columns["kind"] == "CalorimeterDataset":
        geometry = Geometry.from_json(json.dumps(columns["geometry"]))
        more = {name: columns[name] for name in ("threshold", "normalisation")}
        return CalorimeterDataset(**plain, geometry=geometry, **more)
    return _KINDS[columns["kind"]](**plain)


def bits_of_counts(counts: Mapping[str, int] | Sequence[str], n_bits: int, generator: torch.Generator) -> Tensor:
    """Measured bits ``(shots, n_bits)`` from how often each string was found, in random order.

    Args:
        counts: by bit string, the first bit rightmost as Qiskit writes them; or a list of such strings.
        n_bits: of each.
        generator: fixes the order.

    Raises:
        ValueError: a string of another length or of other characters,
            a number that is not a count, no shots, or more than 10,000,000.

    >>> bits_of_counts({"011": 2}, 3, torch.Generator()).tolist()
    [[1, 1, 0], [1, 1, 0]]
    """
    pairs = list(counts.items()) if isinstance(counts, Mapping) else [(text, 1) for text in counts]
    rows, repeats = [], []
    for text, count in pairs:
        if not isinstance(text, str) or len(text) != n_bits or not set(text) <= set(_BIT):
            raise ValueError(f"counts have {text!r}; strings of {n_bits} digits 0 and 1 are needed")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"counts of {text!r} are {count!r}; an integer of at least 0 is needed")
        rows.append([_BIT[digit] for digit in reversed(text)])
        repeats.append(count)
    if sum(repeats) > MOST_SHOTS:
        raise ValueError(f"counts are {sum(repeats):,} shots; at most {MOST_SHOTS:,} are read at once")
    if sum(repeats) == 0:
        raise ValueError("counts are empty; at least one shot is needed")
    bits = torch.tensor(rows, dtype=torch.uint8).repeat_interleave(torch.tensor(repeats), 0)
    return bits[torch.randperm(len(bits), generator=generator)]


def read_counts(path: Path | str) -> dict[str, int] | list[str]:
    """Counts or a list of strings from a JSON file, as :func:`bits_of_counts` takes them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds neither.
    """
    try:
        content = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict | list):
        raise ValueError(
            f"{path}: holds a {type(content).__name__}; counts by bit string are needed, or a list of strings"
        )
    return content


def events_from_bits(
    deployment: Deployment | Path | str, bits: Tensor | Mapping[str, int] | Sequence[str], seed: int = 0
) -> Dataset:
    """Events from the bits that a deployed circuit gave, wherever they were measured.

    Args:
        deployment: or the path of the file that ``qgen export`` wrote beside the circuit.
        bits: ``(n, n_bits)`` in the order of the circuit's classical bits, or counts, or bit strings, as
            :func:`bits_of_counts` takes them.
        seed: places each event in its cell; fixes the order of events from counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else, or the bits do not fit.
    """
    found = deployment if isinstance(deployment, Deployment) else Deployment.read(deployment)
    rng = new_generator(seed)
    rows = bits if isinstance(bits, Tensor) else bits_of_counts(bits, found.discretiser.n_bits, rng)
    return found.events(rows, rng)


def _text(path: Path | str) -> str:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error
