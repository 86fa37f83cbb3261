"""Files of events judged against a file of truth: what ``qgen evaluate --truth A --generated B`` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qgen.data import Dataset, load_events
from qgen.metrics import METRICS, MetricTable, evaluate, find_metrics
from qgen.metrics.columns import Columns, check_alike
from qgen.plain import read_yaml
from qgen.text import unknown

__all__ = ["Judged", "judge_files", "parse_bins", "parse_options"]


@dataclass(frozen=True)
class Judged:
    """What was judged, and the table.

    Args:
        truth: the true events.
        generated: events of each generator by name.
        files: where truth, generators, reference and training events were read from, by what they are.
        table: every metric with its floor; generators go by their names, also a single one.
        left_out: metrics that are not defined for these events, and why.
        outside: lines that tell of events beyond truth's range or beyond a column's limits.
    """

    truth: Dataset
    generated: dict[str, Dataset]
    files: dict[str, str]
    table: MetricTable
    left_out: dict[str, str]
    outside: list[str]


def judge_files(
    truth: Path,
    generated: Sequence[str],
    *,
    reference: Path | None = None,
    training: Path | None = None,
    binning: Path | None = None,
    metrics: Sequence[str] | None = None,
    options: Sequence[str] = (),
    bins: Sequence[str] = (),
    n_bootstrap: int = 20,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Judged:
    """Score files of generated events, see :func:`qgen.metrics.evaluate`.

    Args:
        truth: file of true events, of any format that :func:`qgen.data.load_events` reads.
        generated: files of generated events, ``FILE`` or ``NAME=FILE``; the name of a generator is the file's without
            its ending if none is given.
        reference: file of further true events, for the floor.
        training: file of the events that the generators learned from.
        binning: XML file of the CaloChallenge, for showers in its layout.
        metrics: names of metrics and groups.
        options: ``metric.option=value`` each, the value in YAML.
        bins: ``condition=number`` or ``condition=edge,edge,...`` each.
        n_bootstrap: replicas of each uncertainty.
        seed: of the random numbers.
        progress: is told what is done next, how much is done, and of how much.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged; two files differ in columns, units or pixels (both are named); two generators
            have one name; or whatever :func:`~qgen.metrics.evaluate` refuses.
    """
    named = _names(generated)
    settings = parse_options(options)
    edges = parse_bins(bins)
    asked = find_metrics(metrics)
    known = {"truth": truth, **{f"generated {name}": path for name, path in named.items()}}
    known |= {what: path for what, path in (("reference", reference), ("training", training)) if path is not None}
    for path in known.values():
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
    if reference is not None and reference.samefile(truth):
        raise ValueError(
            f"{reference}: is truth and reference at once; the floor is between truth and other true events"
        )
    read: dict[str, Dataset] = {}
    for k, (what, path) in enumerate(known.items()):
        progress(f"reading {path.name}", k, len(known))
        read[what] = load_events(path, binning=binning)
        if what != "truth":
            check_files(truth, read["truth"], path, read[what])
    samples = {name: read[f"generated {name}"] for name in named}
    table = evaluate(
        read["truth"],
        samples,
        reference=read.get("reference"),
        training=read.get("training"),
        metrics=metrics,
        options=settings,
        bins=edges,
        n_bootstrap=n_bootstrap,
        seed=seed,
        progress=progress,
    )
    judged = {row.metric for row in table} | {one.metric for one in table.refused}
    left_out = {
        m.name: m.problem(*(Columns(one, m.view) for one in read.values())) or f"{m.name} needs training events"
        for m in asked
        if m.name not in judged
    }
    others = samples | ({"reference": read["reference"]} if "reference" in read else {})
    return Judged(
        truth=read["truth"],
        generated=samples,
        files={what: str(path) for what, path in known.items()},
        table=table,
        left_out=left_out,
        outside=[line for name, events in others.items() for line in outside(name, read["truth"], events)],
    )


def _names(generated: Sequence[str]) -> dict[str, Path]:
    """The files by the generators' names.

    >>> _names(["runs/gan.h5", "flow, tuned=b.h5"])
    {'gan': PosixPath('runs/gan.h5'), 'flow, tuned': PosixPath('b.h5')}
    """
    found: dict[str, Path] = {}
    for text in generated:
        name, equals, rest = text.partition("=")
        path = Path(rest) if equals and not Path(text).exists() else Path(text)
        name = name.strip() if path != Path(text) else path.name.removesuffix(".gz").rsplit(".", 1)[0]
        if not name.isprintable() or not name or not path.name:
            raise ValueError(f"--generated {text!r}: expected FILE or NAME=FILE")
        if name in found:
            raise ValueError(
                f"--generated: {found[name]} and {path} are both named {name!r}; give names of their own with NAME=FILE"
            )
        found[name] = path
    if not found:
        raise ValueError("--generated is missing; at least one file of generated events is needed")
    return found


def parse_options(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of metrics from ``metric.option=value``.

    Raises:
        ValueError: another form, an unknown metric or option, or one that is given twice.

    >>> parse_options(["mmd.kernel=laplace"])
    {'mmd': {'kernel': 'laplace'}}
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        name, dot, option = (part.strip() for part in place.partition("."))
        if not (equals and dot and name and option):
            raise ValueError(f"--option {text!r}: expected metric.option=value")
        if name not in METRICS:
            raise ValueError(f"--option {text!r}: {unknown('metric', name, METRICS)}")
        if option in found.get(name, {}):
            raise ValueError(f"--option {name}.{option} is given twice")
        given = read_yaml(value, f"--option {text!r}")
        try:
            if isinstance(METRICS[name].options.get(option), float) and isinstance(given, str):
                given = float(given)  # 1e-3 is a text in YAML
            METRICS[name].check_options({option: given})
        except ValueError as error:
            raise ValueError(f"--option {text!r}: {error}") from None
        found.setdefault(name, {})[option] = given
    return found


def parse_bins(texts: Sequence[str]) -> dict[str, int | list[float]]:
    """Bins of conditions from ``condition=number`` or ``condition=edge,edge,...``.

    Raises:
        ValueError: another form, or a condition that is given twice.

    >>> parse_bins(["incident_energy=4", "beam_energy=50,100,2e2"])
    {'incident_energy': 4, 'beam_energy': [50.0, 100.0, 200.0]}
    """
    found: dict[str, int | list[float]] = {}
    for text in texts:
        name, _, values = (part.strip() for part in text.rpartition("="))
        try:
            wanted = [float(value) for value in values.split(",")]
        except ValueError:
            wanted = [math.nan]
        if not name or not all(map(math.isfinite, wanted)) or (len(wanted) == 1 and not wanted[0].is_integer()):
            raise ValueError(f"--bins {text!r}: expected CONDITION=NUMBER of bins or CONDITION=EDGE,EDGE,...")
        if name in found:
            raise ValueError(f"--bins {name} is given twice")
        found[name] = int(wanted[0]) if len(wanted) == 1 else wanted
    return found


def check_files(path: Path, truth: Dataset, other_path: Path, other: Dataset) -> None:
    """Refuse two files whose columns, units, conditions or pixels differ.

    Raises:
        ValueError: both files are named, with the difference.
    """
    check_alike(str(path), Columns(truth, "joint"), str(other_path), Columns(other, "joint"))
    check_alike(str(path), Columns(truth, "samples"), str(other_path), Columns(other, "samples"))
    kinds = [type(events).__name__ for events in (truth, other)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"kinds of events differ: {path} holds a {kinds[0]}; {other_path} a {kinds[1]}")


def outside(name: str, truth: Dataset, events: Dataset) -> list[str]:
    """How many events have a value beyond truth's range, and how many beyond a limit that a column has by definition.

    >>> from qgen.data.dataset import Feature
    >>> data = Dataset(torch.tensor([[0.0], [1.0]]), (Feature("x"),))
    >>> outside("gan", data, data.with_samples(torch.tensor([[0.5], [2.0]])))
    ["gan: 1 of 2 events (50 %) beyond truth's range, most often in x (1)"]
    """
    lines = []
    features = (*truth.features, *truth.condition_features)
    ranges = torch.cat([torch.stack(x.aminmax(dim=0)) for x in (truth.samples, truth.conditions)], 1)
    endless = (-math.inf, math.inf)
    limits = torch.tensor([f.limits or endless for f in features], dtype=torch.float64).T
    for what, (low, high) in (("truth's range", ranges), ("the limits of columns", limits)):
        inside = torch.ones(len(events), dtype=torch.bool)
        counts = []
        for column, a, b in zip(_columns(events), low, high, strict=True):
            here = (column >= a) & (column <= b)
            counts.append(len(events) - int(here.sum()))
            inside &= here
        if n := len(events) - int(inside.sum()):
            worst = max(range(len(counts)), key=counts.__getitem__)
            percent = 100 * n / len(events)
            share = f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
            unit = "; is it the same quantity, in the same unit?" if counts[worst] == len(events) else ""
            lines.append(
                f"{name}: {n} of {len(events)} events ({share} %) beyond {what}, "
                f"most often in {features[worst].name} ({counts[worst]}){unit}"
            )
    return lines


def _columns(events: Dataset) -> list[Tensor]:
    return [*events.samples.unbind(1), *events.conditions.unbind(1)]
